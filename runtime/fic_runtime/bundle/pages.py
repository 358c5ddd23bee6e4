"""Web pages that answer: a bundle and the engine of `fic-runtime-web` in one file, or in a folder.

The engine and the page come from the package `fic-runtime-html`, the extra `html`.
"""

import base64
import gzip
import hashlib
import html
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from ..errors import BundleError, FicError, OutputError
from ..results import (
    cannot_write,
    check_own_file,
    check_replaceable,
    check_writable,
    replacing_folder,
    whole_file,
)
from . import TEACHING_FILE, Bundle, open_bundle
from .head_only import check_has_base
from .manifest import MANIFEST_FILE

_ASSETS = "fic_runtime_html"
_WASM = "ort-wasm-simd-threaded.wasm"
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip archive can hold; the same bundle, the same page
_LABELS_IN_TITLE = 6
_BUNDLE = "bundle.zip"
_PAGE = "index.html"
_HEADERS = "_headers"
_SITE = frozenset({_PAGE, "page.css", "page.js", "worker.js", _WASM, _BUNDLE, _HEADERS})
_OF_A_PAGE = b'<script type="application/octet-stream" id="bundle">'
# What the browser may do: run these scripts, and show pictures that the page itself made.
_NOTHING_ELSE = {
    "default-src": "'none'",
    "img-src": "blob: data:",
    "media-src": "blob: mediastream:",
    "base-uri": "'none'",
    "form-action": "'none'",
}


def write_page(
    bundle: str | os.PathLike[str],
    out: Path,
    *,
    title: str | None = None,
    public_key: Path | None = None,
) -> int:
    """Write one HTML file that classifies pictures in a browser, without a network.

    Args:
        bundle: the folder or archive; what the page does not need of it is left out.
        out: the file, which is replaced.
        title: of the page; by default the labels as a question.
        public_key: a PEM file; the bundle must have been signed with its key.

    Returns:
        The size of the file in bytes.

    Raises:
        BundleError: the bundle cannot be used, or is a head only.
        FicError: the package fic-runtime-html is not installed.
        OutputError: the file cannot be written.
    """
    check_page(out)
    opened = _opened(bundle, public_key)
    script, style = _asset("page.js").decode(), _asset("page.css").decode()
    blocks = {
        "worker": gzip.compress(_asset("worker.js"), mtime=0),
        "wasm": _asset(f"{_WASM}.gz"),
        "bundle": _packed(opened),
    }
    data = "\n".join(
        f'<script type="application/octet-stream" id="{name}">{base64.b64encode(block).decode()}'
        "</script>"
        for name, block in blocks.items()
    )
    policy = {
        "script-src": f"{_source(script)} 'wasm-unsafe-eval' blob:",
        "style-src": _source(style),
        "worker-src": "blob:",
        **_NOTHING_ELSE,
    }
    page = _filled(
        opened.manifest.labels,
        policy,
        title=title,
        style=f"<style>{style}</style>",
        scripts=f'{data}\n<script type="module">{script}</script>',
    )
    return _write_file(out, page.encode())


def write_site(
    bundle: str | os.PathLike[str],
    folder: Path,
    *,
    title: str | None = None,
    public_key: Path | None = None,
) -> int:
    """Write the same as a folder for a static host, with a strict Content-Security-Policy.

    The policy is in the page, and in `_headers` for hosts that read it. An earlier folder is
    replaced.

    Returns:
        The size of all files in bytes.

    Raises:
        BundleError: the bundle cannot be used, or is a head only.
        FicError: the package fic-runtime-html is not installed.
        OutputError: the folder holds something else, or cannot be written.
    """
    check_site(folder)
    opened = _opened(bundle, public_key)
    policy = {
        "script-src": "'self' 'wasm-unsafe-eval'",
        "style-src": "'self'",
        "worker-src": "'self'",
        "connect-src": "'self'",
        **_NOTHING_ELSE,
    }
    page = _filled(
        opened.manifest.labels,
        policy,
        title=title,
        style='<link rel="stylesheet" href="page.css" />',
        scripts='<script type="module" src="page.js"></script>',
        attributes=f'data-bundle="{_BUNDLE}" data-worker="worker.js" data-wasm="{_WASM}"',
    )
    headers = {
        "Content-Security-Policy": f"{_text_of(policy)}; frame-ancestors 'none'",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    contents = {
        _PAGE: page.encode(),
        "page.css": _asset("page.css"),
        "page.js": _asset("page.js"),
        "worker.js": _asset("worker.js"),
        _WASM: gzip.decompress(_asset(f"{_WASM}.gz")),
        _BUNDLE: _packed(opened),
        _HEADERS: "".join(
            ["/*\n", *(f"  {name}: {value}\n" for name, value in headers.items())]
        ).encode(),
    }
    _write_folder(folder, contents)
    return sum(map(len, contents.values()))


def question_of(labels: Sequence[str]) -> str:
    """Return a title: which of the labels is it?"""
    if len(labels) > _LABELS_IN_TITLE:
        return f"Which of {len(labels)} classes?"
    *others, last = labels
    return f"{', '.join(others)} or {last}?" if others else f"{last}?"


def check_installed() -> None:
    """Make sure that pages can be written, before anything that takes its time.

    Raises:
        FicError: the package fic-runtime-html is not installed.
    """
    _asset("page.html")


def check_page(out: Path) -> None:
    """Make sure that a page may be written at `out`.

    Raises:
        OutputError: a file is there that is not such a page, or it cannot be written.
    """
    check_own_file(out, lambda path: _OF_A_PAGE in path.read_bytes(), kind="a page")
    check_writable(out)


def check_site(folder: Path) -> None:
    """Make sure that the files of a page may be written to `folder`.

    Raises:
        OutputError: it holds something else, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _HEADERS).is_file():
        raise OutputError(f"{folder}: holds something other than such a page; give a new folder")
    check_replaceable(folder, mark=_WASM, names=_SITE)
    check_writable(folder)


def _asset(name: str) -> bytes:
    # Not an import: the runtime works without this package.
    try:
        return files(_ASSETS).joinpath("built", name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise FicError(
            "web pages need the package fic-runtime-html, which is not installed here; "
            "say pip install 'fic-runtime[html]'"
        ) from error


def _opened(bundle: str | os.PathLike[str], public_key: Path | None) -> Bundle:
    opened = open_bundle(bundle, public_key=public_key)
    check_has_base(opened)
    if any(opened.weights.values()):
        raise BundleError(
            f"{opened.files.path('')}: its weights are in files of their own, as those of more "
            "than 2 GB are, which no page can hold; export a smaller base"
        )
    return opened


def _packed(bundle: Bundle) -> bytes:
    """Return an archive with what a page needs, the same bytes for the same bundle."""
    manifest = bundle.manifest
    dropped = {TEACHING_FILE, manifest.single_graph.get("file")}
    kept = {name: digest for name, digest in manifest.files.items() if name not in dropped}
    text = replace(manifest, files=kept, single_graph={}).to_json()
    contents = {MANIFEST_FILE: text.encode()}
    contents |= {name: bundle.files.read(name) for name in sorted(kept)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return packed.getvalue()


def _filled(
    labels: Sequence[str],
    policy: Mapping[str, str],
    *,
    title: str | None,
    style: str,
    scripts: str,
    attributes: str = "",
) -> str:
    values = {
        "title": html.escape(title or question_of(labels)),
        "policy": html.escape(_text_of(policy)),
        "style": style,
        "scripts": scripts,
        "attributes": f'data-labels="{len(labels)}" {attributes}'.rstrip(),
    }
    # Piece by piece: a value may hold braces of its own.
    first, *parts = _asset("page.html").decode().split("{{")
    for part in parts:
        name, rest = part.split("}}", 1)
        first += values[name] + rest
    return first


def _text_of(policy: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in policy.items())


def _source(inline: str) -> str:
    """Return how a policy names a script or style within the page."""
    digest = hashlib.sha256(inline.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _write_file(out: Path, content: bytes) -> int:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as file:
            file.write_bytes(content)
    except OSError as error:
        raise cannot_write(out, error) from error
    return len(content)


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    try:
        with replacing_folder(folder, mark=_WASM, names=_SITE) as fresh:
            for name, content in contents.items():
                (fresh / name).write_bytes(content)
    except OSError as error:
        raise cannot_write(folder, error) from error
