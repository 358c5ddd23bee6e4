"""Small shards are merged by the run that finds them too many, and nothing is lost by it."""

import fcntl
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fic.cache import BottleneckCache, compaction
from fic.cache.compaction import merge_small_shards
from fic.cache.keys import make_keys
from fic.digests import digest_bytes
from tests.fic.cache.conftest import FINGERPRINT as TINY

FINGERPRINT = replace(TINY, shape=(64,))
KILLS = 25

# Small runs, one after the other: each adds two bottlenecks and says so once it has closed.
RUNS = """
import json, sys
import numpy as np
from fic.cache import BottleneckCache, compaction
from fic.cache.keys import make_keys
from fic.fingerprint import Fingerprint
from fic.digests import digest_bytes

directory, fingerprint, start = sys.argv[1:]
fingerprint = Fingerprint.from_dict(json.loads(fingerprint))
compaction._MANY = 4
for first in range(int(start), 10**9, 2):
    numbers = np.arange(first, first + 2)
    keys = make_keys((digest_bytes(str(number).encode()), 0) for number in numbers)
    with BottleneckCache(directory, fingerprint) as cache, cache.writer() as writer:
        writer.add(keys, numbers[:, None] + np.arange(64, dtype=np.float32))
        writer.commit()
        print(numbers[-1], flush=True)
"""


def keys_of(numbers: range) -> np.ndarray:
    return make_keys((digest_bytes(str(number).encode()), 0) for number in numbers)


def small_runs(directory: Path, numbers: range) -> None:
    for number in numbers:
        with BottleneckCache(directory, FINGERPRINT) as cache, cache.writer() as writer:
            row = number + np.arange(64, dtype=np.float32)
            writer.add(keys_of(range(number, number + 1)), row[None])


def shards(directory: Path) -> list[Path]:
    return sorted(directory.rglob("shard-*"))


def assert_right(directory: Path, count: int) -> None:
    with BottleneckCache(directory, FINGERPRINT) as cache:
        rows = cache.find(keys_of(range(count)))
        expected = np.arange(count)[:, None] + np.arange(64, dtype=np.float32)
        assert np.array_equal(cache.read(rows), expected)


def test_many_small_runs_leave_few_shards(tmp_path: Path) -> None:
    small_runs(tmp_path, range(100))
    assert len(shards(tmp_path)) < 33
    assert_right(tmp_path, 100)


def test_a_few_shards_are_left_alone(tmp_path: Path) -> None:
    small_runs(tmp_path, range(10))
    assert len(shards(tmp_path)) == 10


def test_a_run_that_adds_nothing_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_runs(tmp_path, range(10))
    monkeypatch.setattr(compaction, "_MANY", 4)
    before = shards(tmp_path)
    assert_right(tmp_path, 10)
    assert shards(tmp_path) == before


def test_large_shards_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_runs(tmp_path, range(10))
    monkeypatch.setattr(compaction, "_MANY", 4)
    monkeypatch.setattr(compaction, "_SMALL_BYTES", 100)
    assert merge_small_shards(tmp_path / FINGERPRINT.folder_name, FINGERPRINT) == 0


def test_a_damaged_shard_is_set_aside_and_the_others_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_runs(tmp_path, range(10))
    (tmp_path / FINGERPRINT.folder_name / "shard-bad.h5").write_bytes(b"rubbish")
    monkeypatch.setattr(compaction, "_MANY", 4)
    assert merge_small_shards(tmp_path / FINGERPRINT.folder_name, FINGERPRINT) == 10
    assert len(shards(tmp_path)) == 1
    assert_right(tmp_path, 10)


def test_shards_stay_while_somebody_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_runs(tmp_path, range(10))
    monkeypatch.setattr(compaction, "_MANY", 4)
    with BottleneckCache(tmp_path, FINGERPRINT) as reader:
        rows = reader.find(keys_of(range(10)))
        small_runs(tmp_path, range(10, 12))
        assert len(shards(tmp_path)) == 12
        assert reader.read(rows)[3, 0] == 3


def test_without_locks_nothing_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks here")

    small_runs(tmp_path, range(10))
    monkeypatch.setattr(compaction, "_MANY", 4)
    monkeypatch.setattr(fcntl, "flock", refuse)
    small_runs(tmp_path, range(10, 12))
    assert len(shards(tmp_path)) == 12


def test_a_full_disk_leaves_the_shards_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    small_runs(tmp_path, range(10))
    monkeypatch.setattr(compaction, "_MANY", 4)
    monkeypatch.setattr(compaction, "write_shard", full)
    small_runs(tmp_path, range(10, 12))
    assert len(shards(tmp_path)) == 12
    assert_right(tmp_path, 12)


@pytest.mark.crash
def test_a_kill_at_any_moment_of_merging_loses_nothing(tmp_path: Path) -> None:
    generator = random.Random(0)
    acknowledged = -1
    for _ in range(KILLS):
        arguments = [str(tmp_path), json.dumps(FINGERPRINT.to_dict()), str(acknowledged + 1)]
        with subprocess.Popen(
            [sys.executable, "-c", RUNS, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as child:
            assert child.stdout is not None
            # Runs that merge are every third or so: a kill after some of them is in one of those.
            first = [child.stdout.readline() for _ in range(generator.randint(2, 9))]
            time.sleep(generator.uniform(0, 0.01))
            child.kill()
            lines = [*first, *child.stdout.read().splitlines()]
        # The last line may have been cut.
        acknowledged = max([acknowledged, *map(int, lines[:-1])])
        if acknowledged >= 0:
            assert_right(tmp_path, acknowledged + 1)
    # Else the kills were not where they hurt.
    assert acknowledged > 6 * KILLS
    assert len(shards(tmp_path)) < acknowledged / 6
