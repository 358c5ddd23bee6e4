"""A bundle as a model repository of NVIDIA's Triton Inference Server.

The base, the head, the score for unknown pictures where the bundle has one, and an ensemble of
them, which takes pictures and gives probabilities and scores. What `config.pbtxt` may hold is said
by Triton's `model_config.proto`.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fic_runtime.bundle import LABELS_FILE, Bundle, open_bundle
from fic_runtime.errors import BundleError
from fic_runtime.graphs.spec import Tensor
from fic_runtime.heads.out_of_distribution import OutOfDistribution, read_out_of_distribution
from fic_runtime.results import (
    LITTER,
    cannot_write,
    check_replaceable,
    check_writable,
    real_path,
    replacing_folder,
)

from .errors import OutputError
from .graphs.files import OPSET, check, weights_file, write_graph
from .graphs.ood_nodes import OOD_SCORE, OOD_THRESHOLD, score_graph
from .options import TRITON_NAME

# At the repository's top, where Triton reads folders only: what clients must know of pictures.
MARK = "bundle.json"

_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
_VERSION = "1"
_MODEL = "model.onnx"
_OF_A_MODEL = frozenset({"config.pbtxt", LABELS_FILE, _MODEL, ".keep"})
_NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-]")
_BAD_NAME = "name is made of letters, digits, '_', '-' and '.'; received {!r}"


def export_triton(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    name: str = TRITON_NAME,
    max_batch_size: int = 32,
    with_bottleneck: bool = False,
) -> None:
    """Write the Triton model repository of a bundle; it appears whole or not at all.

    It holds the models `NAME` (the ensemble), `NAME_base`, `NAME_head` and, where the bundle has a
    score for unknown pictures, `NAME_ood`, version 1 each, and the bundle's manifest as
    `bundle.json`. The ensemble gives `probabilities`, then `ood_score`; the threshold of the score
    is its parameter `ood_threshold`. An earlier repository at `out` is replaced.

    Args:
        bundle: folder or archive that `export_bundle` wrote.
        out: the folder for the repository.
        name: name of the ensemble; models of one server need different ones.
        max_batch_size: largest number of pictures that Triton puts into one batch.
        with_bottleneck: let the ensemble give the bottleneck as its last output.

    Raises:
        BundleError: `bundle` is damaged, or a head alone.
        OutputError: `out` holds something else, or cannot be written.
        ValueError: the name cannot be a folder's, or the batch size is less than 1.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(_BAD_NAME.format(name))
    if max_batch_size < 1:
        raise ValueError(f"max_batch_size is at least 1; received {max_batch_size}")
    opened, out = open_bundle(bundle), Path(out)
    if opened.manifest.head_only:
        raise BundleError(f"{bundle}: is a head without its base; give the bundle that has both")
    _check_own(out)
    try:
        with replacing_folder(out, mark=MARK) as folder:
            repository = _Repository(folder, opened, name, max_batch_size)
            _write_models(repository, with_bottleneck=with_bottleneck)
    except OSError as error:
        raise cannot_write(out, error) from error


def check_triton(out: Path, *, name: str, bundle: Path) -> None:
    """Check that the repository of a bundle to come may be written to `out`.

    Raises:
        OutputError: something is there that is not an earlier repository, or the bundle itself will
            be; or the name cannot be a model's.
    """
    if not _NAME.fullmatch(name):
        raise OutputError(_BAD_NAME.format(name))
    folder, other = real_path(out), real_path(bundle)
    if folder == other or folder in other.parents or other in folder.parents:
        raise OutputError(f"{out}: is the place of the bundle, too; give another folder")
    _check_own(out)
    check_writable(out)


def _check_own(out: Path) -> None:
    """Refuse a repository that holds more than `_write_models` wrote: a server may have others."""
    check_replaceable(out, mark=MARK)
    if not (out / MARK).is_file():
        return
    tops = {path.name for path in out.iterdir()} - {MARK, *LITTER}
    bases = {top.removesuffix("_base") for top in tops if top.endswith("_base")}
    ours = [
        {name, f"{name}_base", f"{name}_head", *scored}
        for name in bases
        for scored in ([], [f"{name}_ood"])
    ]
    known = _OF_A_MODEL | {weights_file(_MODEL)}
    for path in sorted(out.rglob("*")):
        if path.is_dir() or path.name in LITTER or path == out / MARK:
            continue
        if tops not in ours or path.name not in known:
            raise OutputError(
                f"{out}: holds {path.relative_to(out)} beside an earlier repository of one bundle, "
                "which a new one would replace; give another folder"
            )


class _Repository(NamedTuple):
    folder: Path
    bundle: Bundle
    name: str
    max_batch_size: int


class _Model(NamedTuple):
    """What a configuration says of a model, whose folder is `name`."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    parameters: Mapping[str, str] = {}


def _write_models(repository: _Repository, *, with_bottleneck: bool) -> None:
    folder, bundle, name, _ = repository
    manifest = bundle.manifest
    steps: list[str] = []
    for part, spec in (("base", manifest.base), ("head", manifest.head)):
        model = _Model(f"{name}_{part}", [spec.input], [spec.output])
        version = _write_model(repository, model)
        (version / _MODEL).write_bytes(bundle.files.read(spec.file))
        beside = weights_file(spec.file)  # the name by which the graph knows it
        if beside in manifest.files:
            shutil.copyfile(bundle.files.path(beside), version / beside)
        steps.append(_step(model))
    outputs, parameters = [manifest.head.output], {}
    ood = read_out_of_distribution(bundle.files, manifest)
    if ood is not None:
        scored = _write_score(repository, ood)
        # The base may call its output otherwise than the score its input.
        tensors = (manifest.base.output.name, manifest.head.output.name)
        steps.append(_step(scored, tensors))
        outputs.extend(scored.outputs)
        parameters = dict(scored.parameters)
    if with_bottleneck:
        outputs.append(manifest.base.output)
    whole = _Model(name, [manifest.base.input], outputs, parameters)
    version = _write_model(repository, whole, steps)
    # An ensemble has no file of its own, but must have a version; some copying loses empty folders.
    (version / ".keep").touch()
    (folder / MARK).write_text(manifest.to_json(), encoding="utf-8")


def _write_score(repository: _Repository, ood: OutOfDistribution) -> _Model:
    """Write the model from bottleneck and probabilities to the score, and return it."""
    manifest = repository.bundle.manifest
    bottleneck, probabilities = manifest.base.output, manifest.head.output
    graph = score_graph(
        ood.method,
        bottleneck=bottleneck.item_shape,
        labels=len(manifest.labels),
        opset=OPSET,
    )
    check(graph)
    parameters = {OOD_THRESHOLD: repr(ood.threshold)}
    model = _Model(
        f"{repository.name}_ood",
        [replace(bottleneck, name="bottleneck"), replace(probabilities, name="probabilities")],
        [Tensor(name=OOD_SCORE, dtype="float32", shape=(None, 1))],
        parameters,
    )
    write_graph(graph, _write_model(repository, model) / _MODEL, parameters)
    return model


def _write_model(
    repository: _Repository, model: _Model, steps: Sequence[str] | None = None
) -> Path:
    """Write what is beside a model, an ensemble if it has steps; return its version's folder."""
    home = repository.folder / model.name
    version = home / _VERSION
    version.mkdir(parents=True)
    labelled = repository.bundle.manifest.head.output in model.outputs
    separator = ",\n"
    config = [
        f'name: "{model.name}"',
        f'platform: "{"onnxruntime_onnx" if steps is None else "ensemble"}"',
        f"max_batch_size: {repository.max_batch_size}",
        *(_end("input", tensor) for tensor in model.inputs),
        *(
            _end("output", tensor, labelled=labelled and tensor is model.outputs[0])
            for tensor in model.outputs
        ),
        *(_parameter(key, value) for key, value in model.parameters.items()),
        "dynamic_batching { }"
        if steps is None
        else f"ensemble_scheduling {{\n  step [\n{separator.join(steps)}\n  ]\n}}",
    ]
    (home / "config.pbtxt").write_text("\n".join(config) + "\n", encoding="utf-8")
    if labelled:
        (home / LABELS_FILE).write_bytes(repository.bundle.files.read(LABELS_FILE))
    return version


def _end(kind: str, tensor: Tensor, *, labelled: bool = False) -> str:
    # The batch comes from max_batch_size and is not among the dims.
    dims = ", ".join(map(str, tensor.shape[1:]))
    lines = [
        f'name: "{_escaped(tensor.name)}"',
        f"data_type: {_TYPES[tensor.dtype]}",
        f"dims: [ {dims} ]",
        *([f'label_filename: "{LABELS_FILE}"'] if labelled else []),
    ]
    return f"{kind} [\n  {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n]"


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'


def _step(model: _Model, inputs: Sequence[str] | None = None) -> str:
    """Return a step of an ensemble, whose tensors go by `inputs`, or by the model's own names."""
    taken = [tensor.name for tensor in model.inputs] if inputs is None else inputs
    maps = [
        *(("input", tensor.name, name) for tensor, name in zip(model.inputs, taken, strict=True)),
        *(("output", tensor.name, tensor.name) for tensor in model.outputs),
    ]
    lines = "".join(
        f'      {kind}_map {{ key: "{_escaped(key)}" value: "{_escaped(value)}" }}\n'
        for kind, key, value in maps
    )
    return f'    {{\n      model_name: "{model.name}"\n      model_version: -1\n{lines}    }}'


def _escaped(name: str) -> str:
    """Return a tensor's name as it stands between quotes in protobuf's text format."""
    return "".join(map(_byte, name.encode()))


def _byte(value: int) -> str:
    plain = 32 <= value < 127 and value not in b'"\\'
    return chr(value) if plain else f"\\{value:03o}"
