"""A head of the user's own: `--head FILE.py:FUNCTION`.

The function is the seed's `transfer_model(bottleneck, num_classes)`: it takes Keras's symbolic
tensor of bottlenecks and returns that of the probabilities. Commands after the training load the
head without the file, and export it; whether they can is found out before the training.
"""

import importlib.util
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import HeadError, one_line

if TYPE_CHECKING:
    import keras


def custom_head(file: Path, function: str, shape: Sequence[int], classes: int) -> "keras.Model":
    """Return the head that a user's function makes for bottlenecks of `shape`.

    Raises:
        HeadError: the file or the function cannot be used, or what it returns is no head, or one
            that cannot be loaded without the file or not be exported.
    """
    import keras

    place = f"{file}:{function}"
    make = _load_function(file, function)
    bottleneck = keras.Input(tuple(shape), name="bottleneck")
    with _told(file):
        outputs = make(bottleneck, classes)
    if not isinstance(outputs, keras.KerasTensor):
        raise HeadError(
            f"{place} returned a {type(outputs).__name__} and not the tensor that Keras's layers "
            "make of `bottleneck`; return the output of its last layer"
        )
    if tuple(outputs.shape) != (None, classes):
        raise HeadError(
            f"{place} returned a tensor of shape {tuple(outputs.shape)} and not (None, {classes}), "
            f"a probability for each of the {classes} classes; end with Dense(num_classes)"
        )
    try:
        head = keras.Model(bottleneck, outputs, name="head")
    except ValueError as error:
        raise HeadError(
            f"{place}: what it returned does not come from `bottleneck`; start from there"
        ) from error
    _check_probabilities(head, place)
    _check_layers(head.layers, place)
    _check_loadable(head, place)
    _check_exportable(head, place)
    return head


def _load_function(file: Path, name: str) -> Callable[..., Any]:
    if not file.is_file():
        raise HeadError(f"{file}: no such file; give --head FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"fic_head_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise HeadError(f"{file}: is not a Python file; give --head FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    with _told(file):
        spec.loader.exec_module(module)
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        raise HeadError(f"{file}: has no function {name}; it has {', '.join(own) or 'none at all'}")
    return function


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Make of whatever the user's code raises one sentence with its line."""
    try:
        yield
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == file.resolve()
        ]
        line = error.lineno if isinstance(error, SyntaxError) else next(reversed(lines), None)
        where = f"{file}, line {line}" if line else str(file)
        raise HeadError(f"{where}: {type(error).__name__}: {one_line(error)}") from error


def _check_probabilities(head: "keras.Model", place: str) -> None:
    shape = (8, *head.input_shape[1:])
    random = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    answers = np.asarray(head.predict_on_batch(random))
    if not (np.all(answers >= 0) and np.allclose(answers.sum(axis=1), 1, atol=1e-3)):
        raise HeadError(
            f"{place}: its outputs are not probabilities that add up to 1; end with "
            'Dense(num_classes, activation="softmax")'
        )


def _check_layers(layers: Sequence["keras.Layer"], place: str) -> None:
    for layer in layers:
        if type(layer).__module__.partition(".")[0] != "keras":
            raise HeadError(
                f"{place}: the layer {layer.name} is a {type(layer).__name__}, which could not be "
                "loaded without this file; use layers of Keras itself"
            )
        _check_layers(getattr(layer, "layers", ()), place)


def _check_loadable(head: "keras.Model", place: str) -> None:
    import keras

    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "head.keras")
            head.save(file)
            keras.models.load_model(file, compile=False)
    # Keras raises a different class for each thing that cannot be loaded.
    except Exception as error:
        raise HeadError(
            f"{place}: its head cannot be loaded once it is saved ({one_line(error)}); use layers "
            "and operations of Keras itself"
        ) from error


def _check_exportable(head: "keras.Model", place: str) -> None:
    from fic_export.conversion import convert_head
    from fic_export.errors import ConversionError

    try:
        convert_head(head)
    except ConversionError as error:
        raise HeadError(f"{place}: its head cannot be exported; {error}") from error
