"""`fic cache info | verify | compact | prune`, as the library does them."""

import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from fic.cache import BottleneckCache
from fic.cache.keys import key_digests, make_keys
from fic.cache.locks import hold_exclusively
from fic.cache.maintenance import (
    cache_info,
    compact_cache,
    prune_cache,
    remove_entries,
    verify_cache,
)
from fic.digests import digest_bytes
from fic.errors import CacheError
from fic.fingerprint import Fingerprint
from tests.fic.cache.conftest import FINGERPRINT, MAPS

OTHER = replace(FINGERPRINT, base="other")


def keys_of(numbers: range, view: int = 0) -> np.ndarray:
    return make_keys((digest_bytes(str(number).encode()), view) for number in numbers)


def features_of(numbers: range, fingerprint: Fingerprint) -> np.ndarray:
    column = np.array(numbers, np.float32).reshape(-1, *(1 for _ in fingerprint.shape))
    return np.broadcast_to(column, (len(numbers), *fingerprint.shape))


def fill(
    directory: Path,
    numbers: range,
    fingerprint: Fingerprint = FINGERPRINT,
    *,
    shard: int = 10,
    compression: str = "none",
) -> Path:
    """Add the numbers in shards of `shard` and return the folder."""
    with BottleneckCache(directory, fingerprint, compression=compression) as cache:
        with cache.writer() as writer:
            for start in range(0, len(numbers), shard):
                piece = numbers[start : start + shard]
                writer.add(keys_of(piece), features_of(piece, fingerprint))
                writer.commit()
        return cache.folder


def fill_twice(directory: Path, numbers: range) -> Path:
    """Add the numbers as two processes do that do not know of each other."""
    folder = fill(directory, numbers)
    shutil.copytree(fill(directory / "second", numbers), folder, dirs_exist_ok=True)
    shutil.rmtree(directory / "second")
    return folder


def found(directory: Path, numbers: range, fingerprint: Fingerprint = FINGERPRINT) -> int:
    """Return how many are in the cache, having compared them."""
    with BottleneckCache(directory, fingerprint) as cache:
        rows = cache.find(keys_of(numbers))
        there = rows >= 0
        assert np.array_equal(cache.read(rows[there]), features_of(numbers, fingerprint)[there])
    return int(there.sum())


def shards_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*"))


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


# info


def test_info_says_what_each_folder_holds(tmp_path: Path) -> None:
    fill(tmp_path, range(25), OTHER)
    folder = fill(tmp_path, range(25))
    (folder / "base.onnx").write_bytes(bytes(100_000))
    (folder / "damaged-shard-0.h5").touch()
    (folder / "tmp-0").touch()
    other, info = cache_info(tmp_path)
    assert (other.fingerprint, info.fingerprint) == (OTHER, FINGERPRINT)
    assert (info.path, info.shards, info.images, info.duplicates) == (folder, 3, 25, 0)
    assert info.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert info.damaged == (folder / "damaged-shard-0.h5",)
    assert info.temporaries == (folder / "tmp-0",)
    assert info.oldest is not None
    assert info.newest is not None
    assert info.oldest <= info.newest <= info.used + 1


def test_info_is_ready_for_json(tmp_path: Path) -> None:
    fill(tmp_path, range(5))
    (info,) = json.loads(json.dumps([asdict(each) for each in cache_info(tmp_path)], default=str))
    assert info["fingerprint"]["base"] == "tiny"


def test_info_counts_second_copies(tmp_path: Path) -> None:
    fill_twice(tmp_path, range(20))
    (info,) = cache_info(tmp_path)
    assert (info.images, info.duplicates) == (20, 20)


def test_info_reports_a_damaged_shard_and_leaves_it(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(5))
    (folder / "shard-0.h5").write_bytes(b"junk")
    (info,) = cache_info(tmp_path)
    assert info.damaged == (folder / "shard-0.h5",)
    assert (folder / "shard-0.h5").exists()


def test_a_shard_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, range(5))

    def refuse(path: Path, _: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("fic.cache.maintenance.open_shard", refuse)
    (info,) = cache_info(tmp_path)
    assert (info.shards, info.damaged) == (0, ())
    assert "not counted, it cannot be read (Permission denied)" in caplog.text


def test_info_works_while_the_cache_is_in_use(tmp_path: Path) -> None:
    fill(tmp_path, range(5))
    with BottleneckCache(tmp_path, FINGERPRINT):
        assert cache_info(tmp_path)[0].images == 5


@pytest.mark.parametrize("work", [cache_info, verify_cache, compact_cache, prune_cache])
def test_a_directory_that_is_not_there_is_one_sentence(
    tmp_path: Path, work: Callable[[Path], object]
) -> None:
    with pytest.raises(CacheError, match="no cache there; give --bottleneck-dir"):
        work(tmp_path / "nowhere")


@pytest.mark.parametrize("work", [cache_info, verify_cache, compact_cache, prune_cache])
def test_what_is_not_of_this_format_is_left_alone(
    tmp_path: Path, work: Callable[[Path], object]
) -> None:
    folder = fill(tmp_path, range(5)).rename(tmp_path / "tiny-of-another-release")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "files.sqlite").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "fingerprint.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    work(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(shards_in(folder)) == 1


# verify


def test_verify_compares_every_image(tmp_path: Path) -> None:
    fill(tmp_path, range(25))
    fill(tmp_path, range(10), MAPS, compression="gzip")
    report = verify_cache(tmp_path)
    assert (report.shards, report.images, report.damaged) == (4, 35, ())


def test_verify_sets_damaged_shards_aside_and_lists_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = shards_in(fill(tmp_path, range(30)))[1]
    damage(shard)
    report = verify_cache(tmp_path)
    aside = shard.with_name(f"damaged-{shard.name}")
    assert (report.shards, report.images, report.damaged) == (3, 20, (aside,))
    assert aside.exists()
    assert shard.name in caplog.text
    assert found(tmp_path, range(30)) == 20


def test_verify_finds_a_key_that_changed(tmp_path: Path) -> None:
    (shard,) = shards_in(fill(tmp_path, range(5)))
    with h5py.File(shard, "r+") as file:
        file["keys"][2, 7] ^= 1
    assert len(verify_cache(tmp_path).damaged) == 1


# compact


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("fingerprint", [FINGERPRINT, MAPS], ids=["vector", "map"])
def test_compact_merges_small_shards(
    tmp_path: Path, fingerprint: Fingerprint, compression: str
) -> None:
    folder = fill(tmp_path, range(100), fingerprint, compression=compression)
    report = compact_cache(tmp_path)
    assert (report.shards_before, report.shards_after) == (10, 1)
    assert report.bytes_after < report.bytes_before
    assert found(tmp_path, range(100), fingerprint) == 100
    with h5py.File(shards_in(folder)[0]) as file:
        expected = None if compression == "none" else "gzip"
        assert file["features"].compression == expected


def test_compact_drops_second_copies(tmp_path: Path) -> None:
    fill_twice(tmp_path, range(30))
    report = compact_cache(tmp_path)
    assert (report.shards_before, report.shards_after, report.duplicates) == (6, 1, 30)
    assert found(tmp_path, range(30)) == 30


def test_compact_keeps_the_good_one_of_two_copies(tmp_path: Path) -> None:
    folder = fill_twice(tmp_path, range(10))
    damage(shards_in(folder)[0])
    compact_cache(tmp_path)
    assert found(tmp_path, range(10)) == 10


def test_compact_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(100))
    compact_cache(tmp_path)
    before = shards_in(folder)
    compact_cache(tmp_path)
    assert shards_in(folder) == before


def test_compact_starts_a_new_shard_at_64_mb(tmp_path: Path) -> None:
    large = replace(FINGERPRINT, shape=(1 << 20,))  # 4 MB each
    fill(tmp_path, range(20), large, shard=5)
    report = compact_cache(tmp_path)
    assert (report.shards_before, report.shards_after) == (4, 2)
    assert found(tmp_path, range(20), large) == 20


def test_compact_refuses_a_cache_that_is_in_use(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(30))
    with (
        BottleneckCache(tmp_path, FINGERPRINT),
        pytest.raises(CacheError, match=f"{folder}: in use by another process"),
    ):
        compact_cache(tmp_path)
    assert len(shards_in(folder)) == 3


@pytest.mark.parametrize("ends", ["compacted", "pruned"])
def test_opening_waits_with_a_warning_until_the_folder_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ends: str
) -> None:
    folder = fill(tmp_path, range(30))
    counts: list[int] = []
    opener = threading.Thread(target=lambda: counts.append(found(tmp_path, range(30))))
    with hold_exclusively(folder):
        opener.start()
        while "waiting" not in caplog.text:
            time.sleep(0.01)
        if ends == "pruned":
            shutil.rmtree(folder)
    opener.join()
    assert counts == [30 if ends == "compacted" else 0]
    assert (folder / "lock").exists()


def test_a_compaction_that_is_stopped_leaves_second_copies_at_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, range(50))
    unlink, calls = Path.unlink, []

    def stop_at_the_third(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("shard-"):
            calls.append(path)
            if len(calls) == 3:
                raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", stop_at_the_third)
        compact_cache(tmp_path)
    assert found(tmp_path, range(50)) == 50
    assert cache_info(tmp_path)[0].duplicates == 30
    compact_cache(tmp_path)
    assert cache_info(tmp_path)[0].duplicates == 0
    assert found(tmp_path, range(50)) == 50


def test_files_beside_the_shards_survive_compact_and_prune(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(30))
    (folder / "base.onnx").write_bytes(b"graph")
    compact_cache(tmp_path)
    prune_cache(tmp_path, keep=[], damaged=True)
    assert (folder / "base.onnx").read_bytes() == b"graph"
    assert found(tmp_path, range(30)) == 0


# prune


def test_prune_without_a_choice_removes_only_temporaries_that_nobody_writes(
    tmp_path: Path,
) -> None:
    folder = fill(tmp_path, range(30))
    (folder / "tmp-0").touch()
    (folder / "damaged-shard-0.h5").touch()
    report = prune_cache(tmp_path)
    assert report.files == [folder / "tmp-0"]
    assert (report.folders, report.images) == ([], 0)
    assert (folder / "damaged-shard-0.h5").exists()
    assert found(tmp_path, range(30)) == 30


def test_prune_removes_damaged_files(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(30))
    (folder / "damaged-shard-0.h5").write_bytes(bytes(1000))
    report = prune_cache(tmp_path, damaged=True)
    assert (report.files, report.bytes) == ([folder / "damaged-shard-0.h5"], 1000)


def test_prune_removes_folders_that_were_not_used_for_days(tmp_path: Path) -> None:
    old, new = fill(tmp_path, range(5), OTHER), fill(tmp_path, range(5))
    os.utime(old / "lock", (time.time() - 31 * 86400,) * 2)
    report = prune_cache(tmp_path, unused_days=30)
    assert report.folders == [old]
    assert report.bytes > 0
    assert not old.exists()
    assert new.exists()


def test_opening_a_cache_counts_as_using_it(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(5))
    os.utime(folder / "lock", (time.time() - 31 * 86400,) * 2)
    BottleneckCache(tmp_path, FINGERPRINT).close()
    assert prune_cache(tmp_path, unused_days=30).folders == []


def test_prune_removes_a_folder_by_name(tmp_path: Path) -> None:
    named, other = fill(tmp_path, range(5), OTHER), fill(tmp_path, range(5))
    assert prune_cache(tmp_path, fingerprints=[named.name]).folders == [named]
    assert other.exists()


def test_prune_of_an_unknown_folder_lists_those_that_are_there(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(5))
    with pytest.raises(CacheError, match=f"has no folder nonsense; it has {folder.name}"):
        prune_cache(tmp_path, fingerprints=["nonsense"])


def test_prune_keeps_only_the_given_digests_in_all_their_views(tmp_path: Path) -> None:
    fill(tmp_path, range(30))
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, cache.writer() as writer:
        writer.add(keys_of(range(30), view=1), features_of(range(30), FINGERPRINT))
    digests = [digest_bytes(str(number).encode()) for number in range(5, 12)]
    report = prune_cache(
        tmp_path, keep={begin for digest in digests for begin in key_digests(digest)}
    )
    assert report.images == 2 * 23
    assert report.bytes > 0
    assert found(tmp_path, range(30)) == found(tmp_path, range(5, 12)) == 7
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        assert len(cache) == 14


def test_prune_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    folder = fill(tmp_path, range(5))
    with BottleneckCache(tmp_path, FINGERPRINT), pytest.raises(CacheError, match="in use"):
        prune_cache(tmp_path, fingerprints=[folder.name])
    assert found(tmp_path, range(5)) == 5


class Steps:
    """Records what a progress bar would show."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, title: str, total: int, *, unit: str, done: int = 0) -> None:
        self.total += total

    def advance(self, count: int, skipped: int = 0) -> None:
        self.done += count

    def finish(self) -> None:
        """Nothing to record."""


@pytest.mark.parametrize("work", [verify_cache, compact_cache])
def test_progress_counts_every_shard(tmp_path: Path, work: Callable[[Path], object]) -> None:
    damage(shards_in(fill(tmp_path, range(30)))[0])
    steps = Steps()
    work(tmp_path, progress=steps)
    assert (steps.total, steps.done) == (3, 3)


def test_nothing_is_logged_about_a_healthy_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        fill(tmp_path, range(30))
        verify_cache(tmp_path)
        compact_cache(tmp_path)
        prune_cache(tmp_path, unused_days=1)
    assert caplog.records == []


def test_bottlenecks_that_are_removed_are_missing_and_the_others_stay(tmp_path: Path) -> None:
    fill(tmp_path, range(30))
    assert remove_entries(tmp_path, FINGERPRINT, keys_of(range(5, 15))) == 10
    assert remove_entries(tmp_path / "gone", FINGERPRINT, keys_of(range(5))) == 0
    kept = [*range(5), *range(15, 30)]
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        rows = cache.find(keys_of(range(30)))
        assert np.flatnonzero(rows >= 0).tolist() == kept
        assert cache.read(rows[kept])[:, 0].tolist() == kept


@pytest.mark.parametrize("how", ["linked", "renamed"])
def test_a_folder_that_is_not_the_caches_own_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    folder = fill(tmp_path / "elsewhere", range(10))
    (tmp_path / "cache").mkdir()
    if how == "linked":
        (tmp_path / "cache" / folder.name).symlink_to(folder)
    else:
        folder = folder.rename(tmp_path / "cache/somebody's")
    before = sorted(folder.iterdir())
    assert cache_info(tmp_path / "cache") == []
    assert prune_cache(tmp_path / "cache", unused_days=0.0, keep=[]).folders == []
    assert verify_cache(tmp_path / "cache").shards == compact_cache(tmp_path / "cache").shards_after
    assert sorted(folder.iterdir()) == before
    assert "left out, it is" in caplog.text
