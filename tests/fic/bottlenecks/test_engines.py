import logging
from pathlib import Path

import numpy as np
import pytest

from fic.bases.frozen import FrozenBase
from fic.bottlenecks import engines
from fic.bottlenecks.engines import KerasEngine, OnnxEngine, choose_engine
from fic.options import BaseOptions, CacheOptions
from fic_export.errors import ConversionError
from fic_runtime.errors import BundleError


@pytest.fixture
def frozen(base: BaseOptions, warm: CacheOptions) -> FrozenBase:
    return FrozenBase(base, warm.bottleneck_dir)


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_onnx_has_cuda", lambda: False)
    monkeypatch.setattr(engines, "_tensorflow_has_gpu", lambda: False)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_both_engines_give_the_same_bottlenecks(frozen: FrozenBase) -> None:
    onnx = OnnxEngine(frozen.graph_file()).run(pixels(5))
    keras = KerasEngine(frozen).run(pixels(5))
    assert onnx.shape == keras.shape == (5, *frozen.fingerprint.shape)
    assert onnx.dtype == keras.dtype == np.float32
    np.testing.assert_allclose(onnx, keras, atol=1e-3 * np.abs(keras).max(), rtol=0)


@pytest.mark.parametrize("name", ["onnx", "keras"])
def test_an_engine_that_is_asked_for_is_taken(frozen: FrozenBase, name: engines.EngineName) -> None:
    chosen = choose_engine(name, frozen)
    assert (chosen.engine.name, chosen.reason) == (name, "asked for")


def test_auto_takes_the_graph_on_a_cpu_and_says_why(frozen: FrozenBase, on_a_cpu: None) -> None:
    chosen = choose_engine("auto", frozen)
    assert chosen.engine.name == "onnx"
    assert chosen.reason == "the exported graph is the faster one on the CPU"


def test_auto_takes_keras_where_only_tensorflow_has_a_gpu(
    frozen: FrozenBase, on_a_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_tensorflow_has_gpu", lambda: True)
    chosen = choose_engine("auto", frozen)
    assert chosen.engine.name == "keras"
    assert "GPU" in chosen.reason


def test_auto_builds_no_base_for_a_few_pictures(
    frozen: FrozenBase, on_a_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_tensorflow_has_gpu", lambda: True)
    assert choose_engine("auto", frozen, few=True).engine.name == "onnx"


@pytest.mark.parametrize(
    "error", [ConversionError("layer X has no ONNX form"), BundleError("cannot be opened")]
)
def test_auto_takes_keras_where_the_graph_does_not_work(
    frozen: FrozenBase,
    on_a_cpu: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail() -> Path:
        raise error

    monkeypatch.setattr(frozen, "graph_file", fail)
    with caplog.at_level(logging.WARNING, "fic"):
        chosen = choose_engine("auto", frozen)
    assert (chosen.engine.name, chosen.reason) == (
        "keras",
        "the base does not work in ONNX Runtime",
    )
    assert str(error) in caplog.text


def test_onnx_does_not_fall_back(frozen: FrozenBase, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise ConversionError("layer X has no ONNX form")

    monkeypatch.setattr(frozen, "graph_file", fail)
    with pytest.raises(ConversionError):
        choose_engine("onnx", frozen)


def test_passes_share_the_processors(frozen: FrozenBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_onnx_has_cuda", lambda: False)
    passes = {}
    for cpus in (1, 2, 64):
        monkeypatch.setattr(engines, "usable_cpus", lambda cpus=cpus: cpus)
        passes[cpus] = OnnxEngine(frozen.graph_file()).passes
    assert passes == {1: 1, 2: 2, 64: 8}
