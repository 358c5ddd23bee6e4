"""A cache in object storage."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.cache import compaction
from fic.cache.keys import make_keys
from fic.cache.maintenance import remove_entries
from fic.cache.remote import open_cache
from fic.data import remote
from fic.data.remote import RemotePath
from fic.digests import digest_bytes
from fic.errors import CacheError
from tests.fic.cache.conftest import FINGERPRINT
from tests.fic.object_store import ObjectStore, patience, running_object_store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("s3") / "log.txt") as store:
        yield store


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "first machine"))
    server.reset()
    return server


@pytest.fixture
def directory(request: pytest.FixtureRequest) -> RemotePath:
    return RemotePath(f"s3://cache/{request.node.name}")


def rows(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    keys = make_keys((digest_bytes(b"%d" % number), 0) for number in range(first, first + count))
    return keys, np.arange(first * 16, (first + count) * 16, dtype=np.float32).reshape(-1, 16)


def fill(directory: RemotePath, *firsts: int, count: int = 10) -> None:
    for first in firsts:
        with open_cache(directory, FINGERPRINT) as cache, cache.writer() as writer:
            writer.add(*rows(first, count))


def objects(directory: RemotePath) -> list[str]:
    files = remote.file_system(directory.url)
    return sorted(name for name in files.find(directory.url) if "shard-" in name)


def test_what_one_machine_puts_another_reads(
    store: ObjectStore, directory: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(directory, 0, 10)
    assert len(objects(directory)) == 2
    assert store.count("PUT") == 3  # with fingerprint.json: whole objects, each once
    assert store.count("DELETE") == store.count("POST") == 0
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "second machine"))
    keys, features = rows(0, 20)
    with open_cache(directory, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(keys)), features)
    store.reset()
    with open_cache(directory, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(keys)), features)
    assert store.count("GET /cache/test") == 0  # the copy is at hand


def test_the_local_copy_is_bounded_and_what_is_gone_is_fetched_again(
    store: ObjectStore, directory: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_REMOTE_CACHE_GB", "2e-4")
    fill(directory, *range(0, 5000, 1000), count=1000)
    copies = list(directory.local_copy.glob("*/shard-*.h5"))
    assert len(objects(directory)) == 5
    assert sum(path.stat().st_size for path in copies) <= 200_000
    keys, features = rows(0, 5000)
    with open_cache(directory, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(keys)), features)
    copies = list(directory.local_copy.glob("*/shard-*.h5"))
    assert sum(path.stat().st_size for path in copies) <= 200_000


def test_a_shard_that_cannot_be_put_is_put_by_the_next_command(
    store: ObjectStore, directory: RemotePath
) -> None:
    fill(directory, 0)
    store.break_next("PUT", "shard-", "500", 99)
    with pytest.raises(CacheError, match=r"shard-\w+\.h5: cannot be written .* are kept"):
        fill(directory, 10)
    assert len(objects(directory)) == 1
    store.reset()
    keys, features = rows(0, 20)
    with open_cache(directory, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(keys)), features)
    assert len(objects(directory)) == 2


@pytest.mark.parametrize("kind", ["500", "cut", "short", "slow"])
def test_a_shard_that_comes_damaged_is_fetched_again(
    store: ObjectStore,
    directory: RemotePath,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(directory, 0)
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "second machine"))
    store.break_next("GET", "/shard-", kind, 1)
    keys, features = rows(0, 10)
    with (
        patience(3 if kind == "slow" else 60),
        open_cache(directory, FINGERPRINT) as cache,
    ):
        assert np.array_equal(cache.read(cache.find(keys)), features)


def test_a_damaged_object_is_left_out_and_its_rows_are_missing(
    store: ObjectStore,
    directory: RemotePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(directory, 0, 10)
    files = remote.file_system(directory.url)
    name = objects(directory)[0]
    files.pipe_file(name, files.cat_file(name)[:-200] + bytes(200))
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "second machine"))
    keys, _ = rows(0, 20)
    with open_cache(directory, FINGERPRINT) as cache:
        assert (cache.find(keys) >= 0).sum() == 10
    assert "left out" in caplog.text
    assert len(objects(directory)) == 2  # nothing there is renamed or removed


def test_a_copy_that_rots_is_fetched_anew(store: ObjectStore, directory: RemotePath) -> None:
    fill(directory, 0)
    (copy,) = directory.local_copy.glob("*/shard-*.h5")
    copy.write_bytes(copy.read_bytes()[:-200] + bytes(200))
    keys, features = rows(0, 10)
    with open_cache(directory, FINGERPRINT) as cache:
        assert (cache.find(keys) < 0).all()
    with open_cache(directory, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(keys)), features)


def test_a_bucket_that_is_not_there_is_found_out_first(store: ObjectStore) -> None:
    with pytest.raises(CacheError, match="s3://nowhere/cache: cannot be used"):
        open_cache(RemotePath("s3://nowhere/cache"), FINGERPRINT)


class Bomb:
    """What leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self._mark,)


def test_nothing_of_a_bucket_or_its_copy_is_unpickled(
    store: ObjectStore, directory: RemotePath, tmp_path: Path
) -> None:
    fill(directory, 0, 10)
    mark = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(mark))
    files = remote.file_system(directory.url)
    folder = objects(directory)[0].rpartition("/")[0]
    for name in (f"shard-{'0' * 32}.h5", f"index-shard-{'0' * 32}.npz", "index.pkl"):
        files.pipe_file(f"{folder}/{name}", bomb)
    for index in directory.local_copy.glob("*/index-*.npz"):
        np.savez(index, keys=np.array([Bomb(mark)]), rows=np.array([Bomb(mark)]))
    keys, features = rows(0, 20)
    with open_cache(directory, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(keys)), features)
    assert not mark.exists()
    pickle.loads(bomb)
    assert mark.exists()


def test_copies_of_small_shards_are_not_merged_as_those_of_a_folder_are(
    store: ObjectStore, directory: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_MANY", 2)
    fill(directory, 0, 10, 20)
    there = objects(directory)
    copies = [path.name for path in directory.local_copy.glob("*/shard-*.h5")]
    assert sorted(copies) == [name.rpartition("/")[2] for name in there]
    with open_cache(directory, FINGERPRINT):
        pass
    assert objects(directory) == there  # what was merged would be put there once more


def test_bottlenecks_at_a_url_are_not_extracted_again_in_silence(
    store: ObjectStore, directory: RemotePath
) -> None:
    with pytest.raises(CacheError, match="--create-bottleneck rewrites shards"):
        remove_entries(directory, FINGERPRINT, rows(0, 10)[0])
