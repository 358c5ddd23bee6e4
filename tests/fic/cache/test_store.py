"""The bottleneck cache: what is found, what is not, and what is right when things go wrong."""

import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fic.cache import BottleneckCache
from fic.cache.keys import Keys, make_keys
from fic.cache.shards import open_shard
from fic.digests import digest_bytes
from fic.errors import CacheError
from fic.fingerprint import Fingerprint
from fic_runtime.preprocessing import Geometry, Pixels
from tests.fic.cache.conftest import FINGERPRINT, MAPS


def keys_of(*names: object, view: int = 0) -> Keys:
    return make_keys((digest_bytes(str(name).encode()), view) for name in names)


def features_of(
    names: list[object], fingerprint: Fingerprint = FINGERPRINT
) -> np.ndarray[Any, Any]:
    """Return float32 (n, *shape) that depends on the names alone, half of it zeros."""
    rows = [
        np.random.default_rng(list(str(name).encode())).normal(size=fingerprint.shape)
        for name in names
    ]
    stacked = np.asarray(rows).reshape(len(names), *fingerprint.shape)
    return np.maximum(stacked.astype(fingerprint.dtype).astype(np.float32), 0)


def fill(directory: Path, *names: object, fingerprint: Fingerprint = FINGERPRINT) -> Path:
    """Commit one shard with these names and return its path."""
    with BottleneckCache(directory, fingerprint) as cache:
        with cache.writer() as writer:
            writer.add(keys_of(*names), features_of(list(names), fingerprint))
        return cache.shard_of(int(cache.find(keys_of(names[0]))[0]))


def missing(
    directory: Path, *names: object, fingerprint: Fingerprint = FINGERPRINT
) -> list[object]:
    """Return the names that a fresh run would have to extract, having compared the others."""
    with BottleneckCache(directory, fingerprint) as cache:
        rows = cache.find(keys_of(*names))
        found = [name for name, row in zip(names, rows, strict=True) if row >= 0]
        assert np.array_equal(cache.read(rows[rows >= 0]), features_of(found, fingerprint))
        return [name for name, row in zip(names, rows, strict=True) if row < 0]


# The rules: what costs an extraction and what does not.


def test_what_was_extracted_once_is_found_by_the_next_run(tmp_path: Path) -> None:
    fill(tmp_path, "rose", "tulip")
    assert missing(tmp_path, "rose", "tulip") == []


def test_ten_new_images_are_ten_extractions(tmp_path: Path) -> None:
    fill(tmp_path, *range(100))
    assert missing(tmp_path, *range(110)) == list(range(100, 110))


def test_the_same_bytes_twice_are_one_entry(tmp_path: Path) -> None:
    fill(tmp_path, "rose", "rose", "tulip", "rose")
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        assert len(cache) == 2
        with h5py.File(cache.shard_of(0)) as file:
            assert len(file["keys"]) == 2


def test_the_key_is_the_content_so_renaming_moving_and_relabelling_cost_nothing(
    tmp_path: Path,
) -> None:
    fill(tmp_path, "rose")
    (tmp_path / "roses").mkdir()
    (tmp_path / "roses" / "1.jpg").write_bytes(b"rose")
    (tmp_path / "roses" / "1.jpg").rename(tmp_path / "not a rose.jpg")
    key = make_keys([(digest_bytes((tmp_path / "not a rose.jpg").read_bytes()), 0)])
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        assert cache.find(key)[0] >= 0


def test_the_order_of_images_does_not_matter(tmp_path: Path) -> None:
    fill(tmp_path, *range(50))
    assert missing(tmp_path, *random.Random(0).sample(range(50), 50)) == []


def test_each_view_of_a_picture_is_its_own_entry(tmp_path: Path) -> None:
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        with cache.writer() as writer:
            writer.add(keys_of("rose"), features_of(["plain"]))
            writer.add(keys_of("rose", view=1), features_of(["flipped"]))
        rows = np.concatenate([cache.find(keys_of("rose", view=view)) for view in range(3)])
        assert rows[2] == -1
        assert np.array_equal(cache.read(rows[:2]), features_of(["plain", "flipped"]))


@pytest.mark.parametrize(
    "change",
    [
        {"base": "other"},
        {"weights": "1" * 32},
        {"tensor": "block_3"},
        {"pooling": "max"},
        {"pooling": None},
        {"dtype": "float16"},
        {"preprocessing": replace(FINGERPRINT.preprocessing, pixels=Pixels(offset=(1, 1, 1)))},
        {
            "preprocessing": replace(
                FINGERPRINT.preprocessing, geometry=Geometry(height=8, width=8, resize="crop")
            )
        },
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_the_fingerprint_cannot_hit_stale_bottlenecks(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    fill(tmp_path, "rose")
    assert missing(tmp_path, "rose", fingerprint=replace(FINGERPRINT, **change)) == ["rose"]
    assert missing(tmp_path, "rose") == []


def test_a_fingerprint_survives_its_json() -> None:
    again = Fingerprint.from_dict(FINGERPRINT.to_dict())
    assert (again, again.digest) == (FINGERPRINT, FINGERPRINT.digest)


def test_the_fingerprint_digest_is_the_one_that_existing_caches_have() -> None:
    # A change here makes everyone extract everything again: raise FORMAT, and say so.
    assert FINGERPRINT.folder_name == "tiny-17ade79e96473dc8"


def test_keys_that_end_in_zero_bytes_stay_apart(tmp_path: Path) -> None:
    digests = [b"\x01" + bytes(15), b"\x01\x00\x01" + bytes(13), bytes(16)]
    keys = make_keys((digest, view) for view in (0, 256, 1 << 24) for digest in digests)
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        with cache.writer() as writer:
            writer.add(keys, features_of(list(range(9))))
        assert len(cache) == 9
        assert np.array_equal(cache.read(cache.find(keys)), features_of(list(range(9))))


# Reading and writing.


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("shape", [(16,), (4, 4, 6)], ids=["vector", "map"])
def test_bottlenecks_come_back_as_they_were(
    tmp_path: Path, dtype: Any, compression: Any, shape: tuple[int, ...]
) -> None:
    fingerprint = replace(FINGERPRINT, dtype=dtype, shape=shape)
    names: list[object] = list(range(40))
    keys = keys_of(*names)
    with (
        BottleneckCache(tmp_path, fingerprint, compression=compression) as cache,
        cache.writer() as writer,
    ):
        writer.add(keys[:25], features_of(names[:25], fingerprint))
        writer.commit()
        writer.add(keys[25:], features_of(names[25:], fingerprint))
    with BottleneckCache(tmp_path, fingerprint) as cache:
        order = np.random.default_rng(0).integers(0, 40, 200)
        read = cache.read(cache.find(keys)[order])
        assert read.dtype == np.float32
        assert np.array_equal(read, features_of(names, fingerprint)[order])
        out = np.empty_like(read)
        assert cache.read(cache.find(keys)[order], out=out) is out
        assert np.array_equal(out, read)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_shard_is_plain_hdf5_that_any_tool_reads(tmp_path: Path, compression: Any) -> None:
    with BottleneckCache(tmp_path, MAPS, compression=compression) as cache:
        with cache.writer() as writer:
            writer.add(keys_of("a", "b", view=3), features_of(["a", "b"], MAPS))
        with h5py.File(cache.shard_of(0)) as file:
            assert np.array_equal(file["features"][:], features_of(["a", "b"], MAPS))
            assert file["keys"][1].tobytes() == keys_of("b", view=3).tobytes()
            assert file["features"].chunks == (1, *MAPS.shape)
            assert file.attrs["fingerprint"].decode() == MAPS.digest


def test_a_value_that_float16_cannot_hold_is_refused_with_the_remedy(tmp_path: Path) -> None:
    half = replace(FINGERPRINT, dtype="float16")
    with BottleneckCache(tmp_path, half) as cache, cache.writer() as writer:
        writer.add(keys_of("small"), features_of(["small"], half))
        with pytest.raises(CacheError, match="--cache-dtype float32"):
            writer.add(keys_of("large"), np.full((1, 16), 1e5, np.float32))
    assert missing(tmp_path, "small", "large", fingerprint=half) == ["large"]


def test_reading_a_missing_row_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "rose")
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, pytest.raises(IndexError, match="-1"):
        cache.read(cache.find(keys_of("rose", "tulip")))


def test_nothing_can_be_looked_up_in_an_empty_cache_and_that_is_fine(tmp_path: Path) -> None:
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        assert cache.find(keys_of("rose")).tolist() == [-1]
        assert cache.read(cache.find(keys_of())).shape == (0, 16)
        assert len(cache) == 0


def test_features_of_another_shape_are_a_slip_of_the_programmer(tmp_path: Path) -> None:
    with (
        BottleneckCache(tmp_path, FINGERPRINT) as cache,
        cache.writer() as writer,
        pytest.raises(ValueError, match="shape"),
    ):
        writer.add(keys_of("rose"), features_of(["rose"], MAPS))


def test_a_row_is_found_by_the_cache_that_has_just_committed_it(tmp_path: Path) -> None:
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, cache.writer() as writer:
        writer.add(keys_of("rose"), features_of(["rose"]))
        assert cache.find(keys_of("rose")).tolist() == [-1]
        writer.commit()
        assert cache.find(keys_of("rose")).tolist() == [0]


def shards_in(cache: BottleneckCache) -> int:
    return len(list(cache.folder.glob("shard-*")))


def test_a_shard_is_committed_every_1024_images(tmp_path: Path) -> None:
    names: list[object] = list(range(2500))
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        with cache.writer() as writer:
            for start in range(0, 2500, 100):
                piece = names[start : start + 100]
                writer.add(keys_of(*piece), features_of(piece))
                assert writer.committed == (start + 100) // 1024 * 1024
        assert writer.committed == 2500
        assert shards_in(cache) == 3


def test_a_shard_is_committed_when_64_mb_are_waiting(tmp_path: Path) -> None:
    large = replace(FINGERPRINT, shape=(1 << 20,))  # 4 MB each
    with BottleneckCache(tmp_path, large) as cache, cache.writer() as writer:
        for name in range(17):
            assert writer.committed == (16 if name == 16 else 0)
            writer.add(keys_of(name), np.zeros((1, 1 << 20), np.float32))


def test_a_shard_is_committed_when_the_first_image_has_waited_30_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, cache.writer() as writer:
        for now, committed in [(1000.0, 0), (1029.0, 0), (1030.0, 3)]:
            monkeypatch.setattr("fic.cache.writer.time.monotonic", lambda now=now: now)
            writer.add(keys_of(now), features_of([now]))
            assert writer.committed == committed


def test_ctrl_c_keeps_what_was_extracted(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        BottleneckCache(tmp_path, FINGERPRINT) as cache,
        cache.writer() as writer,
    ):
        writer.add(keys_of("rose"), features_of(["rose"]))
        raise KeyboardInterrupt
    assert missing(tmp_path, "rose") == []


def test_the_buffer_that_was_added_may_be_used_again_at_once(tmp_path: Path) -> None:
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, cache.writer() as writer:
        buffer = features_of(["rose"])
        writer.add(keys_of("rose"), buffer)
        buffer[:] = 0
    assert missing(tmp_path, "rose") == []


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    names: list[object] = list(range(150))
    keys = keys_of(*names)
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, cache.writer() as writer:
        for name in names:
            writer.add(keys[[name]], features_of([name]))
            writer.commit()
    script = (
        "import resource, sys, numpy as np\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "from test_store import *\n"
        "names = list(range(150))\n"
        "order = np.random.default_rng(0).permutation(150)\n"
        "assert missing(Path(sys.argv[1]), *order) == []\n"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def test_threads_may_read_while_one_writes(tmp_path: Path) -> None:
    fill(tmp_path, *range(500))
    keys = keys_of(*range(500))
    right = features_of(list(range(500)))
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        wrong: list[int] = []

        def read(seed: int) -> None:
            generator = np.random.default_rng(seed)
            for _ in range(50):
                pick = generator.integers(0, 500, 32)
                if not np.array_equal(cache.read(cache.find(keys[pick])), right[pick]):
                    wrong.append(seed)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        with cache.writer() as writer:
            for name in range(500, 540):
                writer.add(keys_of(name), features_of([name]))
                writer.commit()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert missing(tmp_path, *range(540)) == []


# Several processes, several machines.


def test_shards_that_another_process_commits_are_seen_after_a_refresh(tmp_path: Path) -> None:
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        fill(tmp_path, "rose")
        key = keys_of("rose")
        assert cache.find(key).tolist() == [-1]
        cache.refresh()
        assert np.array_equal(cache.read(cache.find(key)), features_of(["rose"]))


def test_rows_stay_valid_over_a_refresh(tmp_path: Path) -> None:
    fill(tmp_path, *range(10))
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        rows = cache.find(keys_of(*range(10)))
        fill(tmp_path, *range(10, 30))
        cache.refresh()
        assert np.array_equal(cache.read(rows), features_of(list(range(10))))


def test_caches_are_merged_by_copying_shards_into_one_folder(tmp_path: Path) -> None:
    fill(tmp_path / "one", *range(10))
    fill(tmp_path / "two", *range(5, 20))
    for shard in (tmp_path / "two" / FINGERPRINT.folder_name).glob("shard-*"):
        shutil.copy(shard, tmp_path / "one" / FINGERPRINT.folder_name)
    assert missing(tmp_path / "one", *range(20)) == []
    with BottleneckCache(tmp_path / "one", FINGERPRINT) as cache:
        assert len(cache) == 20


# Damage.


def damaged_in(shard: Path) -> list[Path]:
    return sorted(shard.parent.glob("damaged-*"))


def test_a_shard_of_another_fingerprint_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = fill(tmp_path, "rose", fingerprint=replace(FINGERPRINT, weights="1" * 32))
    own = fill(tmp_path, "tulip")
    copy = shutil.copy(foreign, own.parent)
    assert missing(tmp_path, "rose", "tulip") == ["rose"]
    assert [path.name for path in damaged_in(own)] == [f"damaged-{Path(copy).name}"]
    assert "another fingerprint" in caplog.text


@pytest.mark.parametrize("content", [b"", b"not HDF5", bytes(5000)])
def test_a_file_that_is_no_shard_is_set_aside(tmp_path: Path, content: bytes) -> None:
    shard = fill(tmp_path, "rose")
    (shard.parent / "shard-0.h5").write_bytes(content)
    assert missing(tmp_path, "rose") == []
    assert len(damaged_in(shard)) == 1


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_shard_is_set_aside(tmp_path: Path, part: float) -> None:
    shard = fill(tmp_path, *range(100))
    os.truncate(shard, int(shard.stat().st_size * part))
    assert missing(tmp_path, *range(100)) == list(range(100))
    assert len(damaged_in(shard)) == 1


def test_damage_is_one_warning_and_its_images_are_extracted_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, "healthy")
    shard = fill(tmp_path, *range(100))
    flip_bit(shard, shard.stat().st_size // 2, 0)
    names = ["healthy", *range(100)]
    with caplog.at_level(logging.WARNING):
        assert missing(tmp_path, *names) == list(range(100))
    assert len(caplog.records) == 1
    assert shard.name in caplog.text
    fill(tmp_path, *range(100))
    assert missing(tmp_path, *names) == []


def test_a_second_copy_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    first = fill(tmp_path, *range(50))
    copy = first.with_name("shard-copy.h5")
    shutil.copy(first, copy)
    flip_bit(first, first.stat().st_size // 2, 3)
    assert missing(tmp_path, *range(50)) == []


def flip_bit(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (value,) = file.read(1)
        file.seek(offset)
        file.write(bytes([value ^ 1 << bit]))


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("fingerprint", [FINGERPRINT, MAPS], ids=["vector", "map"])
def test_a_flipped_bit_is_found_or_changes_nothing(
    tmp_path: Path, compression: Any, fingerprint: Fingerprint
) -> None:
    names: list[object] = list(range(20))
    keys, right = keys_of(*names), features_of(names, fingerprint)
    with BottleneckCache(tmp_path, fingerprint, compression=compression) as cache:
        with cache.writer() as writer:
            writer.add(keys, right)
        shard = cache.shard_of(0)
    whole = shard.read_bytes()
    generator = random.Random(0)
    found = 0
    for _ in range(300):
        flip_bit(shard, generator.randrange(len(whole)), generator.randrange(8))
        with BottleneckCache(tmp_path, fingerprint) as cache:
            rows = cache.find(keys)
            there = rows >= 0
            assert np.array_equal(cache.read(rows[there]), right[there])
            found += bool(damaged_in(shard)) or not there.all()
        for path in damaged_in(shard):
            path.unlink()
        shard.write_bytes(whole)
    assert found > 100  # the rest hit bytes that HDF5 leaves unused


# Places that cannot be used.


@pytest.fixture
def locked_down() -> Iterator[Path]:
    """Return a folder in which permissions count, also for tests that run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def test_a_warm_cache_that_is_read_only_can_be_used(locked_down: Path) -> None:
    shard = fill(locked_down, "rose")
    for path in (*shard.parent.iterdir(),):
        path.chmod(0o444)
    shard.parent.chmod(0o555)
    locked_down.chmod(0o555)
    assert missing(locked_down, "rose", "tulip") == ["tulip"]


def test_writing_to_a_read_only_cache_is_one_sentence(locked_down: Path) -> None:
    shard = fill(locked_down, "rose")
    shard.parent.chmod(0o555)
    with pytest.raises(CacheError, match=r"cannot be written \(Permission denied\)"):
        fill(locked_down, "tulip")


def test_damage_in_a_read_only_cache_is_extracted_again_and_left_where_it_is(
    locked_down: Path,
) -> None:
    shard = fill(locked_down, *range(100))
    flip_bit(shard, shard.stat().st_size // 2, 0)
    shard.parent.chmod(0o555)
    assert missing(locked_down, *range(100)) == list(range(100))
    assert shard.exists()


def test_damage_in_a_read_only_cache_is_one_warning(
    locked_down: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = fill(locked_down, *range(100))
    flip_bit(shard, shard.stat().st_size // 2, 0)
    shard.parent.chmod(0o555)
    with BottleneckCache(locked_down, FINGERPRINT) as cache:
        for _ in range(3):
            assert (cache.find(keys_of(*range(100))) == -1).all()
            cache.refresh()
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_made_is_one_sentence(locked_down: Path) -> None:
    locked_down.chmod(0o555)
    with pytest.raises(CacheError, match=r"Permission denied.*--bottleneck-dir"):
        BottleneckCache(locked_down / "cache", FINGERPRINT)


def test_a_folder_that_cannot_be_listed_is_one_sentence(locked_down: Path) -> None:
    shard = fill(locked_down, "rose")
    shard.parent.chmod(0o300)
    with pytest.raises(CacheError, match=r"cannot be read \(Permission denied\)"):
        BottleneckCache(locked_down, FINGERPRINT)


def test_a_shard_without_permission_to_read_is_not_taken_for_damaged(locked_down: Path) -> None:
    shard = fill(locked_down, "rose")
    shard.chmod(0)
    with pytest.raises(CacheError, match=rf"{shard.name}: cannot be read"):
        BottleneckCache(locked_down, FINGERPRINT)
    assert shard.exists()


def test_a_file_in_the_place_of_the_cache_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CacheError, match="cannot be made"):
        BottleneckCache(tmp_path / "cache", FINGERPRINT)


def test_a_shard_that_vanishes_while_in_use_is_one_sentence(tmp_path: Path) -> None:
    shard = fill(tmp_path, "rose")
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        rows = cache.find(keys_of("rose"))
        cache._files.close()
        shard.unlink()
        with pytest.raises(CacheError, match="changed while in use"):
            cache.read(rows)


def test_float16_refuses_bottlenecks_that_it_would_turn_to_zeros(tmp_path: Path) -> None:
    half = replace(FINGERPRINT, dtype="float16")
    with BottleneckCache(tmp_path, half) as cache, cache.writer() as writer:
        with pytest.raises(CacheError, match="too small for float16"):
            writer.add(keys_of("tiny"), np.full((1, 16), 1e-12, np.float32))
        writer.add(keys_of("zero"), np.zeros((1, 16), np.float32))
        assert cache.find(keys_of("tiny")).tolist() == [-1]
    with BottleneckCache(tmp_path, half) as cache:
        assert len(cache) == 1


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be told")
def test_rows_are_announced_where_they_lie_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = replace(FINGERPRINT, shape=(20_000,))  # 80 kB, more than half of a piece
    path = fill(tmp_path, *range(10), fingerprint=large)
    places = open_shard(path, large).rows["offset"].tolist()
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, count, __: told.append((start, start + count))
    )
    with BottleneckCache(tmp_path, large) as cache:
        cache.announce(cache.find(keys_of(3, 4, 5, 8)))
        cache.announce(np.empty(0, np.int64))
    covered = sorted(told)
    assert all(stop - start <= 128 << 10 for start, stop in covered)
    # Three that lie side by side are one part, in pieces that follow each other.
    gaps = [(a, b) for (_, a), (b, _) in pairwise(covered) if a != b]
    assert gaps == [(places[5] + 80_000, places[8])]
    assert (covered[0][0], covered[-1][1]) == (places[3], places[8] + 80_000)
