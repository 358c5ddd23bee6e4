"""A linear head as one kernel and one bias, which may be applied to each place of a feature map."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..bundle import CLASS_WEIGHTS_FILE, Bundle
from ..bundle.arrays import read_arrays
from ..bundle.manifest import FeatureMap
from ..errors import BundleError

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassWeights:
    """A linear head as it acts on the base's own features, its standardisation included.

    `kernel` is float32 (features, labels) and `bias` float32 (labels,). Of a softmax only
    differences between labels count, so the mean over the labels is taken off both.
    """

    kernel: Floats
    bias: Floats

    def logits_by_place(self, features: Floats, feature_map: FeatureMap) -> Floats:
        """Return what the head says of each place alone, (n, h, w, labels), before the softmax."""
        places = features.transpose(0, 2, 3, 1) if feature_map.layout == "nchw" else features
        logits: Floats = places @ self.kernel + self.bias
        return logits


def read_class_weights(bundle: Bundle) -> ClassWeights | None:
    """Read the class weights of a bundle's head; None if it was exported without.

    Raises:
        BundleError: the file is damaged or does not fit the head.
    """
    if CLASS_WEIGHTS_FILE not in bundle.manifest.files:
        return None
    path = bundle.files.path(CLASS_WEIGHTS_FILE)
    try:
        arrays = read_arrays(bundle.files.read(CLASS_WEIGHTS_FILE))
        weights = ClassWeights(arrays["kernel"], arrays["bias"])
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the bundle again") from error
    features, labels = bundle.manifest.head.input.shape[-1], len(bundle.manifest.labels)
    for array, shape in ((weights.kernel, (features, labels)), (weights.bias, (labels,))):
        if array.dtype != np.float32 or array.shape != shape:
            raise BundleError(
                f"{path}: holds {array.dtype} {array.shape} where the head has {shape}; "
                "export the bundle again"
            )
    return weights
