"""Chromium, Node, the built page and bundles; each test skips where one of them is missing."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fic_runtime.bundle.pages import write_page, write_site

ROOT = Path(__file__).parents[2]
WEB = ROOT / "runtime/web"
DATA = ROOT / "tests/data"
_REMEDY = "run `make test-web`"


@pytest.fixture(scope="session")
def node() -> Callable[..., Any]:
    """Return a function that runs the body of a module in Node and returns its `result`."""
    program = shutil.which("node")
    if program is None or not (WEB / "node_modules").is_dir():
        pytest.skip(f"needs Node.js and the packages of runtime/web; {_REMEDY}")

    def run(body: str, **values: Any) -> Any:
        script = f"""
            import {{ readFileSync }} from "node:fs";
            const given = JSON.parse(readFileSync(0, "utf-8"));
            let result;
            {body}
            console.log(JSON.stringify(result));
        """
        done = subprocess.run(
            [program, "--input-type=module", "-e", script],
            input=json.dumps(values, default=str),
            cwd=WEB,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def built() -> Path:
    """Return the folder of built scripts."""
    if not (WEB / "dist/worker.js").is_file():
        pytest.skip(f"needs runtime/web/dist; {_REMEDY}")
    return WEB / "dist"


@pytest.fixture(scope="session")
def make_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Return a function that starts Chromium with further flags."""
    pytest.importorskip("selenium", reason=f"needs Selenium; {_REMEDY}")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip(f"needs Chromium and chromedriver; {_REMEDY}")
    from .browser import Browser

    started = []

    def start(*flags: str) -> Browser:
        started.append(Browser(tmp_path_factory.mktemp("profile"), chromium, driver, flags))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(scope="session")
def browser(make_browser: Callable[..., Any]) -> Any:
    """Return a Chromium that the tests share."""
    return make_browser()


@pytest.fixture(scope="session")
def page_parts(built: Path) -> None:
    """Let pages be written from what was built, whether or not the package is installed."""
    package = ROOT / "runtime/html"
    if not (package / "fic_runtime_html/built/page.html").is_file():
        pytest.skip(f"needs the page of runtime/html; {_REMEDY}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        import fic_runtime_html  # noqa: F401 # found here from now on


@pytest.fixture(scope="session")
def explaining() -> Path:
    """Return a bundle of three colors with a feature map; its pictures are 32 x 40."""
    return DATA / "explaining-bundle"


@pytest.fixture(scope="session")
def cautious(explaining: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same with a score: what is not nearly of one color is unknown."""
    bundle = Path(shutil.copytree(explaining, tmp_path_factory.mktemp("cautious") / "bundle"))
    file = bundle / "manifest.json"
    values = json.loads(file.read_text("utf-8"))
    values["known"] = {
        "method": "maximum_probability", "threshold": 0.1, "file": None, "false_rejection": 0.05
    }  # fmt: skip
    file.write_text(json.dumps(values), encoding="utf-8")
    return bundle


@pytest.fixture(scope="session")
def page(cautious: Path, page_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a bundle, one file."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_page(cautious, file)
    return file


class _Quiet(SimpleHTTPRequestHandler):
    """As a static host that reads `_headers` does."""

    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        headers = Path(self.directory, "_headers")
        if headers.is_file():
            for line in headers.read_text("utf-8").splitlines()[1:]:
                name, value = line.strip().split(": ", 1)
                self.send_header(name, value)
        super().end_headers()


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """Return a function that serves a folder and returns its address."""
    servers = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def site(
    cautious: Path,
    page_parts: None,
    tmp_path_factory: pytest.TempPathFactory,
    serve: Callable[[Path], str],
) -> str:
    """Return the address where the folder of a bundle is served."""
    folder = tmp_path_factory.mktemp("site") / "site"
    write_site(cautious, folder)
    return serve(folder)
