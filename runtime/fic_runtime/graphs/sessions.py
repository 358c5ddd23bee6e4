"""ONNX Runtime's sessions, opened with fic's options."""

from pathlib import Path
from typing import Any, NamedTuple

from ..devices import CPU, CUDA
from ..errors import one_line
from .cache import GraphCache
from .int8_sums import int8_sums_saturate
from .onnx_runtime import onnxruntime

# TF32, the default since Ampere, keeps 10 of float32's 23 bits: other numbers than in training.
_PROVIDER_OPTIONS = {CUDA: {"use_tf32": "0"}}
# Bytes may be both an ONNX file and one of ONNX Runtime's own form, which nobody looked into.
ONNX_ALONE = ("session.load_model_format", "ONNX")
# Other kernels for int8, which lose nothing of the sums where the quick ones would (`.int8_sums`).
EXACT_INT8 = ("session.x64quantprecision", "1")


class SessionOptions(NamedTuple):
    """How a graph shall run.

    Attributes:
        providers: execution providers, best first; the CPU does what they cannot.
        threads: threads for one run.
        alone: the CPU shall not help out.
        lean_memory: give memory back after each run instead of keeping it for the next.
        optimise: False for a graph that was optimised before.
        write_optimised: where to save the optimised graph.
    """

    providers: tuple[str, ...]
    threads: int
    alone: bool = False
    lean_memory: bool = False
    optimise: bool = True
    write_optimised: Path | None = None


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
    if int8_sums_saturate():
        options.add_session_config_entry(*EXACT_INT8)
    if settings.lean_memory:
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
    if not settings.optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if settings.write_optimised is not None:
        options.optimized_model_filepath = str(settings.write_optimised)
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


def cached_session(
    model: Path | bytes, digest: str, settings: SessionOptions, cache: GraphCache
) -> Any:
    """Return `new_session`, from the optimised graph of an earlier start where there is one.

    Args:
        model: the ONNX file, or its content.
        digest: what identifies the model; the model itself must have been checked against it.
        settings: for the CPU alone: other providers optimise as they like.
        cache: where optimised graphs are.

    Raises:
        Exception: as `new_session`.
    """
    found = cache.find(digest)
    if found is not None:
        try:
            return new_session(found, settings._replace(optimise=False))
        except Exception as error:  # onnxruntime's errors share no base class but this one
            cache.discard(digest, one_line(error))
    with cache.writing(digest) as unfinished:
        if unfinished is not None:
            try:
                return new_session(model, settings._replace(write_optimised=unfinished))
            except Exception as error:  # the disk may be full
                cache.give_up(unfinished, one_line(error))
    return new_session(model, settings)
