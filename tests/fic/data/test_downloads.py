import contextlib
import errno
import hashlib
import http.server
import io
import os
import socket
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fic.data import downloads
from fic.data.downloads import DATASETS, DataSource, download, fetch_dataset
from fic.errors import DataError, DownloadError
from fic.progress import Silence

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A server on this machine, and what it was asked."""

    content: bytes = CONTENT
    ranges: bool = True
    etag: str = '"1"'
    status: int | None = None
    cut_after: list[int] = field(default_factory=list)  # bytes of each answer, before it is cut
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted, condition = self.headers["Range"], self.headers["If-Range"]
            site.asked.append((wanted, condition))
            if site.status is not None:
                self.send_error(site.status)
                return
            start = 0
            if wanted and site.ranges and condition in (None, site.etag):
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(site.content):
                    self.send_error(416)
                    return
            body = site.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(site.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(site.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", site.etag)
            self.end_headers()
            self.wfile.write(body[: site.cut_after.pop(0)] if site.cut_after else body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing when the client hangs up, as some tests have it do."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(site: Site, path: Path, sha256: str = SHA256, attempts: int = 4) -> Path:
    return download(
        site.url, path, sha256=sha256, size=len(CONTENT), attempts=attempts, pause=0.001
    )


def test_a_file_is_downloaded_and_nothing_else_is_left(site: Site, tmp_path: Path) -> None:
    path = fetch(site, tmp_path / "new" / "file.bin")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_there_is_not_asked_for(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    fetch(site, tmp_path / "file.bin")
    assert site.asked == []


def test_a_file_with_another_content_is_replaced(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"old")
    assert fetch(site, tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_cut_download_resumes_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000, 200_000]
    assert fetch(site, tmp_path / "file.bin").read_bytes() == CONTENT
    assert site.asked == [(None, None), ("bytes=300000-", '"1"'), ("bytes=500000-", '"1"')]


def test_progress_does_not_use_up_the_attempts(site: Site, tmp_path: Path) -> None:
    site.cut_after = [100_000] * 8
    assert fetch(site, tmp_path / "file.bin", attempts=2).read_bytes() == CONTENT


def test_another_call_resumes_where_the_first_stopped(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000]
    with pytest.raises(DownloadError, match="the connection was cut after 300000 of 1048576 bytes"):
        fetch(site, tmp_path / "file.bin", attempts=1)
    assert fetch(site, tmp_path / "file.bin").read_bytes() == CONTENT
    assert site.asked[-1] == ("bytes=300000-", '"1"')


def test_a_server_that_cannot_resume_sends_all_again(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.cut_after = [300_000]
    assert fetch(site, tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old(
    site: Site, tmp_path: Path
) -> None:
    site.content, site.etag, site.cut_after = b"x" * len(CONTENT), '"old"', [300_000]
    with pytest.raises(DownloadError):
        fetch(site, tmp_path / "file.bin", attempts=1)
    site.content, site.etag = CONTENT, '"new"'
    assert fetch(site, tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_weak_tag_is_not_used_to_resume(site: Site, tmp_path: Path) -> None:
    site.etag, site.cut_after = 'W/"1"', [300_000]
    assert fetch(site, tmp_path / "file.bin").read_bytes() == CONTENT
    assert site.asked[-1] == ("bytes=300000-", None)


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_cannot_be_a_beginning_is_dropped(
    site: Site, tmp_path: Path, length: int
) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * length)
    path = tmp_path / "file.bin"
    download(site.url, path, sha256=SHA256, pause=0.001)  # of unknown size: the server says 416
    assert path.read_bytes() == CONTENT


def test_a_wrong_checksum_is_said_and_nothing_is_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"SHA-256 {SHA256} instead of 00ff and was deleted"):
        fetch(site, tmp_path / "file.bin", sha256="00ff")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_said_at_once(site: Site, tmp_path: Path) -> None:
    site.status = 404
    with pytest.raises(DownloadError, match=r"the server answers 404 Not Found; check the address"):
        fetch(site, tmp_path / "file.bin")
    assert len(site.asked) == 1


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.status = 503
    with pytest.raises(DownloadError, match="503 Service Unavailable; check the network"):
        fetch(site, tmp_path / "file.bin", attempts=3)
    assert len(site.asked) == 3


def test_offline_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.bin"
        with pytest.raises(DownloadError) as caught:
            download(url, tmp_path / "file.bin", sha256=SHA256, pause=0.001)
    path = tmp_path / "file.bin"
    assert str(caught.value) == (
        f"{url}: cannot be downloaded: Connection refused; check the network and run again, "
        f"or put the file at {path} yourself"
    )


def test_a_server_that_says_nothing_does_not_hang(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(DownloadError, match="no answer in time"):
            download(url, tmp_path / "f", sha256=SHA256, timeout=0.05, attempts=2, pause=0.001)


def test_a_full_disk_is_one_sentence_and_keeps_what_was_received(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(response: object, part: object, progress: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    site.cut_after = [300_000]
    with pytest.raises(DownloadError):
        fetch(site, tmp_path / "file.bin", attempts=1)
    monkeypatch.setattr(downloads, "_append", full)
    with pytest.raises(DownloadError, match="cannot be written: No space left on device"):
        fetch(site, tmp_path / "file.bin")
    assert (tmp_path / "file.bin.part").stat().st_size == 300_000


class Heard(Silence):
    def __init__(self) -> None:
        self.total = 0
        self.received = 0

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        self.total, self.received = total, done

    def advance(self, count: int, skipped: int = 0) -> None:
        self.received += count


def test_progress_counts_the_bytes_of_the_whole_file(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000]
    heard = Heard()
    download(site.url, tmp_path / "f", sha256=SHA256, progress=heard, pause=0.001)
    assert (heard.received, heard.total) == (len(CONTENT), len(CONTENT))


def archive_of(*members: tuple[str, bytes | tarfile.TarInfo]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                archive.addfile(content)
    return stream.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def offer(site: Site, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    site.content = content
    source = DataSource(
        url=site.url,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        root="photos",
    )
    monkeypatch.setitem(DATASETS, "small", source)


def test_a_data_set_is_unpacked_and_the_archive_deleted(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(site, monkeypatch, archive_of(("photos/a/1.jpg", b"1"), ("photos/LICENSE.txt", b"by")))
    folder = fetch_dataset("small", tmp_path / "new")
    assert folder == tmp_path / "new" / "small"
    assert (folder / "a" / "1.jpg").read_bytes() == b"1"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_data_set_that_is_there_is_not_fetched_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(site, monkeypatch, archive_of(("photos/a/1.jpg", b"1")))
    fetch_dataset("small", tmp_path)
    fetch_dataset("small", tmp_path)
    assert len(site.asked) == 1


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "photos/../../evil.txt"])
def test_an_archive_that_leads_outside_is_refused_whole(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    offer(site, monkeypatch, archive_of(("photos/a/1.jpg", b"1"), (name, b"evil")))
    with pytest.raises(DownloadError, match="would be written outside its folder"):
        fetch_dataset("small", tmp_path / "in")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["small.tgz"]
    assert not (tmp_path / "evil.txt").exists()


def test_links_in_an_archive_are_left_out(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way_out = link("photos/out", str(tmp_path))
    content = archive_of(
        ("photos/a/1.jpg", b"1"), ("photos/out", way_out), ("photos/out/evil.txt", b"evil")
    )
    offer(site, monkeypatch, content)
    folder = fetch_dataset("small", tmp_path / "in")
    assert (folder / "out" / "evil.txt").read_bytes() == b"evil"
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an archive", "cannot be unpacked"),
        (archive_of(("photos/a/1.jpg", CONTENT))[:1500], "cannot be unpacked"),
        (archive_of(("pictures/a/1.jpg", b"1")), "holds no folder photos"),
    ],
)
def test_an_archive_that_cannot_be_used_leaves_no_half_data_set(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    offer(site, monkeypatch, content)
    with pytest.raises(DownloadError, match=message):
        fetch_dataset("small", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["small.tgz"]


def test_an_unknown_data_set_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set is called 'flower'; choose from flowers"):
        fetch_dataset("flower", tmp_path)


def test_the_flowers_are_pinned() -> None:
    flowers = DATASETS["flowers"]
    assert flowers.url.startswith("https://")
    assert len(flowers.sha256) == 64


# --- servers that do what they should not ---------------------------------------------------------


@contextmanager
def answering(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Give the address of a server with this answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/file.bin"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(bytes(1 << 16))


def states(length: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(CONTENT)

    return answer


def leads_to(address: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.end_headers()
        for _ in range(10_000):  # a body without an end
            handler.wfile.write(bytes(1 << 16))

    return answer


def get(url: str, path: Path) -> Path:
    return download(url, path, sha256=SHA256, size=len(CONTENT), attempts=1, timeout=5.0)


@pytest.mark.parametrize("answer", [endless, states(str(len(CONTENT) + 1)), states("9" * 18)])
def test_no_more_is_kept_than_the_file_has(
    tmp_path: Path, answer: Callable[[http.server.BaseHTTPRequestHandler], None]
) -> None:
    with (
        answering(answer) as url,
        pytest.raises(DownloadError, match="sends more than the 1048576 bytes"),
    ):
        get(url, tmp_path / "file.bin")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(CONTENT)


@pytest.mark.parametrize("length", ["abc", "-5", "\u0663", "9" * 5000, ""])
def test_a_length_that_is_none_counts_as_none(tmp_path: Path, length: str) -> None:
    with (
        answering(states(length.encode().decode("latin-1"))) as url,
        contextlib.suppress(DownloadError),  # http.client itself takes some for an error
    ):
        assert get(url, tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "address",
    ["ftp://127.0.0.1/file", "file:///etc/passwd", "data:,x", "gopher://x", "http://[", ""],
)
def test_a_redirect_to_anything_but_the_web_is_refused(tmp_path: Path, address: str) -> None:
    with answering(leads_to(address)) as url, pytest.raises(DownloadError):
        get(url, tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize(
    ("address", "target", "allowed"),
    [
        ("https://a/x", "http://a/x", False),
        ("https://a/x", "HTTP://a/x", False),
        ("https://a/x", "ftp://a/x", False),
        ("https://a/x", "https://b/x", True),
        ("http://a/x", "http://b/x", True),
        ("http://a/x", "https://b/x", True),
        ("http://a/x", "ftp://b/x", False),
    ],
)
def test_https_never_goes_to_http(address: str, target: str, allowed: bool) -> None:
    follow = downloads._SameProtocol().redirect_request
    request = urllib.request.Request(address)
    if allowed:
        assert follow(request, io.BytesIO(), 302, "", {}, target) is not None
        return
    with pytest.raises(downloads._RefusedRedirectError):
        follow(request, io.BytesIO(), 302, "", {}, target)


@pytest.mark.parametrize("name", ["file.bin.part", "file.bin.part.etag"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_part_is_not_written_through_a_link(
    site: Site, tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / "thesis").write_text("precious")
    if kind == "link":
        (tmp_path / name).symlink_to(tmp_path / "thesis")
    else:
        os.mkfifo(tmp_path / name)
    with pytest.raises(DownloadError, match=f"{name} beside it is no plain file"):
        fetch(site, tmp_path / "file.bin")
    assert (tmp_path / "thesis").read_text() == "precious"


def test_an_archive_of_the_users_own_stays(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(site, monkeypatch, archive_of(("photos/a/1.jpg", b"1")))
    (tmp_path / "small.tgz").write_bytes(site.content)
    fetch_dataset("small", tmp_path)
    assert site.asked == []
    assert (tmp_path / "small.tgz").read_bytes() == site.content
