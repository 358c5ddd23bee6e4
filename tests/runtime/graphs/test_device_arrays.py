"""Bottlenecks stay in the device's memory on their way to the heads, and answers are the same."""

import shutil

import numpy as np
import onnxruntime
import pytest

from fic_runtime import Classifier, MultiClassifier
from fic_runtime.devices import CPU, CUDA
from fic_runtime.errors import DeviceError
from fic_runtime.graphs import graph as graphs
from fic_runtime.graphs.graph import DeviceArray, Graph

HAS_CUDA = CUDA in onnxruntime.get_available_providers()


@pytest.fixture
def own_memory(monkeypatch):
    """Treat the processor as a device with memory of its own; ONNX Runtime knows it as one."""
    monkeypatch.setitem(graphs._OWN_MEMORY, CPU, "cpu")


@pytest.fixture
def pixels(random):
    return random.integers(0, 256, (3, 32, 40, 3), np.uint8)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_an_output_stays_with_a_device_that_has_memory_of_its_own(golden, own_memory, pixels):
    base = Graph(golden / "base.onnx", device="cpu")
    kept = base.run_on_device(pixels)
    assert isinstance(kept, DeviceArray)
    assert (len(kept), kept.shape, kept.dtype) == (3, (3, 12), "float32")
    assert np.asarray(kept).tobytes() == base.run(pixels).tobytes()


def test_a_copy_for_the_host_is_one_and_nothing_else_is(golden, own_memory, pixels):
    kept = Graph(golden / "base.onnx", device="cpu").run_on_device(pixels)
    assert np.shares_memory(np.asarray(kept), np.asarray(kept))
    assert not np.shares_memory(kept.__array__(copy=True), np.asarray(kept))
    assert np.asarray(kept, np.float64).dtype == np.float64


def test_without_memory_of_its_own_an_output_is_an_array(golden, pixels):
    base = Graph(golden / "base.onnx", device="cpu")
    assert isinstance(base.run_on_device(pixels), np.ndarray)


def test_pixels_with_gaps_stay_what_they_are(golden, own_memory, pixels):
    base = Graph(golden / "base.onnx", device="cpu")
    mirrored = pixels[:, :, ::-1]
    assert np.asarray(base.run_on_device(mirrored)).tobytes() == base.run(mirrored).tobytes()


def test_a_head_on_another_device_gets_an_array(golden, own_memory, pixels):
    base, head = (Graph(golden / f"{name}.onnx", device="cpu") for name in ("base", "head"))
    kept = base.run_on_device(pixels)
    expected = head.run(np.asarray(kept))
    elsewhere = DeviceArray(kept.value, dtype=kept.dtype, provider=CUDA)
    assert head.run(elsewhere).tobytes() == expected.tobytes()


def test_an_array_of_the_device_is_checked_like_any_other(golden, own_memory, pixels):
    base = Graph(golden / "base.onnx", device="cpu")
    with pytest.raises(ValueError, match=r"image is uint8 of shape .* received float32 of shape"):
        base.run(base.run_on_device(pixels))


def test_a_device_that_fails_with_its_own_memory_is_a_device_error(golden, own_memory, pixels):
    base = Graph(golden / "base.onnx", device="cpu")

    class OutOfMemory:
        def io_binding(self):
            raise RuntimeError("CUDA out of\nmemory")

    base._session = OutOfMemory()
    with pytest.raises(DeviceError, match=r"failed on a batch of 3 \(CUDA out of memory\)"):
        base.run_on_device(pixels)


@pytest.mark.parametrize("bundle_name", ["bundle-v1", "explaining-bundle"])
def test_a_classifier_answers_the_same_to_the_bit(bundle_name, golden, own_memory, random):
    picture = random.integers(0, 256, (90, 120, 3), np.uint8)
    with Classifier(golden.parent / bundle_name, device="cpu") as classifier:
        kept = [classifier.predict(picture), *classifier.stream([picture] * 3, 2)]
        bottlenecks, probabilities = classifier.run(np.zeros((2, 32, 40, 3), np.uint8))
        extracted = classifier.extract([picture])
    del graphs._OWN_MEMORY[CPU]
    with Classifier(golden.parent / bundle_name, device="cpu") as classifier:
        expected = classifier.predict(picture)
        assert classifier.extract([picture]).tobytes() == extracted.tobytes()
        plain = classifier.run(np.zeros((2, 32, 40, 3), np.uint8))
    assert [bottlenecks.tobytes(), probabilities.tobytes()] == [each.tobytes() for each in plain]
    for answer in kept:
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-6)


def test_many_heads_share_what_lies_on_the_device(golden, own_memory, make_head, tmp_path, random):
    picture = random.integers(0, 256, (90, 120, 3), np.uint8)
    heads = [make_head(tmp_path / "heads" / name, bias=bias) for name, bias in [("a", 9), ("b", 0)]]
    with MultiClassifier(golden, heads, device="cpu") as classifier:
        kept = classifier.predict(picture), classifier.predict_batch([picture])[0]
    del graphs._OWN_MEMORY[CPU]
    with MultiClassifier(golden, heads, device="cpu") as classifier:
        assert kept == (classifier.predict(picture),) * 2


@pytest.mark.skipif(not HAS_CUDA, reason="this ONNX Runtime has no CUDA")
def test_cuda_answers_as_the_processor_does(golden, tmp_path, random):
    bundle = shutil.copytree(golden, tmp_path / "bundle")
    picture = random.integers(0, 256, (90, 120, 3), np.uint8)
    with Classifier(bundle, device="cpu") as cpu, Classifier(bundle, device="cuda") as cuda:
        assert isinstance(cuda.bottlenecks_on_device(np.zeros((1, 32, 40, 3), "u1")), DeviceArray)
        np.testing.assert_allclose(cuda.extract([picture]), cpu.extract([picture]), rtol=1e-3)
        np.testing.assert_allclose(
            cuda.predict(picture).probabilities, cpu.predict(picture).probabilities, atol=1e-3
        )
