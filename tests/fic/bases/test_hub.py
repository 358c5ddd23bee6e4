"""Bases of the Hugging Face hub, against a local server that answers as the hub does."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fic.bases.hub import HubReference, hub_file
from fic.errors import BaseOptionError, FicError, WeightsError
from tests.fic.bases.pictures_to_vectors import conv_graph, saved

COMMIT = "c0ffee" * 6 + "c0de"
CONFIG = {
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "size": {"height": 32, "width": 32},
}


@dataclass
class Hub:
    """A server with one repository, `org/name`, of one commit on `main`.

    Attributes:
        files: content by path.
        url: where it listens.
        gated: whether files need a token.
        etag: what all files are called; by default their digests.
        cut_after: bytes after which a download breaks off, once for each entry.
        requests: method, path and range of all requests.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    gated: bool = False
    etag: str | None = None
    cut_after: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub = self.hub
        path = self.path.partition("?")[0]
        hub.requests.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._api(parts[2:])
            return
        repository, (_, revision, *rest) = "/".join(parts[:2]), parts[2:]
        name = "/".join(rest)
        if not self._may(repository, revision):
            return
        if name not in hub.files:
            self._error(404, "EntryNotFound")
            return
        self._file(hub.files[name], body=body)

    def _api(self, parts: list[str]) -> None:
        revision = parts[3] if len(parts) > 3 else "main"
        if self._may("/".join(parts[:2]), revision, gate=False):
            siblings = [{"rfilename": name} for name in sorted(self.hub.files)]
            answer = {"id": "org/name", "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _may(self, repository: str, revision: str, *, gate: bool = True) -> bool:
        if repository != "org/name":
            self._error(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._error(404, "RevisionNotFound")
        elif gate and self.hub.gated and self.headers.get("Authorization") != "Bearer secret":
            self._error(403, "GatedRepo")
        else:
            return True
        return False

    def _file(self, data: bytes, *, body: bool) -> None:
        etag = sha256(data).hexdigest() if self.hub.etag is None else self.hub.etag
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
        headers["Accept-Ranges"] = "bytes"
        wanted = self.headers.get("Range")
        status = 200
        if wanted is not None and body:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            status, data = 206, data[start:]
        self._send(status, data, headers, body=body)

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], *, body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body or self.command == "HEAD":
            return
        if self.hub.cut_after and len(data) > 1000:
            self.wfile.write(data[: self.hub.cut_after.pop()])
            self.close_connection = True
            return
        self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        if code == "EntryNotFound":
            headers["X-Repo-Commit"] = COMMIT
        self._send(status, b"{}", headers)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Give a hub with a graph, its weights and its config, and let its library ask that one."""
    settings = pytest.importorskip("huggingface_hub.constants")
    saved(
        conv_graph(),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="model.onnx_data",
        size_threshold=1000,
    )
    own = Hub(
        {
            "onnx/model.onnx": (tmp_path / "model.onnx").read_bytes(),
            "onnx/model.onnx_data": (tmp_path / "model.onnx_data").read_bytes(),
            "preprocessor_config.json": json.dumps(CONFIG).encode(),
            "README.md": b"A network.",
        }
    )
    handler = type("Handler", (_Handler,), {"hub": own})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        own.url = f"http://127.0.0.1:{server.server_port}"
        template = own.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in (
            ("ENDPOINT", own.url),
            ("HUGGINGFACE_CO_URL_TEMPLATE", template),
            ("HF_HUB_CACHE", str(tmp_path / "hub")),
            ("HF_HUB_OFFLINE", False),
        ):
            monkeypatch.setattr(settings, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield own
        server.shutdown()
        thread.join()


def test_a_repository_is_pinned_to_its_commit_and_found_with_weights_and_config(hub: Hub) -> None:
    file = hub_file("hf://org/name")
    assert file.base_model == f"hf://org/name@{COMMIT}:onnx/model.onnx"
    assert file.source == {"repository": "org/name", "revision": COMMIT, "file": "onnx/model.onnx"}
    assert (file.path.parent / "model.onnx_data").is_file()
    assert (file.folder / "preprocessor_config.json").is_file()


def test_a_pinned_base_that_is_here_asks_nothing(hub: Hub) -> None:
    pinned = hub_file("hf://org/name").base_model
    hub.requests.clear()
    assert hub_file(pinned).path.is_file()
    assert hub.requests == []


def test_a_download_that_was_cut_off_goes_on_where_it_ended(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    whole = hub.files["onnx/model.onnx_data"]
    hub.cut_after = [1200]
    file = hub_file("hf://org/name")
    assert (file.path.parent / "model.onnx_data").read_bytes() == whole
    assert [wanted for _, path, wanted in hub.requests if wanted] == ["bytes=1200-"]
    # One that breaks off again and again is an error in a sentence, and leaves nothing behind.
    hub.files["onnx/other.onnx"] = whole + b"more"
    hub.cut_after = [0] * 50
    with pytest.raises(WeightsError, match="could not be downloaded"):
        hub_file("hf://org/name:onnx/other.onnx")
    hub.cut_after = []
    assert hub_file("hf://org/name:onnx/other.onnx").path.read_bytes() == whole + b"more"


def test_what_is_here_is_used_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    online = hub_file("hf://org/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert hub_file("hf://org/name") == online
    assert hub.requests == []
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE forbids"):
        hub_file("hf://org/other")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hf://org/other", "no such repository, or a private one"),
        ("hf://org/name@v9", "has no revision v9"),
        ("hf://org/name:vision.onnx", r"has no vision\.onnx"),
    ],
)
def test_what_the_hub_does_not_have_is_said(reference: str, message: str, hub: Hub) -> None:
    with pytest.raises(WeightsError, match=message) as error:
        hub_file(reference)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("etag", ["../../../evil", "..\\evil", "/tmp/evil", "a/b", "a" * 200])
def test_a_hub_does_not_say_where_its_files_go(hub: Hub, etag: str, tmp_path: Path) -> None:
    hub.etag = etag
    with pytest.raises(WeightsError, match="which no hub does"):
        hub_file("hf://org/name")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("name", ["../../evil.onnx", "/tmp/evil.onnx", "a/../../evil.onnx"])
def test_names_in_a_repository_stay_in_the_cache(hub: Hub, name: str, tmp_path: Path) -> None:
    hub.files = {name: hub.files["onnx/model.onnx"]}
    with pytest.raises(WeightsError) as caught:
        hub_file("hf://org/name")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("file", ["preprocessor_config.json", "onnx/model.onnx_data"])
def test_a_file_past_all_measure_is_not_downloaded(
    hub: Hub, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "MOST_WEIGHTS" if file.endswith("data") else "MOST_CONFIG_BYTES"
    monkeypatch.setattr(f"fic.bases.hub.{limit}", 10)
    with pytest.raises(WeightsError, match=f"{file} has .* bytes, more than the 10"):
        hub_file("hf://org/name")
    assert not [each for each in hub.requests if each[0] == "GET" and each[1].endswith(file)]


def test_a_gated_repository_needs_a_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    with pytest.raises(WeightsError, match="is gated: accept its terms"):
        hub_file("hf://org/name")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert hub_file("hf://org/name").path.is_file()


def test_a_repository_without_a_graph_is_refused(hub: Hub) -> None:
    del hub.files["onnx/model.onnx"]
    with pytest.raises(WeightsError, match="holds no ONNX file"):
        hub_file("hf://org/name")
    for name in ("a.onnx", "b.onnx"):
        hub.files[name] = b""
    with pytest.raises(WeightsError, match=r"say which file with hf://org/name:PATH \(a.onnx, b"):
        hub_file("hf://org/name")


def test_a_hub_that_is_away_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    with pytest.raises(WeightsError, match=r"could not be downloaded|cannot be reached"):
        hub_file("hf://org/name")


def test_the_settings_of_the_hub_hold_on_the_command_line(
    hub: Hub, tmp_path: Path, photos: Path
) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
    arguments = ["extract", "--data", str(photos), "--base-model", "hf://org/name", "--json"]
    command = [sys.executable, "-m", "fic", *arguments]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["extracted"] == 24
    assert list((tmp_path / "home").rglob("model.onnx"))


@pytest.mark.parametrize(
    "text", ["hf://name", "hf://org/name@", "hf://org/name:model.bin", "hf://org/../name"]
)
def test_a_reference_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BaseOptionError):
        HubReference.parse(text)


def test_a_reference_is_read_and_written() -> None:
    for text in ("hf://org/name", "hf://org/na.me@v1", "hf://o/n@refs/pr/1:onnx/a.onnx"):
        assert str(HubReference.parse(text)) == text


def test_the_library_of_the_hub_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FicError, match=r"pip install \"fast-image-classification\[hub\]\""):
        hub_file("hf://org/name")
