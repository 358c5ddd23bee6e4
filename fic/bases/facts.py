"""What a base in a file is, for whoever wants to use it: read from the file, and nothing is run."""

from pathlib import Path
from typing import Any

from ..errors import BaseOptionError
from ..options import BaseOptions
from .files import HUB, KERAS_SUFFIX, BaseFile, local_file


def facts_of_file(base_model: str) -> dict[str, Any]:
    """Return name, family, input, outputs, pixels and place of a base in a file, ready for JSON.

    Raises:
        BaseOptionError: it is not there, or takes no picture.
        ConversionError: it is not ONNX, or holds what the runtime refuses.
        WeightsError: it is not a Keras model, or the hub does not give it.
    """
    if base_model.startswith(HUB):
        from .hub import hub_file

        file = hub_file(base_model)
    else:
        file = local_file(base_model)
    if file.path.suffix.casefold() == KERAS_SUFFIX:
        from .keras_file import input_of

        shape, rescales = input_of(file)
        facts: dict[str, Any] = {"family": "Keras model", "input": shape}
        paths = [file.path]
    else:
        facts, paths = _of_graph(file)
        rescales = facts["type"] == "uint8"
    size = sum(path.stat().st_size for path in paths)
    return {
        "name": file.name,
        **facts,
        "pixels": _pixels(file)
        or ("raw" if rescales else "not said; give --pixels or --preprocessor"),
        "bytes": size,
        "weights": {
            "source": "file",
            "name": file.base_model,
            "path": str(file.path),
            "here": True,
        },
    }


def _of_graph(file: BaseFile) -> tuple[dict[str, Any], list[Path]]:
    from fic_export.errors import ConversionError
    from fic_export.graphs.foreign import digest_foreign, read_foreign, type_name

    graph = read_foreign(file.path)
    try:
        tensor: str | None = graph.bottleneck(None)
    except ConversionError:
        tensor = None  # the user has to say which
    picture = graph.picture_input(tensor or graph.outputs[0])
    shape = ["free" if isinstance(one, str | None) else one for one in picture.dims]
    facts = {
        "family": f"ONNX graph, opset {graph.opset}",
        "input": shape,
        "type": type_name(picture.type),
        "outputs": list(graph.outputs),
        "bottleneck": tensor,
        "sha256": digest_foreign(file.path),
    }
    return facts, [graph.path, *graph.weights]


def _pixels(file: BaseFile) -> str | None:
    try:
        processor = file.processor(BaseOptions())
    except BaseOptionError as error:
        return str(error)
    return None if processor is None else f"as {processor.source} says"
