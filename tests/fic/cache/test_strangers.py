"""What somebody who may write a cache can leave there: it costs time, and never more than that."""

import fcntl
import json
import logging
import os
import resource
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from fic.cache import BottleneckCache
from fic.cache.keys import make_keys
from fic.cache.locks import hold_exclusively
from fic.cache.maintenance import cache_info, compact_cache, prune_cache, verify_cache
from fic.cache.shards import row_checksums, write_shard
from fic.digests import digest_bytes
from fic.errors import CacheError
from tests.fic.cache.conftest import FINGERPRINT as TINY

FINGERPRINT = replace(TINY, shape=(64,))
KEYS = make_keys((digest_bytes(str(number).encode()), 0) for number in range(8))
FEATURES = np.arange(8 * 64, dtype=np.float32).reshape(8, 64)
NAME = f"shard-{'0' * 32}.h5"
Plant = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a cache that holds the first eight bottlenecks."""
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, cache.writer() as writer:
        writer.add(KEYS, FEATURES)
    return tmp_path / FINGERPRINT.folder_name


@contextmanager
def little_memory() -> Iterator[None]:
    """Allow half a gigabyte more than there is now, where the system can."""
    if not Path("/proc/self/statm").exists():
        yield
        return
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 29), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def shard(path: Path, **data_sets: object) -> None:
    """Write a shard with other data sets: arrays, or functions that make them."""
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = 1
        file.attrs["fingerprint"] = np.bytes_(FINGERPRINT.digest)
        usual = {
            "keys": KEYS.view(np.uint8).reshape(-1, 20),
            "checksums": row_checksums(KEYS, FEATURES.view(np.uint8).reshape(8, -1)),
            "features": FEATURES,
        }
        for name, values in {**usual, **data_sets}.items():
            if callable(values):
                values(file)
            else:
                file[name] = values


def external(path: Path) -> None:
    secret = path.parent.parent / "id_ecdsa"
    secret.write_bytes(b"-----BEGIN PRIVATE KEY-----".ljust(160, b"x"))
    shard(path, keys=lambda file: file.create_dataset("keys", (8, 20), "u1", external=str(secret)))


def external_link(path: Path) -> None:
    shard(path.parent.parent / "other.h5")
    link = h5py.ExternalLink("../other.h5", "keys")
    shard(path, keys=lambda file: file.__setitem__("keys", link))


def soft_link(path: Path) -> None:
    shard(path, keys=lambda file: file.__setitem__("keys", h5py.SoftLink("/elsewhere")))


def virtual(path: Path) -> None:
    shard(path.parent.parent / "other.h5")

    def make(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((8, 20), "u1")
        layout[:] = h5py.VirtualSource("../other.h5", "keys", (8, 20))
        file.create_virtual_dataset("keys", layout)

    shard(path, keys=make)


def many_rows(path: Path, count: int = 60_000_000) -> None:
    shard(
        path,
        keys=lambda file: file.create_dataset("keys", (count, 20), "u1", chunks=(100_000, 20)),
        checksums=lambda file: file.create_dataset("checksums", (count,), "u4", chunks=(100_000,)),
        features=lambda file: file.create_dataset("features", (count, 64), "<f4", chunks=(1, 64)),
    )


def far_too_many_rows(path: Path) -> None:
    many_rows(path, 60_000_000_000)


def packed_keys(path: Path) -> None:
    """Five million keys in some kB."""
    keys = np.zeros((5_000_000, 20), np.uint8)
    options = {"compression": 9, "chunks": (500_000, 20)}
    shard(path, keys=lambda file: file.create_dataset("keys", data=keys, **options))


def contiguous_past_the_end(path: Path) -> None:
    shard(path)
    os.truncate(path, path.stat().st_size - 600)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except OSError:
        pytest.skip("no device can be made here")


def a_link(path: Path) -> None:
    shard(path.parent.parent / "other.h5")
    path.symlink_to(path.parent.parent / "other.h5")


def a_link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


PLANTS = (
    *(external, external_link, soft_link, virtual, many_rows, far_too_many_rows, packed_keys),
    *(contiguous_past_the_end, a_pipe, a_folder, a_device, a_link, a_link_to_zeros),
)


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_shard_is_set_aside_and_the_others_are_used(
    folder: Path, plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant(folder / NAME)
    with (
        caplog.at_level(logging.WARNING, "fic"),
        little_memory(),
        BottleneckCache(folder.parent, FINGERPRINT) as cache,
    ):
        rows = cache.find(KEYS)
        assert np.array_equal(cache.read(rows), FEATURES)
    assert "set aside" in caplog.text
    assert not os.path.lexists(folder / NAME)
    assert os.path.lexists(folder / f"damaged-{NAME}")


@pytest.mark.parametrize("plant", PLANTS)
def test_maintenance_sets_aside_what_is_no_shard(folder: Path, plant: Plant) -> None:
    plant(folder / NAME)
    with little_memory():
        (info,) = cache_info(folder.parent)
        assert info.damaged == (folder / NAME,)
        assert len(verify_cache(folder.parent).damaged) == 1
        compact_cache(folder.parent)
    with BottleneckCache(folder.parent, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(KEYS)), FEATURES)


def test_a_row_that_unpacks_to_gigabytes_is_damaged(folder: Path) -> None:
    (whole,) = folder.glob("shard-*")
    whole.unlink()
    packer = zlib.compressobj(9)
    bomb = b"".join([packer.compress(bytes(1 << 20)) for _ in range(700)] + [packer.flush()])
    sums = row_checksums(KEYS, FEATURES.view(np.uint8).reshape(8, -1))
    rows = [bomb] + [zlib.compress(row.tobytes()) for row in FEATURES[1:]]
    write_shard(folder, FINGERPRINT, KEYS, sums, rows, "gzip")
    with little_memory(), BottleneckCache(folder.parent, FINGERPRINT) as cache:
        assert (cache.find(KEYS) == -1).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bottlenecks_that_are_no_numbers_are_damage(
    tmp_path: Path, dtype: str, value: float
) -> None:
    fingerprint = replace(FINGERPRINT, dtype=dtype)
    with BottleneckCache(tmp_path, fingerprint):
        features = FEATURES.astype(dtype)
        features[3, 5] = value
        raw = features.view(np.uint8).reshape(8, -1)
        rows = [row.tobytes() for row in features]
        folder = tmp_path / fingerprint.folder_name
        write_shard(folder, fingerprint, KEYS, row_checksums(KEYS, raw), rows, "none")
    with BottleneckCache(tmp_path, fingerprint) as cache:
        assert (cache.find(KEYS) == -1).all()


@pytest.mark.parametrize("name", ["tmp-0123456789abcdef", "lock", "fingerprint.json"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_cache_is_opened_past_pipes_and_links(
    folder: Path, name: str, kind: str, tmp_path: Path
) -> None:
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(tmp_path / "made")
    with BottleneckCache(tmp_path, FINGERPRINT) as cache:
        assert np.array_equal(cache.read(cache.find(KEYS)), FEATURES)
    assert not (tmp_path / "made").exists()


def test_the_time_of_what_a_link_leads_to_stays(folder: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    os.utime(precious, (1, 1))
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(precious)
    BottleneckCache(tmp_path, FINGERPRINT).close()
    assert precious.stat().st_mtime == 1


def test_a_folder_of_a_cache_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FINGERPRINT.folder_name).symlink_to(tmp_path / "home")
    with pytest.raises(CacheError, match="it is a link, which is not followed within a cache"):
        BottleneckCache(tmp_path / "cache", FINGERPRINT)
    assert list((tmp_path / "home").iterdir()) == []


def test_a_cache_may_itself_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder.parent)
    with BottleneckCache(tmp_path / "link", FINGERPRINT) as cache:
        assert (cache.find(KEYS) >= 0).all()


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "null", json.dumps({"base": "../x"})])
def test_maintenance_leaves_out_what_is_no_folder_of_a_cache(
    folder: Path, text: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/fingerprint.json").write_text(text)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/fingerprint.json")
    (tmp_path / "linked").symlink_to(folder)
    assert [info.path for info in cache_info(tmp_path)] == [folder]


def test_pruning_leaves_what_fic_did_not_write(folder: Path, tmp_path: Path) -> None:
    (folder / "thesis.txt").write_text("precious")
    prune_cache(tmp_path, fingerprints=[folder.name])
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    with BottleneckCache(tmp_path, FINGERPRINT) as cache, cache.writer() as writer:
        writer.add(KEYS, FEATURES)
    prune_cache(tmp_path, fingerprints=[folder.name])
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="Linux alone tells readers")
def test_a_lock_of_one_who_may_only_read_is_not_waited_for(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = os.open(folder / "lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_EX)
    try:
        with (
            caplog.at_level(logging.WARNING, "fic"),
            BottleneckCache(folder.parent, FINGERPRINT) as cache,
        ):
            assert (cache.find(KEYS) >= 0).all()
            assert "held by one who may only read" in caplog.text
            # Who went on so is in nobody's way, and nobody compacts what is being read.
            with (
                pytest.raises(CacheError, match="in use by another process"),
                hold_exclusively(folder),
            ):
                raise AssertionError("compacted while it is read")
    finally:
        os.close(reader)


def test_one_who_compacts_is_waited_for(folder: Path) -> None:
    opened: list[float] = []

    def use() -> None:
        BottleneckCache(folder.parent, FINGERPRINT).close()
        opened.append(time.monotonic())

    with hold_exclusively(folder):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join(0.3)
        assert opened == []
    thread.join(10)
    assert len(opened) == 1
