"""Pictures in object storage: each is read once, and gives what it gives on the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fic.bases.frozen import FrozenBase
from fic.bottlenecks import fill_cache
from fic.cache import BottleneckCache
from fic.data import Source, remote
from fic.data.remote import RemotePath
from fic.errors import DataError
from fic.options import BaseOptions, CacheOptions
from tests.fic.object_store import PASSWORD, ObjectStore, running_object_store

PHOTOS = RemotePath("s3://photos/set")


def put(folder: Path, url: str) -> None:
    files = remote.file_system(url)
    for path in folder.rglob("*.*"):
        name = f"{url}/{path.relative_to(folder)}"
        files.pipe_file(name, path.read_bytes(), ACL="public-read")


def contents(cache: CacheOptions, base: BaseOptions) -> dict[bytes, bytes]:
    """Return the rows of a cache by their keys."""
    fingerprint = FrozenBase(base, cache.bottleneck_dir).fingerprint
    with BottleneckCache(cache.bottleneck_dir, fingerprint) as opened:
        keys = np.unique(opened.keys())
        rows = opened.read(opened.find(keys))
        return {key.tobytes(): row.tobytes() for key, row in zip(keys, rows, strict=True)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shared_photos: Path) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("s3") / "log.txt") as store:
        put(shared_photos, PHOTOS.url)
        yield store


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    server.reset()
    return server


def test_pictures_in_a_bucket_give_the_rows_of_the_disk_and_are_read_once(
    store: ObjectStore, shared_photos: Path, base: BaseOptions, empty: CacheOptions, tmp_path: Path
) -> None:
    local = CacheOptions(bottleneck_dir=tmp_path / "local", views=2)
    shutil.copytree(empty.bottleneck_dir, local.bottleneck_dir)
    fill_cache(Source(data=shared_photos), base=base, cache=local)
    there = CacheOptions(bottleneck_dir=empty.bottleneck_dir, views=2)
    use = fill_cache(Source(data=PHOTOS), base=base, cache=there)
    assert (use.extracted, use.hits, use.skipped) == (48, 0, ())
    assert contents(there, base) == contents(local, base)
    assert store.count("GET /photos/set/") == 24
    assert store.count("HEAD") == 0
    again = fill_cache(Source(data=PHOTOS), base=base, cache=there)
    assert (again.extracted, again.hits) == (0, 48)
    assert store.count("GET /photos/set/") == 24


def test_only_a_picture_whose_etag_is_new_is_read_again(
    store: ObjectStore, base: BaseOptions, empty: CacheOptions, shared_photos: Path
) -> None:
    url = "s3://photos/changing"
    put(shared_photos, url)
    fill_cache(Source(data=RemotePath(url)), base=base, cache=empty)
    changed = (shared_photos / "red/0.jpg").read_bytes() + b"\0"
    remote.file_system(url).pipe_file(f"{url}/blue/0.jpg", changed)
    store.reset()
    use = fill_cache(Source(data=RemotePath(url)), base=base, cache=empty)
    assert (use.extracted, use.hits) == (1, 23)
    assert store.count("GET /photos/changing/") == 1


def test_a_list_may_name_urls_and_a_part_of_the_pictures_may_be_taken(
    store: ObjectStore, base: BaseOptions, empty: CacheOptions, shared_photos: Path, tmp_path: Path
) -> None:
    lines = [
        f"{store.url}/photos/set/{path.relative_to(shared_photos)}?token=abc,{path.parent.name}"
        for path in sorted(shared_photos.rglob("*.*"))
    ]
    listed = tmp_path / "pictures.csv"
    listed.write_text("\n".join(["path,label", *lines, f"{store.url}/photos/none.jpg,red"]))
    uses = [
        fill_cache(Source(data=listed), base=base, cache=empty, shard=(part, 2)) for part in (1, 2)
    ]
    (skipped,) = uses[0].skipped
    assert sum(use.extracted for use in uses) == 24
    assert "photos/none.jpg: cannot be read" in skipped.reason
    assert "abc" not in "".join(map(str, uses))


def test_a_picture_that_never_comes_is_skipped_or_stops_everything(
    store: ObjectStore, base: BaseOptions, empty: CacheOptions, tmp_path: Path
) -> None:
    store.break_next("GET", "/set/red/1.png", "cut", 999)
    failing = CacheOptions(bottleneck_dir=tmp_path / "other", on_error="fail")
    shutil.copytree(empty.bottleneck_dir, failing.bottleneck_dir)
    use = fill_cache(Source(data=PHOTOS), base=base, cache=empty)
    assert use.extracted == 23
    (skipped,) = use.skipped
    assert str(skipped.path) == "s3://photos/set/red/1.png"
    assert "5 attempts" in skipped.reason
    assert PASSWORD not in skipped.reason
    with pytest.raises(DataError, match=r"red/1\.png: cannot be read"):
        fill_cache(Source(data=PHOTOS), base=base, cache=failing)
    # What it cost is that picture, once the server is well again.
    store.reset()
    assert fill_cache(Source(data=PHOTOS), base=base, cache=empty).extracted == 1


def test_what_is_no_picture_is_skipped_with_its_copies(
    store: ObjectStore, base: BaseOptions, empty: CacheOptions, shared_photos: Path
) -> None:
    url = "s3://photos/broken"
    put(shared_photos, url)
    for name in ("blue/x.jpg", "red/y.jpg"):
        remote.file_system(url).pipe_file(f"{url}/{name}", b"no picture")
    use = fill_cache(Source(data=RemotePath(url)), base=base, cache=empty)
    assert use.extracted == 24
    reasons = sorted(skipped.reason for skipped in use.skipped)
    assert [str(skipped.path)[len(url) :] for skipped in use.skipped] == [
        "/blue/x.jpg",
        "/red/y.jpg",
    ]
    assert "not a picture of a known format" in "".join(reasons)


@pytest.mark.parametrize("url", ["s3://nowhere/photos", "s3://photos/nothing"])
def test_a_bucket_or_folder_that_is_not_there_is_named(
    store: ObjectStore, base: BaseOptions, empty: CacheOptions, url: str
) -> None:
    with pytest.raises(DataError, match=rf"{url}: no such folder or bucket"):
        fill_cache(Source(data=RemotePath(url)), base=base, cache=empty)
