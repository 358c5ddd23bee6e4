"""Whose graph of a base is believed: one that nobody else can have put there."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fic.bases.frozen import FrozenBase, is_cache
from fic.fingerprint import Fingerprint
from fic.options import BaseOptions, CacheOptions

PLANTED = b"planted"
Change = Callable[[Path], None]


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return this user's own folder of caches."""
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "own"))
    return tmp_path / "own"


def plant(folder: Path) -> None:
    """Put another graph in the place of the right one, with its checksum."""
    note = json.loads((folder / "base.json").read_bytes())
    note["sha256"] = hashlib.sha256(PLANTED).hexdigest()
    (folder / "base.onnx").write_bytes(PLANTED)
    (folder / "base.json").write_text(json.dumps(note))


def others_may_write(folder: Path) -> None:
    plant(folder)
    folder.chmod(0o777)


def a_group_may_write(folder: Path) -> None:
    plant(folder)
    folder.chmod(0o775)


def others_may_write_above(folder: Path) -> None:
    plant(folder)
    folder.parent.chmod(0o777)


def others_may_write_the_file(folder: Path) -> None:
    plant(folder)
    (folder / "base.onnx").chmod(0o666)


def a_link(folder: Path) -> None:
    plant(folder)
    (folder / "base.onnx").rename(folder.parent / "elsewhere")
    (folder / "base.onnx").symlink_to(folder.parent / "elsewhere")


def a_pipe(folder: Path) -> None:
    (folder / "base.onnx").unlink()
    os.mkfifo(folder / "base.onnx")


def a_note_that_is_a_pipe(folder: Path) -> None:
    plant(folder)
    (folder / "base.json").unlink()
    os.mkfifo(folder / "base.json")


def another_user_owns_it(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    plant(folder)
    os.chown(folder, 12345, 12345)


def another_user_owns_the_file(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    plant(folder)
    os.chown(folder / "base.onnx", 12345, 12345)


OTHERS = (others_may_write, a_group_may_write, others_may_write_above, another_user_owns_it)
FILES = (
    *(others_may_write_the_file, another_user_owns_the_file),
    *(a_link, a_pipe, a_note_that_is_a_pipe),
)


@pytest.mark.parametrize("change", [*OTHERS, *FILES])
def test_a_graph_that_others_may_have_written_is_made_anew(
    base: BaseOptions, warm: CacheOptions, own_caches: Path, change: Change
) -> None:
    folder = FrozenBase(base, warm.bottleneck_dir).folder
    change(folder)
    frozen = FrozenBase(base, warm.bottleneck_dir)
    assert not frozen.has_graph
    file = frozen.graph_file()
    assert frozen.has_graph
    assert file.read_bytes()[:100] != PLANTED
    assert not file.is_symlink()
    assert file.is_relative_to(own_caches if change in OTHERS else folder)
    # Bottlenecks are found in the folder as before.
    assert frozen.folder == folder


def test_a_graph_of_ones_own_is_used_beside_its_bottlenecks(
    base: BaseOptions, warm: CacheOptions, own_caches: Path
) -> None:
    frozen = FrozenBase(base, warm.bottleneck_dir)
    assert frozen.has_graph
    assert frozen.graph_file() == frozen.folder / "base.onnx"
    assert not own_caches.exists()


def test_a_shared_folder_is_told_of_in_one_line_and_its_graph_kept(
    base: BaseOptions, warm: CacheOptions, own_caches: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warm.bottleneck_dir.chmod(0o2775)
    with caplog.at_level(logging.WARNING, "fic"):
        first = FrozenBase(base, warm.bottleneck_dir).graph_file()
    assert caplog.messages == [
        f"{warm.bottleneck_dir}: others may write to it; so the graph of the base is kept in "
        f"{first.parent}"
    ]
    assert FrozenBase(base, warm.bottleneck_dir).has_graph
    assert first.parent.stat().st_mode & 0o077 == 0


def test_without_a_folder_of_ones_own_a_graph_is_made_and_not_kept(
    base: BaseOptions, warm: CacheOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIC_CACHE_DIR", "")
    warm.bottleneck_dir.chmod(0o777)
    frozen = FrozenBase(base, warm.bottleneck_dir)
    file = frozen.graph_file()
    assert file.stat().st_size > 10_000
    del frozen
    assert not file.parent.exists()


@pytest.mark.parametrize("kind", ["pipe", "deep", "link", "digest", "shape"])
def test_a_recipe_that_makes_no_sense_counts_as_absent(
    base: BaseOptions, warm: CacheOptions, kind: str, tmp_path: Path
) -> None:
    expected = FrozenBase(base, warm.bottleneck_dir).fingerprint
    (recipe,) = (warm.bottleneck_dir / "recipes").iterdir()
    values = json.loads(recipe.read_bytes())
    recipe.unlink()
    if kind == "pipe":
        os.mkfifo(recipe)
    elif kind == "deep":
        recipe.write_text("[" * 100_000)
    elif kind == "link":
        (tmp_path / "values").write_text(json.dumps({**values, "weights_digest": "00"}))
        recipe.symlink_to(tmp_path / "values")
    else:
        other = {"digest": {"weights_digest": "../.."}, "shape": {"shape": [1 << 40]}}[kind]
        recipe.write_text(json.dumps({**values, **other}))
    assert FrozenBase(base, warm.bottleneck_dir).fingerprint == expected
    assert recipe.is_file()
    assert not recipe.is_symlink()


def test_recipes_are_not_written_through_a_link(
    base: BaseOptions, warm: CacheOptions, tmp_path: Path
) -> None:
    shutil.rmtree(warm.bottleneck_dir / "recipes")
    (tmp_path / "home").mkdir()
    (warm.bottleneck_dir / "recipes").symlink_to(tmp_path / "home")
    assert isinstance(FrozenBase(base, warm.bottleneck_dir).fingerprint, Fingerprint)
    assert list((tmp_path / "home").iterdir()) == []


def test_a_cache_is_told_by_what_fic_writes(warm: CacheOptions, tmp_path: Path) -> None:
    assert is_cache(warm.bottleneck_dir)
    shutil.rmtree(warm.bottleneck_dir / "recipes")
    assert is_cache(warm.bottleneck_dir)
    other = tmp_path / "kitchen"
    (other / "recipes").mkdir(parents=True)
    (other / "recipes/soup.json").touch()
    (other / "files.sqlite").touch()
    assert not is_cache(other)
    assert not is_cache(tmp_path / "gone")
    assert not is_cache(tmp_path / ("x" * 1000))
