"""Where in a picture the base sees what speaks for a label: class activation maps.

Zhou et al. 2016, "Learning deep features for discriminative localization",
https://arxiv.org/abs/1512.04150: if the bottleneck is the mean of a feature map over its locations
and the head is linear, the head may be applied to each location on its own. Its logits there are
the heat, and their mean over the locations is its logit for the whole picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .bundle.manifest import FeatureMap
from .errors import BundleError
from .heads.linear import LinearHead
from .images import Pixels8, load_image, to_rgb
from .images.resizing import central_part, fitted_part
from .preprocessing import ChannelOrder, Geometry

if TYPE_CHECKING:
    from .graphs.graph import Graph
    from .heads.head import Head
    from .images import ImageSource

_LABELS_SHOWN = 20
_ROWS_AT_ONCE = 256  # of an overlay, so that a photo of 50 megapixels needs little more than itself


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where the head sees a label in one picture.

    Attributes:
        label: the label that is looked for.
        index: its index in the labels.
        probability: of the label, for the whole picture.
        heat: float32 (h, w), the locations of the base's feature map. The label's logit at each
            location, above the mean of all labels: what is positive speaks for the label.
        geometry: how the picture became the base's input.
        channel_order: of arrays, as the classifier takes them.
        known: whether the picture is like those of the training; None if the bundle cannot tell.
        ood_score: of the picture, higher for outliers; None likewise.
    """

    label: str
    index: int
    probability: float
    heat: NDArray[np.float32] = field(repr=False, compare=False)
    geometry: Geometry = field(repr=False)
    channel_order: ChannelOrder = field(default="rgb", repr=False)
    known: bool | None = None
    ood_score: float | None = None

    def heat_over(self, height: int, width: int) -> NDArray[np.float32]:
        """Lay the heat over a picture of a size: float32 (height, width), interpolated linearly.

        Where the base did not look, at the sides that `crop` cuts off, it is not a number.
        """
        return np.concatenate(list(self._strips(height, width)))

    def overlay(self, image: "ImageSource", *, opacity: float = 0.6) -> Pixels8:
        """Return the picture with the heat on it: uint8 RGB of its own size, upright.

        Colours run from blue, which hardly speaks for the label, to red, the most that speaks for
        it in this picture; what does not speak for it stays as it is.

        Args:
            image: the picture that was explained.
            opacity: how much of the picture the hottest location covers, 0..1.

        Raises:
            ImageError: it is not a picture.
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity is 0 to 1; received {opacity}")
        import cv2

        picture = to_rgb(image, channel_order=self.channel_order)
        result = np.empty_like(picture)
        hottest = max(float(self.heat.max()), 0.0) or 1.0
        start = 0
        for strip in self._strips(*picture.shape[:2]):
            rows = slice(start, start + len(strip))
            strength = np.clip(np.nan_to_num(strip) / hottest, 0, 1)
            levels = np.round(strength * 255).astype(np.uint8)
            colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
            share = opacity * strength[..., None]
            result[rows] = np.round(picture[rows] * (1 - share) + colours * share)
            start = rows.stop
        return result

    def _strips(self, height: int, width: int) -> Iterator[NDArray[np.float32]]:
        """Yield `heat_over` in strips of whole rows, from the top."""
        if height < 1 or width < 1:
            raise ValueError(f"a picture has at least one pixel; received {height} x {width}")
        rows, columns = _footprints(height, width, self.geometry)
        across = columns.weights(self.heat.shape[1]).T
        down = rows.weights(self.heat.shape[0])
        for start in range(0, height, _ROWS_AT_ONCE):
            strip = np.full((min(_ROWS_AT_ONCE, height - start), width), np.nan, np.float32)
            seen = slice(max(start, rows.start), min(start + len(strip), rows.start + rows.size))
            if seen.start < seen.stop:
                part = down[seen.start - rows.start : seen.stop - rows.start] @ self.heat @ across
                inside = slice(columns.start, columns.start + columns.size)
                strip[seen.start - start : seen.stop - start, inside] = part
            yield strip


def explain(
    image: "ImageSource",
    label: str | None,
    *,
    base: "Graph",
    head: "Head",
    feature_map: FeatureMap | None,
    channel_order: ChannelOrder = "rgb",
    max_pixels: int | None = None,
) -> Explanation:
    """Explain one picture: `Classifier.explain` with the parts of one.

    Raises:
        BundleError: the bundle was exported without its feature map, or has no such label.
        ImageError: it is not a picture.
    """
    feature_map, weights = explainable(feature_map, head, label)
    geometry, labels = head.manifest.preprocessing.geometry, head.labels
    pixels = load_image(image, geometry, channel_order=channel_order, max_pixels=max_pixels)
    features, bottleneck = feature_map_of(base, pixels[None], feature_map)
    (prediction,) = head.predict(bottleneck)
    index = prediction.index if label is None else labels.index(label)
    logits = weights.logits_by_location(features, feature_map)
    return Explanation(
        label=labels[index],
        index=index,
        probability=float(prediction.probabilities[index]),
        heat=np.ascontiguousarray(logits[0, ..., index]),
        geometry=geometry,
        channel_order=channel_order,
        known=prediction.known,
        ood_score=prediction.ood_score,
    )


def explainable(
    feature_map: FeatureMap | None, head: "Head", label: str | None
) -> tuple[FeatureMap, LinearHead]:
    """Return what an explanation needs.

    Raises:
        BundleError: base or head was exported without it, or the head has no such label.
    """
    weights = head.linear
    if feature_map is None or weights is None:
        raise BundleError(
            f"the {'base' if feature_map is None else 'head'} was exported without what "
            "explanations need; export it again with --with-feature-map"
        )
    if label is not None and label not in head.labels:
        shown = ", ".join(head.labels[:_LABELS_SHOWN])
        more = " and more" if len(head.labels) > _LABELS_SHOWN else ""
        raise BundleError(f"the bundle has no label {label!r}; its labels are {shown}{more}")
    return feature_map, weights


def feature_map_of(
    base: "Graph", pixels: NDArray[Any], feature_map: FeatureMap
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the feature maps and the bottlenecks of pictures that are resized already."""
    if feature_map.output.name == base.output.name:
        bottlenecks = base.run(pixels)
        return bottlenecks, bottlenecks
    features, bottlenecks = base.run_outputs(pixels, (feature_map.output.name, base.output.name))
    return features, bottlenecks


@dataclass(frozen=True, slots=True)
class _Footprint:
    """On one axis, which pixels of a picture the base saw, and where in its input they were."""

    start: int
    size: int
    input_start: int
    input_size: int
    input_length: int

    def weights(self, locations: int) -> NDArray[np.float32]:
        """Return what each location of the feature map is to each pixel: (size, locations)."""
        pixels = (np.arange(self.size) + 0.5) * (self.input_size / self.size) + self.input_start
        at = np.clip(pixels * (locations / self.input_length) - 0.5, 0, locations - 1)
        distance = np.abs(at[:, None] - np.arange(locations))
        return np.asarray(np.maximum(1 - distance, 0), np.float32)


def _footprints(height: int, width: int, geometry: Geometry) -> tuple[_Footprint, _Footprint]:
    """Return what rows and columns of a picture the base saw, and where."""
    top, left, rows, columns = 0, 0, height, width
    input_top, input_left, input_rows, input_columns = 0, 0, geometry.height, geometry.width
    if geometry.resize == "crop":
        top, left, rows, columns = central_part(height, width, geometry)
    elif geometry.resize == "pad":
        input_top, input_left, input_rows, input_columns = fitted_part(height, width, geometry)
    return (
        _Footprint(top, rows, input_top, input_rows, geometry.height),
        _Footprint(left, columns, input_left, input_columns, geometry.width),
    )
