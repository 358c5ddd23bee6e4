"""The pages for people: one to drop a picture on, and the description of all addresses.

Neither asks anything of another server.
"""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Files of a richer page, where they are installed.
PAGE_FOLDER = Path(__file__).parent / "page"

POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { overflow-x: auto; padding: .5rem; border: 1px solid }
"""


def upload_page() -> str:
    """Return the page to drop a picture on."""
    return Path(__file__).with_name("upload.html").read_text(encoding="utf-8")


def docs_page(document: dict[str, Any]) -> str:
    """Return an OpenAPI document as a page."""
    info = document["info"]
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(info["title"])}</title>
<style>{_STYLE}</style>
<h1>{html.escape(info["title"])} {html.escape(info["version"])}</h1>
<p>{html.escape(info["description"])}
The same for programs: <a href="openapi.json">openapi.json</a>.</p>
{"".join(_operations(document["paths"]))}
<h2>Schemas</h2>
{"".join(_details(name, schema) for name, schema in document["components"]["schemas"].items())}
"""


def _operations(paths: dict[str, Any]) -> Iterator[str]:
    for path, item in paths.items():
        for method in ("get", "post"):
            if operation := item.get(method):
                yield f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>\n"
                yield f"<p><b>{html.escape(operation['summary'])}.</b> "
                yield f"{html.escape(operation.get('description', ''))}</p>\n"
                for part in ("parameters", "requestBody", "responses"):
                    if part in operation:
                        yield _details(part, operation[part])


def _details(name: str, values: Any) -> str:
    text = html.escape(json.dumps(values, indent=2, ensure_ascii=False))
    return f"<details><summary>{html.escape(name)}</summary><pre>{text}</pre></details>\n"
