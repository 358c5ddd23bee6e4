"""Graphs are what the manifest says, and run on the device that was asked for or not at all."""

import logging
import types

import numpy as np
import onnxruntime
import pytest

from fic_runtime import devices
from fic_runtime.classifier import Classifier
from fic_runtime.devices import CPU, CUDA, MAX_THREADS
from fic_runtime.errors import BundleError, DeviceError
from fic_runtime.graphs.graph import Graph


@pytest.fixture
def base(golden):
    return golden / "base.onnx"


def test_a_graph_knows_its_input_and_output(base):
    graph = Graph(base, device="cpu")
    assert (graph.input.name, graph.input.dtype, graph.input.shape) == (
        "image",
        "uint8",
        (None, 32, 40, 3),
    )
    assert (graph.output.name, graph.output.dtype, graph.output.shape) == (
        "bottleneck",
        "float32",
        (None, 12),
    )


@pytest.mark.parametrize("number", [1, 2, 7])
def test_any_batch_fits(base, number):
    assert Graph(base).run(np.zeros((number, 32, 40, 3), np.uint8)).shape == (number, 12)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 32, 40, 3), np.float32),
        np.zeros((1, 40, 32, 3), np.uint8),
        np.zeros((32, 40, 3), np.uint8),
        np.zeros((0, 32, 40, 3), np.uint8),
    ],
    ids=["dtype", "size", "one picture", "empty"],
)
def test_a_batch_that_does_not_fit_is_a_slip(base, batch):
    with pytest.raises(ValueError, match=r"image is uint8 of shape \(n, 32, 40, 3\) with n at"):
        Graph(base).run(batch)


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x00" * 1000], ids=repr)
def test_a_file_that_is_no_graph_is_refused_in_one_line(data, tmp_path, capfd):
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"x\.onnx: .*export the bundle again") as caught:
        Graph(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_graph_with_two_outputs_is_refused(golden):
    with pytest.raises(BundleError, match="has 1 inputs and 2 outputs instead of one each"):
        Graph(golden.parent / "two_outputs.onnx")


def test_a_graph_that_names_its_output_otherwise_is_refused(bundle, replace):
    data = (bundle / "base.onnx").read_bytes()
    assert b"bottleneck" in data
    replace("base.onnx", data.replace(b"bottleneck", b"bottlemeck"))
    with pytest.raises(BundleError, match=r"base\.onnx: has bottlemeck .* says bottleneck"):
        Classifier(bundle)


def test_a_graph_of_another_shape_than_the_manifest_is_refused(bundle, edit):
    def other_width(values):
        values["preprocessing"]["geometry"]["width"] = 48
        values["base"]["input"]["shape"][2] = 48

    edit(other_width)
    with pytest.raises(BundleError, match=r"has image uint8 .* 40, 3\) where the manifest says"):
        Classifier(bundle)


def test_head_and_base_exchanged_are_refused(bundle, edit):
    def exchange(values):
        values["base"]["file"], values["head"]["file"] = "head.onnx", "base.onnx"

    edit(exchange)
    with pytest.raises(BundleError, match=r"head\.onnx: has bottleneck float32"):
        Classifier(bundle)


@pytest.mark.parametrize("threads", [0, -1, MAX_THREADS + 1])
def test_threads_out_of_range_are_a_slip(base, threads):
    with pytest.raises(ValueError, match=f"threads is 1 to {MAX_THREADS}; received {threads}"):
        Graph(base, threads=threads)


def test_threads_are_those_that_were_asked_for(base, monkeypatch):
    seen = []
    real = onnxruntime.InferenceSession

    def session(path, options, **rest):
        seen.append(options.intra_op_num_threads)
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(devices, "usable_cpus", lambda: 3)
    monkeypatch.delenv("FIC_THREADS", raising=False)
    Graph(base, threads=2)
    Graph(base)
    assert seen == [2, 3]


def test_unknown_provider_is_refused(base):
    with pytest.raises(DeviceError, match="providers NoSuchProvider: not in this ONNX Runtime"):
        Graph(base, providers=["NoSuchProvider", CPU])


def test_no_provider_at_all_is_refused(base):
    with pytest.raises(DeviceError, match="providers none"):
        Graph(base, providers=[])


def test_providers_as_one_text_are_a_slip(base):
    with pytest.raises(TypeError, match="providers is a list of names"):
        Graph(base, providers=CPU)


def test_the_cpu_can_be_asked_for_by_name(base):
    assert Graph(base, providers=[CPU]).provider == CPU


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="has CUDA")
def test_cuda_where_there_is_none_is_refused(base):
    with pytest.raises(DeviceError, match=r"pip install 'onnxruntime-gpu\[cuda,cudnn\]'"):
        Graph(base, device="cuda")


@pytest.fixture(params=["raises", "leaves it out"])
def broken_cuda(request, monkeypatch):
    """A build with CUDA on a machine without a driver; ONNX Runtime answers in one of two ways."""
    real, asked = onnxruntime.InferenceSession, []

    def session(path, options, *, providers, **rest):
        asked.append(providers)
        names = [name for name, _ in providers]
        if CUDA in names and request.param == "raises":
            raise RuntimeError("CUDA failure 35:\n driver version is insufficient")
        return real(path, options, providers=[(CPU, {})], **rest)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    return asked


@pytest.mark.parametrize("how", [{"device": "cuda"}, {"providers": [CUDA]}])
def test_cuda_that_does_not_start_is_an_error_where_it_was_asked_for(base, broken_cuda, how):
    with pytest.raises(
        DeviceError, match=r"CUDAExecutionProvider.* could not be started"
    ) as caught:
        Graph(base, **how)
    assert "\n" not in str(caught.value)


def test_cuda_that_does_not_start_is_a_warning_where_it_was_not(base, broken_cuda, caplog, capfd):
    with caplog.at_level(logging.WARNING, logger="fic_runtime"):
        graph = Graph(base, device="auto")
    assert graph.provider == CPU
    assert "could not be started" in caplog.text
    # ONNX Runtime prints its own fallback to where the answers go.
    assert capfd.readouterr().out == ""


def test_a_file_at_fault_is_not_blamed_on_the_device(tmp_path, broken_cuda):
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot open it"):
        Graph(tmp_path / "x.onnx", device="cuda")


def test_cuda_computes_in_float32_and_not_in_less(base, broken_cuda):
    Graph(base, device="auto")
    assert (CUDA, {"use_tf32": "0"}) in broken_cuda[0]


def test_a_device_that_fails_while_running_is_a_device_error(base):
    graph = Graph(base)

    def fail(*_):
        raise RuntimeError("CUDA out of\nmemory")

    graph._session = types.SimpleNamespace(run=fail, get_providers=lambda: [CUDA])
    with pytest.raises(DeviceError, match=r"failed on a batch of 2 \(CUDA out of memory\); use sm"):
        graph.run(np.zeros((2, 32, 40, 3), np.uint8))


@pytest.mark.parametrize("how", [{"device": "cuda"}, {"providers": [CUDA]}])
def test_cuda_that_does_not_start_is_a_warning_where_the_fall_back_is_allowed(
    base, broken_cuda, caplog, how
):
    with caplog.at_level(logging.WARNING, logger="fic_runtime"):
        graph = Graph(base, **how, allow_fallback=True)
    assert graph.provider == CPU
    assert "could not be started" in caplog.text


def test_a_classifier_says_what_it_took(golden, caplog, monkeypatch):
    monkeypatch.delenv("FIC_DEVICE", raising=False)
    with caplog.at_level(logging.INFO, logger="fic_runtime"):
        classifier = Classifier(golden, device="cpu", threads=1)
    assert (classifier.device, classifier.provider) == ("cpu", CPU)
    assert f"base.onnx: runs on {CPU} with 1 threads" in caplog.text


def test_a_lean_classifier_keeps_no_memory_and_gives_the_same_answers(golden, monkeypatch):
    seen = []
    real = onnxruntime.InferenceSession

    def session(path, options, **rest):
        seen.append((options.enable_cpu_mem_arena, options.enable_mem_pattern))
        return real(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    usual, lean = (Classifier(golden, lean_memory=each).predict(image) for each in (False, True))
    assert usual.probabilities.tobytes() == lean.probabilities.tobytes()
    assert seen == [(True, True)] * 2 + [(False, False)] * 2
