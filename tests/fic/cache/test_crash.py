"""The cache under kill -9, other processes and a full disk."""

import fcntl
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fic.cache import BottleneckCache, CacheWriter
from fic.cache.keys import make_keys
from fic.cache.locks import new_temporary
from fic.digests import digest_bytes
from fic.errors import CacheError
from tests.fic.cache.conftest import FINGERPRINT as TINY

KILLS = 60
FEATURES = 256
FINGERPRINT = replace(TINY, shape=(FEATURES,))

# Adds images START, START + 1, … and says after each commit how far it has come.
FILL = """
import json, sys
import numpy as np
from fic.cache import BottleneckCache
from fic.cache.keys import make_keys
from fic.fingerprint import Fingerprint
from fic.digests import digest_bytes

directory, fingerprint, start, stop, step = sys.argv[1:]
fingerprint = Fingerprint.from_dict(json.loads(fingerprint))
with BottleneckCache(directory, fingerprint) as cache, cache.writer() as writer:
    assert "tensorflow" not in sys.modules
    print("ready", flush=True)
    for first in range(int(start), int(stop), int(step)):
        numbers = np.arange(first, min(first + int(step), int(stop)))
        keys = make_keys((digest_bytes(str(number).encode()), 0) for number in numbers)
        writer.add(keys, numbers[:, None] + np.arange(fingerprint.shape[0], dtype=np.float32))
        writer.commit()
        print(numbers[-1], flush=True)
"""


def start_filling(
    directory: Path, start: int, stop: int, step: int = 50
) -> "subprocess.Popen[str]":
    import json

    arguments = [str(directory), json.dumps(FINGERPRINT.to_dict()), start, stop, step]
    return subprocess.Popen(
        [sys.executable, "-c", FILL, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def count_right(directory: Path, count: int) -> int:
    """Return how many of the first `count` images are there, having compared them."""
    numbers = np.arange(count)
    with BottleneckCache(directory, FINGERPRINT) as cache:
        rows = cache.find(make_keys((digest_bytes(str(number).encode()), 0) for number in numbers))
        there = rows >= 0
        expected = numbers[there, None] + np.arange(FEATURES, dtype=np.float32)
        assert np.array_equal(cache.read(rows[there]), expected)
    return int(there.sum())


def debris(directory: Path) -> list[str]:
    files = directory.glob(f"{FINGERPRINT.folder_name}/*")
    return [file.name for file in files if re.match("tmp-|damaged-", file.name)]


@pytest.mark.crash
def test_a_kill_at_any_moment_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    generator = random.Random(0)
    acknowledged = -1
    in_the_middle = 0
    for _ in range(KILLS):
        with start_filling(tmp_path, acknowledged + 1, 10**9) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(generator.uniform(0, 0.15))
            child.kill()
            lines = child.stdout.read().splitlines()
        # The last line may have been cut.
        acknowledged = max([acknowledged, *map(int, lines[:-1])])
        in_the_middle += bool(debris(tmp_path))
        assert count_right(tmp_path, acknowledged + 1) == acknowledged + 1
        assert debris(tmp_path) == []
    # Else the kills were not where they hurt.
    assert acknowledged > KILLS
    assert in_the_middle > 0


@pytest.mark.crash
def test_after_a_kill_the_next_run_resumes(tmp_path: Path) -> None:
    with start_filling(tmp_path, 0, 10**9) as child:
        assert child.stdout is not None
        while child.stdout.readline() in ("ready\n", "49\n"):
            pass
        child.kill()
    kept = count_right(tmp_path, 1000)
    assert 100 <= kept < 1000
    with start_filling(tmp_path, 0, 1000) as child:
        child.communicate()
    assert count_right(tmp_path, 1000) == 1000


@pytest.mark.crash
def test_processes_that_fill_one_cache_at_once_are_all_right(tmp_path: Path) -> None:
    ranges = [(0, 2000, 50), (500, 2500, 70), (1000, 3000, 30), (0, 3000, 200)]
    children = [start_filling(tmp_path, *each) for each in ranges]
    for child in children:
        child.communicate()
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert count_right(tmp_path, 3000) == 3000
    assert debris(tmp_path) == []
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        assert len(cache) == 3000


def test_a_temporary_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / FINGERPRINT.folder_name
    folder.mkdir()
    with new_temporary(folder) as file:
        BottleneckCache(tmp_path, FINGERPRINT).close()
        assert Path(os.fsdecode(file.name)).exists()


def test_a_temporary_file_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / FINGERPRINT.folder_name
    folder.mkdir()
    (folder / "tmp-0123").write_bytes(b"half a shard")
    BottleneckCache(tmp_path, FINGERPRINT).close()
    assert debris(tmp_path) == []


def test_without_locks_a_temporary_file_is_judged_by_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = tmp_path / FINGERPRINT.folder_name
    folder.mkdir()
    for name, age in (("tmp-new", 60), ("tmp-old", 7200)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    BottleneckCache(tmp_path, FINGERPRINT).close()
    assert debris(tmp_path) == ["tmp-new"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1 MB, or skip the test."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def add(writer: CacheWriter, start: int, count: int) -> None:
    numbers = np.arange(start, start + count)
    keys = make_keys((digest_bytes(str(number).encode()), 0) for number in numbers)
    writer.add(keys, numbers[:, None] + np.arange(FEATURES, dtype=np.float32))
    writer.commit()


def test_a_full_disk_is_one_sentence_and_loses_nothing_committed(small_disk: Path) -> None:
    with (
        pytest.raises(CacheError) as caught,
        BottleneckCache(small_disk, FINGERPRINT) as cache,
        cache.writer() as writer,
    ):
        for start in range(0, 2000, 100):
            add(writer, start, 100)
    sentence = str(caught.value)
    committed = writer.committed
    assert 500 < committed < 1100
    assert f"No space left on device), {committed} new bottlenecks were committed" in sentence
    assert str(small_disk) in sentence
    assert "\n" not in sentence
    assert debris(small_disk) == []
    assert count_right(small_disk, 2000) == committed

    # With more room, the next run goes on.
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    with BottleneckCache(small_disk, FINGERPRINT) as cache, cache.writer() as writer:
        add(writer, 0, 2000)
        assert writer.committed == 2000 - committed
    assert count_right(small_disk, 2000) == 2000


def test_a_disk_without_room_for_anything_is_one_sentence(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes((1 << 20) - 4096))
    with (
        pytest.raises(CacheError, match="No space left"),
        BottleneckCache(small_disk, FINGERPRINT) as cache,
        cache.writer() as writer,
    ):
        add(writer, 0, 100)
    assert debris(small_disk) == []


def test_a_full_disk_loses_nothing_in_compaction(small_disk: Path) -> None:
    from fic.cache.maintenance import compact_cache

    with BottleneckCache(small_disk, FINGERPRINT) as cache, cache.writer() as writer:
        for start in range(0, 600, 50):
            add(writer, start, 50)
    with pytest.raises(CacheError, match=r"cannot be rewritten \(No space left"):
        compact_cache(small_disk)
    assert debris(small_disk) == []
    assert count_right(small_disk, 600) == 600
