"""ONNX Runtime's sessions, opened with fic's options."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..devices import CPU, CUDA
from .cache import WEIGHTS_FILE
from .int8_sums import int8_sums_saturate
from .onnx_runtime import onnxruntime

# TF32, the default since Ampere, keeps 10 of float32's 23 bits: other numbers than in training.
_PROVIDER_OPTIONS = {CUDA: {"use_tf32": "0"}}
# Bytes may be both an ONNX file and one of ONNX Runtime's own form, which nobody looked into.
ONNX_ALONE = ("session.load_model_format", "ONNX")
# Other kernels for int8, which lose nothing of the sums where the quick ones would (`.int8_sums`).
EXACT_INT8 = ("session.x64quantprecision", "1")
# Threads wait busily for the next part of a run, and no longer for the next run: a single one is as
# quick, and what the program does between two is not disturbed.
IDLE_BETWEEN_RUNS = ("session.force_spinning_stop", "1")
# Weights in a file of their own, which begin where processors like them to.
_OPTIMISED_WEIGHTS = "session.optimized_model_external_initializers_file_name"
_LEAST_OPTIMISED_WEIGHTS = "session.optimized_model_external_initializers_min_size_in_bytes"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_LEAST_BYTES = "1024"  # of one of them; less is not worth a look for where it is


class SessionOptions(NamedTuple):
    """How a graph shall run.

    Attributes:
        providers: execution providers, best first; the CPU does what they cannot.
        threads: threads for one run.
        alone: the CPU shall not help out.
        lean_memory: give memory back after each run instead of keeping it for the next.
        optimise: False for a graph that was optimised before.
        write_optimised: where to save the optimised graph, with its larger weights beside it.
        weights: values of initializers, used where they lie; they must outlive the session.
        weights_folder: where the file of these is, by the name that the graph has for it.
    """

    providers: tuple[str, ...]
    threads: int
    alone: bool = False
    lean_memory: bool = False
    optimise: bool = True
    write_optimised: Path | None = None
    weights: Mapping[str, Any] = MappingProxyType({})
    weights_folder: Path | None = None


def new_session(model: Path | bytes, settings: SessionOptions) -> Any:
    """Return ONNX Runtime's session of a model.

    Raises:
        Exception: whatever ONNX Runtime raises where the model or the first provider does not work.
    """
    providers = settings.providers
    if CUDA in providers and hasattr(onnxruntime, "preload_dlls"):
        # Finds the CUDA and cuDNN libraries that were installed as wheels.
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.log_severity_level = 4  # what matters comes back as an exception
    options.add_session_config_entry(*ONNX_ALONE)
    options.add_session_config_entry(*IDLE_BETWEEN_RUNS)
    if int8_sums_saturate():
        options.add_session_config_entry(*EXACT_INT8)
    if settings.lean_memory:
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
    if not settings.optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if settings.write_optimised is not None:
        options.optimized_model_filepath = str(settings.write_optimised)
        options.add_session_config_entry(_OPTIMISED_WEIGHTS, WEIGHTS_FILE)
        options.add_session_config_entry(_LEAST_OPTIMISED_WEIGHTS, _LEAST_BYTES)
    for name, value in settings.weights.items():
        options.add_initializer(name, value)
    if settings.weights_folder is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(settings.weights_folder))
    names = providers if CPU in providers or settings.alone else (*providers, CPU)
    if CPU not in names:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    asked = [(name, _PROVIDER_OPTIONS.get(name, {})) for name in names]
    source = model if isinstance(model, bytes) else _name_or_content(model)
    # Its own fallback prints to stdout, where the answers go.
    return onnxruntime.InferenceSession(source, options, providers=asked, enable_fallback=0)


def _name_or_content(model: Path) -> str | bytes:
    """Return a path as ONNX Runtime takes it, or the file's content where its name is no text."""
    name = str(model)
    try:
        name.encode()
    except UnicodeEncodeError:
        return model.read_bytes()
    return name
