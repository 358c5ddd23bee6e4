"""A bundle as a model repository of NVIDIA's Triton Inference Server.

Three models: the base, the head, and an ensemble of both, which takes pictures and gives
probabilities. What `config.pbtxt` may hold is said by Triton's `model_config.proto`.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from fic_runtime.bundle import LABELS_FILE, Bundle, open_bundle
from fic_runtime.errors import BundleError
from fic_runtime.graphs.spec import GraphSpec, Tensor
from fic_runtime.results import (
    LITTER,
    cannot_write,
    check_replaceable,
    check_writable,
    real_path,
    replacing_folder,
)

from .errors import OutputError
from .graphs.files import weights_file
from .options import TRITON_NAME

# At the repository's top, where Triton reads folders only: what clients must know of pictures.
MARK = "bundle.json"

_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
_VERSION = "1"
_OF_A_MODEL = frozenset({"config.pbtxt", LABELS_FILE, "model.onnx", ".keep"})
_NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-]")
_BAD_NAME = "name is made of letters, digits, '_', '-' and '.'; received {!r}"


def export_triton(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    name: str = TRITON_NAME,
    max_batch_size: int = 32,
) -> None:
    """Write the Triton model repository of a bundle; it appears whole or not at all.

    It holds the models `NAME` (the ensemble), `NAME_base` and `NAME_head`, version 1 each, and the
    bundle's manifest as `bundle.json`. An earlier repository at `out` is replaced.

    Args:
        bundle: folder or archive that `export_bundle` wrote.
        out: the folder for the repository.
        name: name of the ensemble; models of one server need different ones.
        max_batch_size: largest number of pictures that Triton puts into one batch.

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
            _write_models(folder, opened, name, max_batch_size)
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
    ours = [{name, f"{name}_base", f"{name}_head"} for name in bases]
    known = _OF_A_MODEL | {weights_file("model.onnx")}
    for path in sorted(out.rglob("*")):
        if path.is_dir() or path.name in LITTER or path == out / MARK:
            continue
        if tops not in ours or path.name not in known:
            raise OutputError(
                f"{out}: holds {path.relative_to(out)} beside an earlier repository of one bundle, "
                "which a new one would replace; give another folder"
            )


def _write_models(folder: Path, bundle: Bundle, name: str, max_batch_size: int) -> None:
    manifest = bundle.manifest
    steps = []
    for part, spec in (("base", manifest.base), ("head", manifest.head)):
        labelled = spec is manifest.head
        home = folder / f"{name}_{part}"
        (home / _VERSION).mkdir(parents=True)
        (home / _VERSION / "model.onnx").write_bytes(bundle.files.read(spec.file))
        beside = weights_file(spec.file)  # the name by which the graph knows it
        if beside in manifest.files:
            shutil.copyfile(bundle.files.path(beside), home / _VERSION / beside)
        config = [
            *_ends(f"{name}_{part}", "onnxruntime_onnx", max_batch_size, spec, labelled=labelled),
            "dynamic_batching { }",
        ]
        _write_config(home, config, bundle if labelled else None)
        steps.append(_step(f"{name}_{part}", spec))
    whole = GraphSpec(file="", input=manifest.base.input, output=manifest.head.output)
    # An ensemble has no file of its own, but must have a version; some copying loses empty folders.
    (folder / name / _VERSION).mkdir(parents=True)
    (folder / name / _VERSION / ".keep").touch()
    separator = ",\n"
    config = [
        *_ends(name, "ensemble", max_batch_size, whole, labelled=True),
        f"ensemble_scheduling {{\n  step [\n{separator.join(steps)}\n  ]\n}}",
    ]
    _write_config(folder / name, config, bundle)
    (folder / MARK).write_text(manifest.to_json(), encoding="utf-8")


def _write_config(home: Path, config: Sequence[str], labels: Bundle | None) -> None:
    (home / "config.pbtxt").write_text("\n".join(config) + "\n", encoding="utf-8")
    if labels is not None:
        (home / LABELS_FILE).write_bytes(labels.files.read(LABELS_FILE))


def _ends(
    name: str, platform: str, max_batch_size: int, spec: GraphSpec, *, labelled: bool
) -> list[str]:
    return [
        f'name: "{name}"',
        f'platform: "{platform}"',
        f"max_batch_size: {max_batch_size}",
        _end("input", spec.input),
        _end("output", spec.output, f'label_filename: "{LABELS_FILE}"' if labelled else ""),
    ]


def _end(kind: str, tensor: Tensor, more: str = "") -> str:
    # The batch comes from max_batch_size and is not among the dims.
    dims = ", ".join(map(str, tensor.shape[1:]))
    lines = [
        f'name: "{_escaped(tensor.name)}"',
        f"data_type: {_TYPES[tensor.dtype]}",
        f"dims: [ {dims} ]",
        *([more] if more else []),
    ]
    return f"{kind} [\n  {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n]"


def _step(model: str, spec: GraphSpec) -> str:
    maps = "".join(
        f'      {kind}_map {{ key: "{_escaped(tensor.name)}" value: "{_escaped(tensor.name)}" }}\n'
        for kind, tensor in (("input", spec.input), ("output", spec.output))
    )
    return f'    {{\n      model_name: "{model}"\n      model_version: -1\n{maps}    }}'


def _escaped(name: str) -> str:
    """Return a tensor's name as it stands between quotes in protobuf's text format."""
    return "".join(map(_byte, name.encode()))


def _byte(value: int) -> str:
    plain = 32 <= value < 127 and value not in b'"\\'
    return chr(value) if plain else f"\\{value:03o}"
