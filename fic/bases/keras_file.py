"""A Keras model in a file as a base: like a row of the table, with an architecture of its own.

What must be known before anything is built, the input's shape and whether pixels are rescaled
inside, is read from the config in the archive, which costs no TensorFlow.
"""

import hashlib
import json
import os
import reprlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fic_runtime.bundle.archive import Bounded, check_method, member_pieces
from fic_runtime.bundle.names import MOST_BYTES
from fic_runtime.preprocessing import Preprocessing
from fic_runtime.reading import open_regular, too_large

from ..errors import BaseOptionError, WeightsError, one_line
from ..options import BaseOptions
from .files import BaseFile
from .preprocessor import RULES, Processor
from .table import MAX_IMAGE_SIZE, Base

if TYPE_CHECKING:
    import keras

_CONFIG = "config.json"
_MOST_CONFIG = 32 << 20  # bytes; that of a network of a thousand layers has some MB
# Weights hardly shrink, and Keras does not pack them.
_MOST_GROWTH = 10
_ALWAYS_FINE = 64 << 20
# Layers that bring pixels into the scale of the weights, if they stand before all that has any.
_RESCALING = frozenset({"Rescaling", "Normalization"})
# Layers that may stand before those.
_IDLE = frozenset(
    {
        *("InputLayer", "Resizing", "CenterCrop", "RandomFlip", "RandomRotation", "RandomZoom"),
        *("RandomContrast", "RandomCrop", "RandomTranslation", "RandomBrightness", "Cast"),
    }
)


@dataclass(frozen=True, kw_only=True)
class KerasFile:
    """A Keras model in a file.

    Attributes:
        file: where it is.
        spec: what the table would say of it.
        preprocessing: how a picture becomes its input.
    """

    file: BaseFile
    spec: Base
    preprocessing: Preprocessing


def open_keras_file(options: BaseOptions, file: BaseFile) -> KerasFile:
    """Read what a `.keras` file says of its input.

    Raises:
        BaseOptionError: it takes no picture, or nothing says what its pixels must become.
        WeightsError: it is not a Keras model.
    """
    if options.weights != "imagenet":
        raise BaseOptionError(
            f"--weights {options.weights}: {file.name} brings its weights; leave --weights out"
        )
    config, digest = _read(file.path)
    height, width = _sides(file, config)
    processor = file.processor(options)
    if processor is None and _rescales(config):
        processor = Processor(rule=RULES["raw"], geometry=None, source="its first layers")
    if processor is None:
        raise BaseOptionError(f"{file.pixels_unknown} (it has no layer that rescales them)")
    processor = _sized(options, file, processor, height, width)
    geometry = processor.preprocessing.geometry
    spec = Base(
        name=f"keras-{digest[:12]}",
        constructor="the same model",
        size=geometry.height,
        minimum_size=1,
        features=0,
        parameters=0,
        pixels=processor.rule.pixels,
        resize=geometry.resize,
        file=str(file.path),
    )
    return KerasFile(file=file, spec=spec, preprocessing=processor.preprocessing)


def input_of(file: BaseFile) -> tuple[list[int | str], bool]:
    """Return the shape of the input of a `.keras` file, and whether it rescales pixels itself.

    Raises:
        BaseOptionError: it takes no picture.
        WeightsError: it is not a Keras model.
    """
    config, _ = _read(file.path)
    sides = ("free" if side is None else side for side in _sides(file, config))
    return ["free", *sides, 3], _rescales(config)


def load_model(path: str, *, side: int) -> "keras.Model":
    """Return the model of a file, from float32 pixels (n, height, width, 3) to its one output.

    Args:
        path: the file.
        side: of the input, where the model takes any size.

    Raises:
        BaseOptionError: it has several inputs.
        WeightsError: Keras cannot load it.
    """
    import keras

    config, _ = _read(Path(path))
    if _names_keras_hub(config):
        _import_keras_hub(path)
    try:
        # The safe mode, which is the default, whatever this process has switched off.
        model: keras.Model = keras.models.load_model(path, compile=False, safe_mode=True)
        inputs = getattr(model, "inputs", None) or []
        if len(inputs) == 1 and None in inputs[0].shape[1:]:
            # What shapes are computed from must be known when the graph is made.
            fixed = keras.Input((side, side, 3), name=inputs[0].name)
            sized = keras.models.clone_model(model, input_tensors=fixed)
            sized.set_weights(model.get_weights())
            model = sized
    # Keras raises whatever its reader met, and what layers that it does not know say.
    except Exception as error:
        raise WeightsError(
            f"{path}: cannot be loaded ({one_line(error)}); save it with this release of Keras "
            f"({keras.__version__}) from layers of its own"
        ) from error
    if len(inputs) != 1:
        raise BaseOptionError(
            f"{path}: has {len(inputs)} inputs; give a functional model of one picture"
        )
    return model


def only_output(model: "keras.Model", path: str) -> Any:
    """Return the one output of a model.

    Raises:
        BaseOptionError: it has several.
    """
    if len(model.outputs) != 1:
        raise BaseOptionError(
            f"{path}: has {len(model.outputs)} outputs; say with --bottleneck-tensorname which "
            "layer gives the bottleneck"
        )
    return model.outputs[0]


def _names_keras_hub(config: Mapping[str, Any]) -> bool:
    waiting = [config]
    while waiting:
        layer = waiting.pop()
        if str(layer.get("module")).partition(".")[0] == "keras_hub":
            return True
        waiting += _layers(layer)
    return False


def _import_keras_hub(path: str) -> None:
    try:
        import keras_hub  # noqa: F401 # registers its layers
    except ImportError:
        raise WeightsError(
            f"{path}: is a model of KerasHub, which is not installed; pip install keras-hub"
        ) from None


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Return the config of a model, and the SHA-256 of it and of the weights."""
    try:
        with open_regular(path) as raw:
            if os.fstat(raw.fileno()).st_size > MOST_BYTES:
                raise too_large(path, MOST_BYTES)
            config = json.loads(_config_text(raw))
            raw.seek(0)
            digest = hashlib.file_digest(raw, "sha256").hexdigest()
    # zipfile, zlib and json raise whatever they met, a RecursionError and a MemoryError among it.
    except Exception as error:
        raise WeightsError(
            f"{path}: is not a Keras model ({one_line(error)}); give a file that "
            "model.save('….keras') wrote"
        ) from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: is not a Keras model; save it again")
    return config, digest


def _config_text(raw: IO[bytes]) -> bytes:
    """Return the config of an archive that does not unpack to more than a model could."""
    packed = raw.seek(0, os.SEEK_END)
    raw.seek(0)
    stream = Bounded(raw)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
        for entry in entries:
            check_method(entry)
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > max(_MOST_GROWTH * packed, _ALWAYS_FINE):
            raise ValueError(f"it would grow from {packed} to {unpacked} bytes")
        found = [entry for entry in entries if entry.filename == _CONFIG]
        if len(found) != 1 or found[0].file_size > _MOST_CONFIG:
            raise ValueError(f"it holds no {_CONFIG}, several of them, or one that is too large")
        return b"".join(member_pieces(stream, found[0]))
    finally:
        stream.detach()


def _sides(file: BaseFile, config: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return height and width of the input, None where they are free."""
    shapes = list(_input_shapes(config))
    if len(shapes) > 1:
        raise BaseOptionError(f"{file.path}: has {len(shapes)} inputs; give a model of one picture")
    shape = shapes[0] if shapes else None
    if not isinstance(shape, list) or len(shape) != 4 or shape[-1] != 3:
        said = "no shape" if shape is None else f"the shape {reprlib.repr(shape)}"
        raise BaseOptionError(
            f"{file.path}: its input has {said}; give a model of RGB pictures, "
            "(None, height, width, 3)"
        )
    for side in shape[1:3]:
        if side is not None and not (type(side) is int and 1 <= side <= MAX_IMAGE_SIZE):
            raise BaseOptionError(
                f"{file.path}: its input has the shape {reprlib.repr(tuple(shape))}; give a model "
                f"of pictures of at most {MAX_IMAGE_SIZE} pixels a side"
            )
    return shape[1], shape[2]


def _input_shapes(config: Mapping[str, Any]) -> Iterator[Any]:
    inner = config.get("config")
    inner = inner if isinstance(inner, dict) else {}
    found = False
    for layer in _layers(config):
        if layer.get("class_name") == "InputLayer":
            own = layer.get("config")
            own = own if isinstance(own, dict) else {}
            found = True
            yield own.get("batch_shape") or own.get("batch_input_shape")
    if found:
        return
    built = config.get("build_config")
    if isinstance(built, dict) and built.get("input_shape"):
        yield built["input_shape"]
    elif isinstance(inner.get("image_shape"), list):  # of a backbone of KerasHub
        yield [None, *inner["image_shape"]]


def _layers(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    layers = layers if isinstance(layers, list) else []
    return [layer for layer in layers if isinstance(layer, dict)]


def _rescales(config: Mapping[str, Any]) -> bool:
    """Tell whether the first layers bring the pixels into the scale of the weights."""
    for layer in _layers(config):
        kind = str(layer.get("class_name"))
        if kind in _RESCALING:
            return True
        if kind in _IDLE:
            continue
        return _rescales(layer)  # of a model inside, its first layers are the first
    return False


def _sized(
    options: BaseOptions,
    file: BaseFile,
    processor: Processor,
    height: int | None,
    width: int | None,
) -> Processor:
    size = options.image_size
    if size is None and processor.geometry is None:
        if height is not None and width is not None:
            return processor.fitted(height=height, width=width, resize=options.resize)
        raise BaseOptionError(
            f"{file.name}: takes pictures of any size, and nothing says for which it was "
            "trained; give --image-size"
        )
    processor = processor.sized(size=size, resize=options.resize)
    geometry = processor.preprocessing.geometry
    if (height or geometry.height, width or geometry.width) != (geometry.height, geometry.width):
        raise BaseOptionError(
            f"{file.name}: takes pictures of {height} x {width}, and not of {geometry.height} x "
            f"{geometry.width}; give --image-size and --resize as the model needs them"
        )
    return processor
