"""URLs in the place of paths."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from fic.data import remote
from fic.data.remote import RemotePath, location, redacted
from fic.data.source import read_dataset
from fic.errors import DataError
from tests.fic.object_store import ObjectStore, patience, running_object_store

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("s3") / "log.txt") as store:
        yield store


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(remote, "_OTHER_ETAGS", set())
    server.reset()
    return server


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://bucket/photos/a b?.jpg", "s3://bucket/photos/a b?.jpg"),
        ("https://ada:pass@host/1.jpg", "https://***@host/1.jpg"),
        ("s3://key:secret@bucket/1.jpg", "s3://***@bucket/1.jpg"),
        (
            "https://b.s3.amazonaws.com/1.jpg?X-Amz-Credential=AK%2F1&X-Amz-Signature=af01&v=2",
            "https://b.s3.amazonaws.com/1.jpg?X-Amz-Credential=***&X-Amz-Signature=***&v=2",
        ),
        ("https://h/1.jpg?sv=2024&sig=abc", "https://h/1.jpg?sv=2024&sig=***"),
        ("https://h/i?id=1234", "https://h/i?id=1234"),
        (f"https://h/i?{'x' * 30}", "https://h/i?***"),
    ],
)
def test_a_url_is_shown_without_its_credentials(url: str, text: str) -> None:
    path = RemotePath(url)
    assert redacted(url) == text == str(path) == f"{path}"
    assert url == text or url not in repr(path)
    assert pickle.loads(pickle.dumps(path)).url == url


def test_a_url_goes_where_a_path_goes() -> None:
    path = RemotePath("s3://bucket/photos/roses/1.JPG")
    assert (path.name, path.suffix) == ("1.JPG", ".JPG")
    assert str(path.parent / "2.jpg") == "s3://bucket/photos/roses/2.jpg"
    assert path.is_relative_to(RemotePath("s3://bucket/photos"))
    assert not path.is_relative_to(RemotePath("s3://bucket/pho"))
    assert path.absolute() is path
    assert path in {RemotePath(path.url)}
    # What a path would fold is kept: to an object store these are two objects.
    assert RemotePath("s3://b/x//1.jpg") != RemotePath("s3://b/x/1.jpg")
    assert sorted([path, Path("/a")])


def test_a_run_keeps_urls_and_no_credentials(tmp_path: Path) -> None:
    from dataclasses import asdict

    from fic.bases.frozen import is_cache
    from fic.data import Source
    from fic.runs.recorded_options import checked_values

    source = Source(data="https://ada:pass@host/list.csv?sig=abc")
    recorded = {**asdict(source.absolute()), "data": str(source.data)}
    assert recorded["data"] == "https://***@host/list.csv?sig=***"
    assert isinstance(checked_values(Source, recorded)["data"], RemotePath)
    assert not is_cache(location("s3://stranger/cache"))  # and no server was asked


def test_only_a_url_is_taken_for_one() -> None:
    assert isinstance(location("gs://bucket/photos"), RemotePath)
    for text in ("photos", "C:/photos", "/photos", "a:b"):
        assert not isinstance(location(text), RemotePath)


def test_what_a_protocol_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match=r"nosuch://x/.*protocol"):
        RemotePath("nosuch://x/y").read_bytes()


@pytest.mark.parametrize("url", ["s3://", "https:///1.jpg"])
def test_a_url_without_a_bucket_or_host_is_refused(url: str) -> None:
    with pytest.raises(DataError, match="names no bucket or host"):
        read_dataset(location(url))


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(DataError, match=r'pip install "fast-image-classification\[remote\]"'):
        RemotePath("s3://without-fsspec/y").read_bytes()


def test_a_folder_is_read_by_the_rules_of_folders_on_disk(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    _, picture = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    for name in (
        *("set/roses/1.png", "set/roses/deep/2.PNG", "set/roses/notes.txt", "set/roses/.x/3.png"),
        *("set/Ro\u0301za/1.png", "set/.hidden/1.png", "set/__MACOSX/1.png", "set/loose.png"),
    ):
        content = b"text" if name.endswith("txt") else picture.tobytes()
        files.pipe_file(f"/{name}", content)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    there, here = read_dataset(location("memory://set")), read_dataset(tmp_path / "set")
    assert there.labels == here.labels == ("R\u00f3za", "roses")
    assert there.targets == here.targets
    assert [each.kind for each in there.files.left_out] == [".txt"]
    assert [path.url.removeprefix("memory://") for path in there.paths] == [
        f"/{path.relative_to(tmp_path)}" for path in here.paths
    ]


def test_a_bucket_that_is_split_already_is_not_taken_for_two_classes() -> None:
    fsspec = pytest.importorskip("fsspec")
    for name in ("train/roses/1.png", "train/lilies/2.png", "val/roses/3.png"):
        fsspec.filesystem("memory").pipe_file(f"/split/{name}", b"picture")
    with pytest.raises(DataError, match=r"already split into train and val; .*--val memory://"):
        read_dataset(location("memory://split"))


@pytest.mark.parametrize(
    ("kind", "times"), [("500", 3), ("slow", 1), ("cut", 2), ("short", 2), ("etag", 0)]
)
def test_a_server_that_fails_for_a_moment_is_asked_again(
    store: ObjectStore, kind: str, times: int
) -> None:
    path = RemotePath("s3://photos/one.bin")
    remote.file_system(path.url).pipe_file(path.url, CONTENT)
    assert path.version.size == len(CONTENT)
    store.break_next("GET", "one.bin", kind, times)
    with patience(3 if kind == "slow" else 60):
        assert path.read_bytes() == CONTENT
    asked = store.count("GET /photos/one.bin")
    # A busy machine may be too slow once more.
    assert asked >= 1 + times if kind == "slow" else asked == 1 + times


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("500", "5 attempts"),
        ("slow", "no answer within 0.2 s, 5 attempts"),
        ("cut", "5 attempts"),
        ("short", "5120 bytes came where the server says 10240, 5 attempts"),
    ],
)
def test_a_server_that_goes_on_failing_gives_one_sentence(
    store: ObjectStore, kind: str, says: str
) -> None:
    path = RemotePath("s3://photos/two.bin")
    remote.file_system(path.url).pipe_file(path.url, CONTENT)
    assert path.version.size == len(CONTENT)
    store.break_next("GET", "two.bin", kind, 99)
    with patience(0.2 if kind == "slow" else 60), pytest.raises(OSError, match=says) as caught:
        path.read_bytes()
    assert "\n" not in str(caught.value)
    assert store.count("GET /photos/two.bin") >= 5


def test_a_wrong_etag_is_told_and_what_comes_twice_is_taken(
    store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = RemotePath("s3://photos/three.bin")
    remote.file_system(path.url).pipe_file(path.url, CONTENT)
    store.break_next("HEAD", "three.bin", "etag", 99)
    assert path.version.etag == "0123456789abcdef0123456789abcdef"
    assert path.read_bytes() == CONTENT
    assert "its ETag is not that of its content" in caplog.text
    assert store.count("GET /photos/three.bin") == 2


def test_a_missing_object_is_not_asked_for_again(store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        RemotePath("s3://photos/none.bin").read_bytes()
    assert store.count("GET /photos/none.bin") == 1
