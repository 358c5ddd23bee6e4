import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from fic.heads.keras_files import save_head


def make_head() -> keras.Model:
    """A layer of the same policy as another is written as a shared object."""
    policy = keras.DTypePolicy("float32")
    inputs = keras.Input((3,), name="bottleneck")
    hidden = keras.layers.Dense(4, dtype=policy, kernel_initializer="ones", name="hidden")(inputs)
    outputs = keras.layers.Dense(2, dtype=policy, kernel_initializer="ones", name="out")(hidden)
    return keras.Model(inputs, outputs, name="head")


def test_the_same_head_gives_the_same_bytes_at_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_head(make_head(), tmp_path / "one.keras")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        save_head(make_head(), tmp_path / "two.keras")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()


def test_keras_alone_would_give_other_bytes(tmp_path: Path) -> None:
    """Else this module would not be needed."""
    for name in ("one", "two"):
        make_head().save(tmp_path / f"{name}.keras")
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            (tmp_path / name).write_bytes(archive.read("config.json"))
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_a_saved_head_is_loaded_as_it_was(tmp_path: Path) -> None:
    head = make_head()
    head.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in head.get_weights()])
    save_head(head, tmp_path / "head.keras")
    loaded = keras.models.load_model(tmp_path / "head.keras")
    for mine, other in zip(loaded.get_weights(), head.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert list(tmp_path.iterdir()) == [tmp_path / "head.keras"]
