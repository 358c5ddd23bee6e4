"""Keras computes as fic needs it, whatever it is set to elsewhere, and as before afterwards."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from fic.bases import find_base
from fic.bases.keras_setup import _import_as_wanted, keras_settings
from fic.bases.models import build_base, weights_digest
from fic.bases.weights import locking_remedy
from fic.errors import FicError

TRAIN = """
import sys
from fic import BaseOptions, CacheOptions, Run, Source, TrainingOptions, train
data, out, cache = sys.argv[1:4]
run = train(
    Source(data=data, val_split=0.25),
    out=out,
    base=BaseOptions(base_model="mobilenet_0.25", weights="none", image_size=32),
    cache=CacheOptions(bottleneck_dir=cache),
    options=TrainingOptions(epochs=2),
)
import keras
print(keras.config.floatx(), keras.config.image_data_format(), keras.config.backend())
"""


def test_settings_are_fic_s_in_the_block_and_the_caller_s_afterwards() -> None:
    config = keras.config
    config.set_floatx("float16")
    config.set_image_data_format("channels_first")
    config.set_dtype_policy("mixed_float16")
    config.set_epsilon(1e-3)
    level = logging.getLogger("tensorflow").level
    try:
        with keras_settings():
            assert config.floatx() == config.dtype_policy().name == "float32"
            assert config.image_data_format() == "channels_last"
            assert config.epsilon() == 1e-7
            assert keras.layers.Dense(2).compute_dtype == "float32"
        assert (config.floatx(), config.epsilon()) == ("float16", 1e-3)
        assert config.image_data_format() == "channels_first"
        assert config.dtype_policy().name == "mixed_float16"
        assert logging.getLogger("tensorflow").level == level
    finally:
        config.set_floatx("float32")
        config.set_image_data_format("channels_last")
        config.set_dtype_policy("float32")
        config.set_epsilon(1e-7)


def test_another_backend_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(FicError, match="runs on torch in this process"), keras_settings():
        pass


@pytest.mark.parametrize(
    ("settings", "environment", "code"),
    [
        (
            {"floatx": "float64", "backend": "torch", "image_data_format": "channels_first"},
            {"KERAS_BACKEND": "jax"},
            0,
        ),
        ({"floatx": "float7"}, {}, 1),
    ],
)
def test_keras_json_and_the_environment_do_not_change_a_run(
    settings: dict[str, str],
    environment: dict[str, str],
    code: int,
    shared_photos: Path,
    cold_run: object,
    tmp_path: Path,
) -> None:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras/keras.json").write_text(json.dumps({"epsilon": 1e-7, **settings}))
    (tmp_path / "train.py").write_text(TRAIN)

    def run(name: str, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
        places = (shared_photos, tmp_path / name, tmp_path / f"cache {name}")
        return subprocess.run(
            [sys.executable, "-W", "ignore", tmp_path / "train.py", *places],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **more},
        )

    done = run("other", {**environment, "KERAS_HOME": str(tmp_path / "keras")})
    assert done.returncode == code, done.stderr
    if code:
        assert "correct or delete keras.json" in done.stderr.splitlines()[-1]
        return
    assert done.stdout.split() == ["float64", "channels_first", "tensorflow"]
    assert done.stderr == ""
    assert run("plain", {"KERAS_HOME": str(tmp_path / "none")}).returncode == 0
    heads = [(tmp_path / name / "head.keras").read_bytes() for name in ("other", "plain")]
    assert heads[0] == heads[1]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ImportError("libtensorflow.so: failed to map segment"), "free memory or install fic agai"),
        (FileNotFoundError(2, "No usable temporary directory found"), "needs a temporary folder"),
    ],
    ids=["memory", "temporary"],
)
def test_what_a_machine_lacks_is_not_laid_to_keras_json(error: Exception, says: str) -> None:
    def fail(_: object) -> None:
        raise error

    with contextlib.ExitStack() as undo, _import_as_wanted(undo):
        (waiting,) = (each for each in sys.meta_path if getattr(each, "_name", "") == "keras")
        with pytest.raises(FicError, match=says):
            waiting._load(fail, None)  # type: ignore[attr-defined]


def test_weights_in_a_home_that_cannot_be_written_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = find_base("mobilenet_0.25")
    model = build_base(base, weights="none", size=224)
    (tmp_path / "models").mkdir()
    model.save_weights(tmp_path / "models/mine.weights.h5")
    file = tmp_path / "models/mobilenet_2_5_224_tf_no_top.h5"
    (tmp_path / "models/mine.weights.h5").rename(file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, *more: path != tmp_path and access(path, *more))
    seen = []

    def load(self: object, path: str, **_: object) -> None:
        seen.append(Path(path))

    monkeypatch.setattr(keras.Model, "load_weights", load)
    monkeypatch.setattr("urllib.request.urlopen", None)  # nothing is downloaded
    build_base(base, weights="imagenet", size=224)
    assert [path.name for path in seen] == [file.name]
    assert weights_digest(model)


def test_a_file_system_without_locks_has_its_remedy_named() -> None:
    error = OSError("Unable to open file (unable to lock file, errno = 37, error message = '...')")
    assert "HDF5_USE_FILE_LOCKING=FALSE" in (locking_remedy(error) or "")
    assert locking_remedy(OSError("truncated file")) is None
