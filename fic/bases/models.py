"""The frozen base as a Keras model, cut at the bottleneck.

TensorFlow is imported inside the functions: whoever only lists the bases does not pay for it.
"""

import difflib
import hashlib
import logging
import os
import random
import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BaseOptionError, WeightsError, one_line
from ..options import Pooling
from . import efficientnet_lite, keras_file
from .figures import find_weights
from .table import Base
from .weights import load_file, load_package, locking_remedy, mend_released_normalization

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

# Blocks in each stage of ResNet50 (He et al. 2015, table 1).
_RESNET50_STAGES = {2: 3, 3: 4, 4: 6, 5: 3}


def build_base(
    base: Base,
    *,
    weights: str = "imagenet",
    size: int | None = None,
    seed: int = 0,
    layer: str | None = None,
    pooling: Pooling = "avg",
) -> "keras.Model":
    """Return the base as a frozen Functional model, from pixels in its own scale to bottleneck.

    The input is float32 (n, size, size, 3), scaled and ordered as `base.pixels` says; the output
    is float32, (n, features) when pooled and (n, height, width, channels) when not. Layers are
    named as in a fresh process, whatever was built before.

    Args:
        base: the row of the table.
        weights: `imagenet`, `none` for random weights, or the path of a `.h5`, `.weights.h5` or
            `.keras` file of the same architecture, with or without its classifier.
        size: side of the square input; the base's own unless given.
        seed: of the random weights; one seed gives the same weights in every process.
        layer: name of the layer whose output is the bottleneck; the base's last unless given.
        pooling: pooling of a feature map into a vector; `none` keeps the map.

    Raises:
        WeightsError: the weights cannot be downloaded or read, or do not fit the base.
        BaseOptionError: no layer is called `layer`, or `size` is too small or too large.
    """
    side = base.preprocessing(size=size).geometry.width
    if side < base.minimum_size:
        raise BaseOptionError(
            f"{base.name}: an image size of {side} is too small; "
            f"the smallest that it accepts is {base.minimum_size}"
        )
    # A cut may name the pooling layer itself, so it must be there to be found.
    own_pooling = "avg" if layer is not None and pooling == "none" else pooling
    with _plain_keras(seed):
        model = _construct(base, imagenet=weights == "imagenet", side=side, pooling=own_pooling)
    if base.file is None:
        _name_layers_afresh(model)
    if weights not in ("imagenet", "none"):
        load_file(model, base, Path(weights))
    if layer is not None:
        model = _cut(model, base, layer, pooling)
    elif base.file is not None:
        output = keras_file.only_output(model, base.file)
        model = _up_to(model, output, base, base.name, pooling)
    model.trainable = False
    return model


def build_rest(
    base: Base, layer: str, *, weights: str = "imagenet", size: int | None = None, seed: int = 0
) -> "keras.Model":
    """Return the rest of the base after the layer `layer`, as a trainable copy.

    From the bottleneck, float32 and not pooled, to the base's own pooled features, float32
    (n, features). Normalization keeps the statistics and the scales of the base: those of small
    batches of another data set would only be noisier. Training the copy leaves the base alone.

    Args:
        base: the row of the table.
        layer: name of the layer that gives the bottleneck.
        weights: see `build_base`.
        size: see `build_base`.
        seed: see `build_base`.

    Raises:
        BaseOptionError: no layer is called so, or the rest needs more than its output.
        WeightsError: see `build_base`.
    """
    import keras

    whole = build_base(base, weights=weights, size=size, seed=seed)
    cut = _find_layer(whole, base, layer)
    bottleneck = keras.Input(tuple(cut.output.shape[1:]), name="bottleneck")
    rest = _after(whole, cut)
    if rest is None:
        later = whole.layers[whole.layers.index(cut) + 1 :]
        name = next((layer.name for layer in later if _after(whole, layer) is not None), None)
        hint = f"; the next layer where that is so is {name}" if name else ""
        raise BaseOptionError(
            f"{base.name}: after {cut.name} the rest of the base needs more than the output of "
            f"this layer, so it cannot be the head{hint}"
        )
    copy = keras.models.clone_model(rest, input_tensors=bottleneck)
    copy.set_weights(rest.get_weights())
    for own in copy.layers:
        own.trainable = not isinstance(own, keras.layers.BatchNormalization)
    return copy


def copy_base(
    model: "keras.Model",
    base: Base,
    *,
    size: int | None = None,
    layer: str | None = None,
    pooling: Pooling = "avg",
) -> "keras.Model":
    """Return a base of its own with the weights of `model`, which `build_base` gave for the rest.

    The copy has the layers that `weights="none"` builds, so a file of its weights fits those.
    """
    copy = build_base(base, weights="none", size=size, layer=layer, pooling=pooling)
    copy.set_weights(model.get_weights())
    mend_released_normalization(copy)
    return copy


def weights_digest(model: "keras.Model") -> str:
    """Return 32 hexadecimal digits over names, shapes and values of all weights, in layer order.

    Names of layers do not enter, nor does the number of a weight without a name (`variable_17`,
    in ConvNeXt): both are counted per process, and what was built before shall not matter.
    """
    digest = hashlib.blake2b(digest_size=16)
    for layer in model.layers:
        for variable, array in zip(layer.weights, layer.get_weights(), strict=True):
            name = re.sub(r"^variable_\d+$", "variable", variable.name)
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _after(whole: "keras.Model", layer: Any) -> "keras.Model | None":
    """Return the model from this layer's output to the end; None where that is not all it needs."""
    import keras

    try:
        return keras.Model(layer.output, whole.output)
    except ValueError:
        return None


def _construct(base: Base, *, imagenet: bool, side: int, pooling: Pooling) -> "keras.Model":
    if base.file is not None:
        return keras_file.load_model(base.file, side=side)
    if base.constructor in efficientnet_lite.SCALES:
        model = efficientnet_lite.build(
            base.constructor,
            input_shape=(side, side, 3),
            pooling=None if pooling == "none" else pooling,
        )
        if imagenet and base.package is not None:
            load_package(model, base, base.package)
        return model

    import keras

    def call(weights: str | None) -> "keras.Model":
        return getattr(keras.applications, base.constructor)(
            include_top=False,
            weights=weights,
            input_shape=(side, side, 3),
            pooling=None if pooling == "none" else pooling,
            **dict(base.arguments),
        )

    if not imagenet:
        return call(None)
    log.info("loading the ImageNet weights of %s", base.name)
    try:
        with _readable_home(find_weights(base).path):
            return call("imagenet")
    # Keras raises a bare Exception when a download fails, and whatever HDF5 does for a broken file.
    except Exception as error:
        remedy = locking_remedy(error) or (
            "check the network, delete a broken file in models/ of KERAS_HOME (~/.keras), or use "
            "--weights FILE or --weights none"
        )
        raise WeightsError(
            f"{base.name}: its ImageNet weights could not be loaded ({one_line(error)}); {remedy}"
        ) from error


@contextmanager
def _readable_home(file: Path | None) -> Iterator[None]:
    """Let Keras find a file in a KERAS_HOME that it may not write, which it would pass over."""
    if file is None or not file.is_file() or os.access(file.parents[1], os.W_OK):
        yield
        return
    from keras.src.backend import config  # no public name leads to it

    with tempfile.TemporaryDirectory() as home:
        Path(home, "models").symlink_to(file.parent.absolute())
        before, config._KERAS_DIR = config._KERAS_DIR, home
        try:
            yield
        finally:
            config._KERAS_DIR = before


@contextmanager
def _plain_keras(seed: int) -> Iterator[None]:
    """Build silently in float32 and channels last, from the seed; then restore the settings."""
    import keras

    policy = keras.config.dtype_policy()
    data_format = keras.config.image_data_format()
    interactive = keras.config.is_interactive_logging_enabled()
    # Keras draws the seeds of its initializers from the standard library's generator.
    state = random.getstate()
    random.seed(seed)
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.disable_interactive_logging()
    try:
        with warnings.catch_warnings():
            # At a size that has no weights of its own, Keras loads those of 224 and warns.
            warnings.simplefilter("ignore")
            yield
    finally:
        if interactive:
            keras.config.enable_interactive_logging()
        keras.config.set_image_data_format(data_format)
        keras.config.set_dtype_policy(policy)
        random.setstate(state)


def _name_layers_afresh(model: "keras.Model") -> None:
    """Count automatic names (`activation_17`) from the start, in the order of construction.

    Keras counts them per process, so they would depend on what was built before.
    """
    numbered: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for operation in model.operations:
        stem = re.sub(r"_\d+$", "", operation.name)
        if stem.replace("_", "") == type(operation).__name__.lower():
            numbered[stem].append((int(operation.name[len(stem) + 1 :] or 0), operation))
    for stem, operations in numbered.items():
        for number, (_, operation) in enumerate(sorted(operations, key=lambda pair: pair[0])):
            operation.name = f"{stem}_{number}" if number else stem


def _cut(model: "keras.Model", base: Base, layer: str, pooling: Pooling) -> "keras.Model":
    output = _find_layer(model, base, layer).output
    return _up_to(model, output, base, layer, pooling)


def _up_to(
    model: "keras.Model", output: Any, base: Base, name: str, pooling: Pooling
) -> "keras.Model":
    """Return the model up to an output, which is pooled if it is a map or tokens."""
    import keras

    rank = len(output.shape)
    if rank not in (2, 3, 4) or None in output.shape[1:]:
        raise BaseOptionError(
            f"{base.name}: {name} gives the shape {tuple(output.shape)}, and a bottleneck is a "
            "vector, a map or tokens; name another layer with --bottleneck-tensorname"
        )
    if pooling == "cls" and rank != 3:
        raise BaseOptionError(
            f"--pooling cls: takes the first of several tokens, and {name} of {base.name} gives "
            f"{'a map' if rank == 4 else 'a vector'}; give avg, max or none"
        )
    if rank == 4 and pooling != "none":
        pool = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
        output = pool[pooling](name="bottleneck_pool")(output)
    elif rank == 3:
        output = _pooled_tokens(output, pooling)
    return keras.Model(model.inputs[0], output, name=model.name)


def _pooled_tokens(tokens: Any, pooling: Pooling) -> Any:
    import keras

    count, width = tokens.shape[1:]
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling1D(name="bottleneck_pool")(tokens)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling1D(name="bottleneck_pool")(tokens)
    if pooling == "cls":
        first = keras.layers.Cropping1D((0, count - 1), name="bottleneck_token")(tokens)
        return keras.layers.Reshape((width,), name="bottleneck_pool")(first)
    # A map of one row: all that reads bottlenecks knows vectors and maps.
    return keras.layers.Reshape((1, count, width), name="bottleneck_pool")(tokens)


def _find_layer(model: "keras.Model", base: Base, layer: str) -> Any:
    modern = _name_since_keras_2_2(base, layer)
    if modern is not None:
        log.warning("%s: the layer %s is called %s today", base.name, layer, modern)
        layer = modern
    names = [layer.name for layer in model.layers]
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4)
        hint = f"the nearest are {', '.join(near)}" if near else f"its last is {names[-1]}"
        raise BaseOptionError(f"{base.name} has no layer {layer!r}; {hint}")
    return model.get_layer(layer)


def _name_since_keras_2_2(base: Base, layer: str) -> str | None:
    """Return today's name of `activation_N` of ResNet50, as Keras 2.1.6 and older numbered it.

    Activation 1 follows the stem, then each block has three, the last of which is its output; so
    `activation_31` is the output of the third block of stage 4.
    """
    match = re.fullmatch(r"activation_(\d+)", layer)
    if base.constructor != "ResNet50" or match is None:
        return None
    number = int(match[1])
    if number == 1:
        return "conv1_relu"
    before = 1
    for stage, blocks in _RESNET50_STAGES.items():
        block, position = divmod(number - before - 1, 3)
        if 0 <= block < blocks:
            return f"conv{stage}_block{block + 1}_{('1_relu', '2_relu', 'out')[position]}"
        before += 3 * blocks
    return None
