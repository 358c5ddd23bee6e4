import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fic.bases import find_base
from fic.bases import models as base_models
from fic.bases.frozen import FrozenBase
from fic.bases.models import build_base
from fic.bottlenecks import fill_cache
from fic.data import Source
from fic.errors import BaseOptionError, CacheError, UnknownBaseError, WeightsError
from fic.options import BaseOptions, CacheOptions


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return this user's folder of caches, which knows no base."""
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "machine"))
    return tmp_path / "machine"


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("a Keras base was built")

    monkeypatch.setattr(base_models, "build_base", build)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two files of weights for the same base."""
    files = []
    for seed in (1, 2):
        model = build_base(find_base("mobilenet_0.25"), weights="none", size=32, seed=seed)
        files.append(tmp_path_factory.mktemp("weights") / f"{seed}.weights.h5")
        model.save_weights(files[-1])
    return files[0], files[1]


def test_a_base_that_is_remembered_is_not_built(
    base: BaseOptions, warm: CacheOptions, nothing_is_built: None
) -> None:
    frozen = FrozenBase(base, warm.bottleneck_dir)
    assert frozen.folder.is_dir()
    assert frozen.fingerprint.shape == (256,)
    assert frozen.graph_file().is_file()


def test_other_spellings_of_a_name_are_the_same_base(
    base: BaseOptions, warm: CacheOptions, nothing_is_built: None
) -> None:
    frozen = FrozenBase(replace(base, base_model="MobileNet-0.25"), warm.bottleneck_dir)
    assert frozen.folder.is_dir()


def test_whatever_changes_a_bottleneck_changes_its_folder(
    base: BaseOptions, warm: CacheOptions, weights: tuple[Path, Path]
) -> None:
    others = [
        base,
        replace(base, image_size=48),
        replace(base, resize="crop"),
        replace(base, pooling="max"),
        replace(base, layer="conv_pw_1_relu"),
        replace(base, weights=str(weights[0])),
        replace(base, weights=str(weights[1])),
    ]
    folders = {FrozenBase(each, warm.bottleneck_dir).folder for each in others}
    folders.add(FrozenBase(base, warm.bottleneck_dir, dtype="float16").folder)
    assert len(folders) == len(others) + 1


def test_another_file_of_weights_under_the_same_name_hits_nothing(
    base: BaseOptions,
    tmp_path: Path,
    photos: Path,
    weights: tuple[Path, Path],
) -> None:
    options = replace(base, weights=str(tmp_path / "my.weights.h5"))
    cache = CacheOptions(bottleneck_dir=tmp_path / "fresh", engine="keras")
    uses = []
    for file in weights:
        shutil.copy(file, options.weights)
        uses.append(fill_cache(Source(data=photos), base=options, cache=cache))
    assert [(use.hits, use.extracted) for use in uses] == [(0, 24), (0, 24)]


def test_a_run_does_not_take_other_weights_for_its_own(
    base: BaseOptions, tmp_path: Path, weights: tuple[Path, Path]
) -> None:
    options = replace(base, weights=str(tmp_path / "my.weights.h5"))
    shutil.copy(weights[0], options.weights)
    fingerprint = FrozenBase(options, tmp_path / "cache").fingerprint
    shutil.copy(weights[1], options.weights)
    with pytest.raises(WeightsError, match="are not those of the run"):
        _ = FrozenBase(options, tmp_path / "cache", fingerprint=fingerprint).model


def test_weights_that_are_not_there_are_named(base: BaseOptions, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"my\.h5: cannot be read \(No such file"):
        _ = FrozenBase(replace(base, weights="my.h5"), tmp_path).fingerprint


def test_an_unknown_base_is_refused_at_once(base: BaseOptions, tmp_path: Path) -> None:
    with pytest.raises(UnknownBaseError, match="nearest are"):
        FrozenBase(replace(base, base_model="mobilnet"), tmp_path)


def test_a_size_that_the_base_does_not_accept_is_refused(base: BaseOptions, tmp_path: Path) -> None:
    with pytest.raises(BaseOptionError, match="too small"):
        _ = FrozenBase(replace(base, image_size=8), tmp_path).fingerprint


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"shape": 3}', b"\xff"])
def test_a_damaged_recipe_is_made_again(
    base: BaseOptions, warm: CacheOptions, content: bytes
) -> None:
    expected = FrozenBase(base, warm.bottleneck_dir).fingerprint
    (recipe,) = (warm.bottleneck_dir / "recipes").iterdir()
    recipe.write_bytes(content)
    assert FrozenBase(base, warm.bottleneck_dir).fingerprint == expected
    assert recipe.read_bytes() != content


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_graph_is_converted_again(
    base: BaseOptions, warm: CacheOptions, damage: str
) -> None:
    graph = FrozenBase(base, warm.bottleneck_dir).graph_file()
    whole = graph.read_bytes()
    if damage == "cut":
        graph.write_bytes(whole[: len(whole) // 2])
    else:
        graph.unlink()
    assert FrozenBase(base, warm.bottleneck_dir).graph_file() == graph
    assert len(graph.read_bytes()) == len(whole)


def test_a_full_disk_leaves_the_old_file_and_no_other(
    base: BaseOptions, warm: CacheOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (recipe,) = (warm.bottleneck_dir / "recipes").iterdir()
    recipe.write_text("{")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CacheError, match="No space left on device"):
        _ = FrozenBase(base, warm.bottleneck_dir).fingerprint
    assert list(recipe.parent.iterdir()) == [recipe]
    assert recipe.read_text() == "{"


def converted(base: BaseOptions, cache: Path) -> Path:
    return FrozenBase(base, cache).graph_file()


def test_a_base_is_built_and_converted_once_for_all_caches(
    base: BaseOptions, tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = converted(base, tmp_path / "one")
    monkeypatch.setattr(base_models, "build_base", None)
    second = FrozenBase(base, tmp_path / "two")
    assert second.has_graph
    assert second.graph_file().read_bytes() == first.read_bytes()
    assert second.graph_file().is_relative_to(machine / "bases")
    assert second.graph_file().stat().st_mode & 0o022 == 0
    # With caches turned off, each cache of bottlenecks has only what it holds itself.
    monkeypatch.setenv("FIC_CACHE_DIR", "")
    assert not FrozenBase(base, tmp_path / "two").has_graph


@pytest.mark.parametrize("damage", ["cut", "another converter", "others may write"])
def test_a_graph_of_the_machine_that_is_not_to_be_trusted_is_made_anew(
    base: BaseOptions, tmp_path: Path, machine: Path, damage: str
) -> None:
    whole = converted(base, tmp_path / "one").read_bytes()
    (graph,) = (machine / "bases").glob("*/base.onnx")
    if damage == "cut":
        graph.write_bytes(whole[:-1])
    elif damage == "others may write":
        graph.chmod(0o666)
    else:
        note = graph.with_name("base.json")
        note.write_text(note.read_text().replace("tf2onnx", "tf3onnx"))
    second = FrozenBase(base, tmp_path / "two")
    assert not second.has_graph
    assert second.graph_file().read_bytes() == whole
    assert FrozenBase(base, tmp_path / "three").has_graph


def test_the_weights_of_another_folder_of_keras_are_other_weights(
    base: BaseOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = FrozenBase(base, tmp_path / "one").fingerprint
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(base_models, "build_base", None)
    with pytest.raises(TypeError):
        _ = FrozenBase(base, tmp_path / "two").fingerprint


def test_graphs_that_were_not_used_for_long_are_removed(
    base: BaseOptions, tmp_path: Path, machine: Path
) -> None:
    converted(base, tmp_path / "one")
    (graph,) = (machine / "bases").glob("*/base.onnx")
    os.utime(graph, (0, 0))
    converted(replace(base, pooling="max"), tmp_path / "one")
    assert not graph.exists()
    assert len([*(machine / "bases").glob("*/base.onnx")]) == 1
