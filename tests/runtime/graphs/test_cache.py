"""Optimised graphs are kept, checked, and never the reason for another answer or a failed start."""

import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fic_runtime.bundle import open_bundle
from fic_runtime.classifier import Classifier
from fic_runtime.devices import CPU, CUDA
from fic_runtime.graphs import cache as graph_cache
from fic_runtime.graphs import graph as graphs
from fic_runtime.graphs import optimised, sessions
from fic_runtime.graphs.cache import GraphCache, cache_folder
from fic_runtime.graphs.graph import Graph
from fic_runtime.graphs.int8_sums import int8_sums_saturate

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Turn the cache on for graphs as small as the golden ones."""
    int8_sums_saturate()  # which keeps what it found, once for this process
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(graphs, "LEAST_BYTES", 1000)
    return tmp_path / "cache/graphs"


@pytest.fixture
def opened(golden, folder, monkeypatch):
    """Record the models that sessions are opened of: the golden files, or the names of entries."""
    models = []
    real = onnxruntime.InferenceSession

    def session(model, options, **rest):
        names = {golden / name: name for name in ("base.onnx", "head.onnx")}
        names |= {graph: graph.parent.name for graph in folder.glob("*/graph.onnx")}
        if isinstance(model, bytes) and b"QLinearConv" not in model:  # that of int8_sums
            models.append(next(name for file, name in names.items() if file.read_bytes() == model))
        return real(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return models


@pytest.fixture
def expected(golden):
    with Classifier(golden, device="cpu", graph_cache=False) as classifier:
        return classifier.predict(IMAGE).probabilities.tobytes()


def answer(bundle):
    with Classifier(bundle, device="cpu") as classifier:
        return classifier.predict(IMAGE).probabilities.tobytes()


def bound_name(entry):
    """Return how an entry would be called that holds what this one does."""
    return graph_cache._bound(entry.name.partition("-")[0], graph_cache._read_entry(entry))


def one_bit_changed(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def entries(folder):
    return sorted(file.name for file in folder.iterdir())


def test_the_second_start_opens_the_optimised_graph_and_gives_the_same_answer(
    golden, folder, expected, opened
):
    assert answer(golden) == expected
    (entry,) = entries(folder)
    # Of the very file that was written, as later starts are: all have the same answers.
    assert opened == ["base.onnx", entry, "head.onnx"]
    del opened[:]
    assert answer(golden) == expected
    assert opened == [entry, "head.onnx"]
    assert entries(folder) == [entry]


def test_an_archive_and_a_folder_share_the_optimised_graph(golden, folder, tmp_path, expected):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", golden)
    assert answer(archive) == answer(golden) == expected
    assert len(entries(folder)) == 1


@pytest.mark.parametrize("file", ["graph.onnx", "weights"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(b"not a graph"),
        lambda file: file.write_bytes(one_bit_changed(file.read_bytes())),
        lambda file: file.unlink(),
    ],
    ids=["empty", "cut off", "another file", "one bit", "gone"],
)
def test_a_damaged_entry_is_made_again(golden, folder, expected, opened, damage, file, caplog):
    answer(golden)
    (entry,) = folder.iterdir()
    damage(entry / file)
    del opened[:]
    with caplog.at_level(logging.WARNING, logger="fic_runtime"):
        assert answer(golden) == expected
    assert opened == ["base.onnx", *entries(folder), "head.onnx"]
    assert "damaged" in caplog.text
    del opened[:]
    assert answer(golden) == expected
    assert opened == [*entries(folder), "head.onnx"]


def test_an_entry_that_onnx_runtime_does_not_open_is_made_again(golden, folder, expected):
    answer(golden)
    (entry,) = folder.iterdir()
    (entry / "graph.onnx").write_bytes((golden / "labels.txt").read_bytes())
    broken = entry.rename(entry.with_name(bound_name(entry)))
    assert answer(golden) == expected
    assert broken.name not in entries(folder)
    assert len(entries(folder)) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda patch: patch.setattr(onnxruntime, "__version__", "9.9.9"),
        lambda patch: patch.setattr(graph_cache, "_processor", lambda: "avx1024"),
        lambda patch: patch.setattr(graph_cache, "_FORM", "next"),
    ],
    ids=["ONNX Runtime", "processor", "fic's options"],
)
def test_an_entry_counts_for_one_version_and_one_processor(
    golden, folder, expected, opened, other, monkeypatch
):
    answer(golden)
    del opened[:]
    other(monkeypatch)
    assert answer(golden) == expected
    assert opened[0] == "base.onnx"
    assert len(entries(folder)) == 2


def test_another_graph_has_an_entry_of_its_own(golden, folder):
    for digest in ("one", "two"):
        Graph(golden / "base.onnx", device="cpu", digest=digest)
    assert len(entries(folder)) == 2


def test_weights_in_a_file_of_their_own_count_as_part_of_the_graph(golden):
    opened = open_bundle(golden)
    alone = opened.graph_digest("base.onnx")
    opened.weights["base.onnx"] = ("head.onnx",)
    assert opened.graph_digest("base.onnx") == f"{alone} {opened.graph_digest('head.onnx')}"


def test_a_small_graph_is_not_kept(golden, tmp_path, monkeypatch):
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "cache"))
    answer(golden)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_the_cache_can_be_turned_off(golden, folder, expected, how, monkeypatch):
    if how == "environment":
        monkeypatch.setenv("FIC_CACHE_DIR", "")
    with Classifier(golden, graph_cache=how == "environment") as classifier:
        assert classifier.predict(IMAGE).probabilities.tobytes() == expected
    assert not folder.exists()


def test_graphs_on_other_devices_are_not_kept(golden, folder, monkeypatch):
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, **_: real(path, options, providers=[CPU]),
    )
    Graph(golden / "base.onnx", device="auto", digest="one")
    assert not folder.exists()


@pytest.mark.parametrize("place", ["a file", "nowhere", "read-only"])
def test_a_folder_that_cannot_be_written_is_no_error(
    golden, expected, tmp_path, monkeypatch, place
):
    monkeypatch.setattr(graphs, "LEAST_BYTES", 1000)
    where = tmp_path / "cache"
    if place == "a file":
        where.write_text("")
    elif place == "nowhere":
        where = Path(os.devnull, "cache")
    else:
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            pytest.skip("whoever may write everywhere is not kept out")
        where.mkdir(mode=0o500)
    monkeypatch.setattr(graph_cache, "cache_folder", lambda: where)
    assert answer(golden) == expected


def test_a_full_disk_is_no_error(golden, folder, expected, monkeypatch, caplog):
    real = onnxruntime.InferenceSession

    def session(model, options, **rest):
        if options.optimized_model_filepath:
            Path(options.optimized_model_filepath).write_bytes(b"half")
            raise RuntimeError("No space left on device")
        return real(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with caplog.at_level(logging.INFO, logger="fic_runtime"):
        assert answer(golden) == expected
    assert "No space left on device" in caplog.text
    assert entries(folder) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner in this sense")
@pytest.mark.parametrize("file", ["graph.onnx", "weights"])
def test_an_entry_of_another_user_is_not_used(golden, folder, expected, opened, monkeypatch, file):
    answer(golden)
    (entry,) = folder.iterdir()
    real, number = os.fstat, (entry / file).stat().st_ino

    def fstat(descriptor):
        status = real(descriptor)
        return (
            os.stat_result((*status[:4], 54321, *status[5:10])) if status[1] == number else status
        )

    monkeypatch.setattr(os, "fstat", fstat)
    del opened[:]
    assert answer(golden) == expected
    assert opened[0] == "base.onnx"


POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no such owner or mode")


@POSIX
@pytest.mark.parametrize(
    "place",
    ["the folder", "a folder above", "an entry", "a graph", "weights", "a link", "a link within"],
)
def test_what_others_may_write_is_not_run(place, golden, folder, expected, opened, tmp_path):
    answer(golden)
    (entry,) = folder.iterdir()
    download = tmp_path / "download"
    if place == "a link":
        entry.rename(download)
        entry.symlink_to(download)
    elif place == "a link within":
        (entry / "weights").rename(download)
        (entry / "weights").symlink_to(download)
    else:
        {
            "the folder": folder,
            "a folder above": folder.parent,
            "an entry": entry,
            "a graph": entry / "graph.onnx",
            "weights": entry / "weights",
        }[place].chmod(0o777)
    del opened[:]
    assert answer(golden) == expected
    if place in ("the folder", "a folder above"):
        assert opened == ["base.onnx", "head.onnx"]
        assert entries(folder) == [entry.name]
    else:
        assert opened == ["base.onnx", *entries(folder), "head.onnx"]
        assert not entry.is_symlink()
        assert not (entry / "weights").is_symlink()
    if "link" in place:
        assert download.exists()


def test_an_entry_that_was_renamed_to_another_graph_is_not_run(golden, folder, expected, opened):
    answer(golden)
    (entry,) = folder.iterdir()
    Graph(golden / "base.onnx", device="cpu", digest="other")
    (other,) = (place for place in folder.iterdir() if place != entry)
    shutil.rmtree(entry)
    other.rename(entry.with_name(f"{entry.name.partition('-')[0]}-{other.name.partition('-')[2]}"))
    del opened[:]
    assert answer(golden) == expected
    assert opened[0] == "base.onnx"


@POSIX
def test_what_is_written_is_for_the_user_alone(golden, folder):
    before = os.umask(0)
    try:
        answer(golden)
    finally:
        os.umask(before)
    (entry,) = folder.iterdir()
    assert {file.stat().st_mode & 0o777 for file in entry.iterdir()} == {0o600}
    assert {place.stat().st_mode & 0o777 for place in (entry, folder)} == {0o700}


def test_many_starts_at_once_leave_whole_entries(golden, folder, expected):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(answer(golden))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8
    left = list(folder.iterdir())
    assert left
    for entry in left:
        assert bound_name(entry) == entry.name
    assert answer(golden) == expected


def test_entries_that_nobody_used_for_long_go_when_another_is_written(golden, folder):
    answer(golden)
    (used,) = folder.iterdir()
    long_ago = time.time() - graph_cache._MOST_SECONDS - 60
    unused = folder / f"{'0' * 32}-{'0' * 64}"
    earlier = folder / f"{'0' * 32}-{'0' * 64}.onnx"  # as they were when they were files
    unfinished = folder / f"{'0' * 32}.1-1.tmp"
    mine = folder / "mine.onnx"
    for place in (unused, unfinished):
        place.mkdir()
        (place / "graph.onnx").write_bytes(b"x")
    for place in (unused, earlier, unfinished, mine):
        place.exists() or place.write_bytes(b"x")
        os.utime(place, (long_ago, long_ago))
    Graph(golden / "base.onnx", device="cpu", digest="another")
    assert used.name in entries(folder)
    assert not unused.exists()
    assert not earlier.exists()
    assert not unfinished.exists()
    assert mine.exists()  # not called as these files are


def test_the_oldest_entries_go_where_there_is_too_much(golden, folder, monkeypatch):
    cache = GraphCache(folder)
    monkeypatch.setattr(graph_cache, "_MOST_TOTAL", 3 * 4000)
    for number in range(5):
        with cache.writing(f"graph {number}") as unfinished:
            unfinished.write_bytes(bytes(1000))
            unfinished.with_name("weights").write_bytes(bytes(3000))
        for entry in folder.iterdir():
            if time.time() - entry.stat().st_mtime < 50:
                os.utime(entry, (time.time() - 100 + number,) * 2)
    assert [number for number in range(5) if cache.find(f"graph {number}")] == [2, 3, 4]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="has its own place for caches")
def test_the_folder_is_that_of_the_system(monkeypatch, tmp_path):
    for name in ("FIC_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/fic"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache/fic"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/fic"
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("FIC_CACHE_DIR", "")
    assert cache_folder() is None


def test_the_other_systems_have_their_own_places(monkeypatch, tmp_path):
    monkeypatch.delenv("FIC_CACHE_DIR", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(graph_cache.sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library/Caches/fic"
    monkeypatch.setattr(graph_cache.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local/fic"


def test_a_session_of_an_optimised_graph_is_not_optimised_again(golden, folder, monkeypatch):
    levels = []
    real = sessions.new_session
    monkeypatch.setattr(
        optimised,
        "new_session",
        lambda model, options: levels.append(options.optimise) or real(model, options),
    )
    for _ in range(2):
        Graph(golden / "base.onnx", device="cpu", digest="one")
    assert levels == [True, False, False]


def picture(golden_graph):
    return np.zeros((1, *golden_graph.input.shape[1:]), np.uint8)


def test_a_graph_with_one_thread_shares_the_weights_and_answers_the_same(golden, folder):
    graph = Graph(golden / "base.onnx", device="cpu", digest="one", threads=2)
    alone = graph.with_one_thread()
    assert (graph.threads, alone.threads) == (2, 1)
    assert alone is graph.with_one_thread()
    assert alone is alone.with_one_thread()
    np.testing.assert_array_equal(graph.run(picture(graph)), alone.run(picture(graph)))
    maps = Path("/proc/self/maps")
    if maps.exists():
        (entry,) = folder.iterdir()
        assert maps.read_text().count(str(entry / "weights")) == 1


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_graph_that_is_not_kept_has_one_thread_where_asked_all_the_same(
    golden, tmp_path, monkeypatch, size
):
    if size == "large":
        monkeypatch.setattr(graphs, "LEAST_BYTES", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    graph = Graph(golden / "base.onnx", device="cpu", threads=2)
    before = graph.run(picture(graph))
    assert graph.with_one_thread().threads == 1
    np.testing.assert_array_equal(graph.with_one_thread().run(picture(graph)), before)
    np.testing.assert_array_equal(graph.run(picture(graph)), before)
    assert entries(tmp_path) == []


def test_a_graph_has_all_its_threads_where_its_weights_cannot_be_shared(
    golden, tmp_path, monkeypatch
):
    monkeypatch.setattr(graphs, "LEAST_BYTES", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    graph = Graph(golden / "base.onnx", device="cpu", threads=2)
    assert graph.with_one_thread() is graph
    assert graph.run(picture(graph)).shape == (1, *graph.output.shape[1:])


def test_an_entry_that_goes_while_it_is_used_changes_no_answer(golden, folder):
    graph = Graph(golden / "base.onnx", device="cpu", digest="one", threads=2)
    before = graph.run(picture(graph))
    shutil.rmtree(folder)
    np.testing.assert_array_equal(graph.run(picture(graph)), before)
    np.testing.assert_array_equal(graph.with_one_thread().run(picture(graph)), before)
