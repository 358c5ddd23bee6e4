"""What one chooses a base by: published accuracy, measured speed, and where its weights are.

Nothing here changes what a base computes; that is in `table`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from .table import Base
from .weights import package_file

# What `Figures.speed` is relative to, the default of `--base-model`.
REFERENCE = "efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Facts about one base.

    Attributes:
        family: the networks that it belongs to, as their authors call them.
        top1: published accuracy on ImageNet in percent (docs/bases.md says by whom), if any was.
        speed: pictures per second on a CPU, relative to `REFERENCE`, as docs/bases.md has it.
        download: name of the file that Keras downloads; None where a package holds the weights.
    """

    family: str
    top1: float | None
    speed: float | None
    download: str | None


@dataclass(frozen=True, kw_only=True)
class WeightsPlace:
    """Where the ImageNet weights of a base come from.

    Attributes:
        source: a package of the Python package index, or a download by Keras.
        name: of the package or of the file.
        path: where the file is, or would be.
        here: whether it is there already.
    """

    source: Literal["package", "download"]
    name: str
    path: Path | None
    here: bool


def find_weights(base: Base) -> WeightsPlace:
    """Return where the ImageNet weights of a base come from, and whether they are here."""
    if base.package is not None:
        file = package_file(base.package)
        return WeightsPlace(
            source="package", name=base.package.name, path=file, here=file is not None
        )
    name = f"{FIGURES[base.name].download}.h5"
    # As Keras finds its folder, which must not be imported to know.
    home = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
    path = Path(home) / "models" / name
    return WeightsPlace(source="download", name=name, path=path, here=path.is_file())


def _figures(
    family: str, top1: float | None, speed: float | None, download: str | None = None
) -> Figures:
    return Figures(family=family, top1=top1, speed=speed, download=download)


_KERNELS = "weights_tf_dim_ordering_tf_kernels"


def _mobilenet_v2(alpha: float) -> str:
    return f"mobilenet_v2_{_KERNELS}_{alpha}_224_no_top"


def _mobilenet_v3(size: str, alpha: float) -> str:
    return f"weights_mobilenet_v3_{size}_224_{alpha}_float_no_top_v2"


def _kernels(name: str) -> str:
    return f"{name}_{_KERNELS}_notop"


FIGURES: Mapping[str, Figures] = MappingProxyType(
    {
        # name: family, top-1, speed, download
        "efficientnet_lite0": _figures("EfficientNet-Lite", 75.1, 1.0),
        "efficientnet_lite1": _figures("EfficientNet-Lite", 76.7, 0.68),
        "efficientnet_lite2": _figures("EfficientNet-Lite", 77.6, 0.5),
        "mobilenet_0.25": _figures("MobileNet", 49.8, 4.5, "mobilenet_2_5_224_tf_no_top"),
        "mobilenet_0.5": _figures("MobileNet", 63.3, 2.6, "mobilenet_5_0_224_tf_no_top"),
        "mobilenet_0.75": _figures("MobileNet", 68.4, 1.9, "mobilenet_7_5_224_tf_no_top"),
        "mobilenet": _figures("MobileNet", 70.4, 0.98, "mobilenet_1_0_224_tf_no_top"),
        "mobilenet_v2_0.35": _figures("MobileNetV2", 60.3, 3, _mobilenet_v2(0.35)),
        "mobilenet_v2_0.5": _figures("MobileNetV2", 65.4, 2.6, _mobilenet_v2(0.5)),
        "mobilenet_v2_0.75": _figures("MobileNetV2", 69.8, 1.4, _mobilenet_v2(0.75)),
        "mobilenet_v2": _figures("MobileNetV2", 71.3, 1.3, _mobilenet_v2(1.0)),
        "mobilenet_v2_1.3": _figures("MobileNetV2", 74.4, 0.9, _mobilenet_v2(1.3)),
        "mobilenet_v2_1.4": _figures("MobileNetV2", 75.0, 0.9, _mobilenet_v2(1.4)),
        "mobilenet_v3_small_0.75": _figures("MobileNetV3", 65.4, 4.6, _mobilenet_v3("small", 0.75)),
        "mobilenet_v3_small": _figures("MobileNetV3", 68.1, 3.7, _mobilenet_v3("small", 1.0)),
        "mobilenet_v3_large_0.75": _figures("MobileNetV3", 73.3, 1.9, _mobilenet_v3("large", 0.75)),
        "mobilenet_v3_large": _figures("MobileNetV3", 75.6, 1.3, _mobilenet_v3("large", 1.0)),
        "nasnet_mobile": _figures("NASNet", 74.4, 0.45, "nasnet_mobile_no_top"),
        "nasnet_large": _figures("NASNet", 82.5, 0.033, "nasnet_large_no_top"),
        "efficientnet_b0": _figures("EfficientNet", 77.1, 0.84, "efficientnetb0_notop"),
        "efficientnet_b1": _figures("EfficientNet", 79.1, 0.56, "efficientnetb1_notop"),
        "efficientnet_b2": _figures("EfficientNet", 80.1, 0.37, "efficientnetb2_notop"),
        "efficientnet_b3": _figures("EfficientNet", 81.6, 0.24, "efficientnetb3_notop"),
        "efficientnet_b4": _figures("EfficientNet", 82.9, 0.1, "efficientnetb4_notop"),
        "efficientnet_b5": _figures("EfficientNet", 83.6, 0.05, "efficientnetb5_notop"),
        "efficientnet_b6": _figures("EfficientNet", 84.0, 0.03, "efficientnetb6_notop"),
        "efficientnet_b7": _figures("EfficientNet", 84.3, 0.013, "efficientnetb7_notop"),
        "efficientnet_v2_b0": _figures("EfficientNetV2", 78.7, 0.68, "efficientnetv2-b0_notop"),
        "efficientnet_v2_b1": _figures("EfficientNetV2", 79.8, 0.48, "efficientnetv2-b1_notop"),
        "efficientnet_v2_b2": _figures("EfficientNetV2", 80.5, 0.48, "efficientnetv2-b2_notop"),
        "efficientnet_v2_b3": _figures("EfficientNetV2", 82.0, 0.19, "efficientnetv2-b3_notop"),
        "efficientnet_v2_s": _figures("EfficientNetV2", 83.9, 0.09, "efficientnetv2-s_notop"),
        "efficientnet_v2_m": _figures("EfficientNetV2", 85.3, 0.033, "efficientnetv2-m_notop"),
        "efficientnet_v2_l": _figures("EfficientNetV2", 85.7, 0.019, "efficientnetv2-l_notop"),
        "resnet50": _figures("ResNet", 74.9, 0.19, _kernels("resnet50")),
        "resnet101": _figures("ResNet", 76.4, 0.12, _kernels("resnet101")),
        "resnet152": _figures("ResNet", 76.6, 0.11, _kernels("resnet152")),
        "resnet50_v2": _figures("ResNetV2", 76.0, 0.22, _kernels("resnet50v2")),
        "resnet101_v2": _figures("ResNetV2", 77.2, 0.11, _kernels("resnet101v2")),
        "resnet152_v2": _figures("ResNetV2", 78.0, 0.094, _kernels("resnet152v2")),
        "densenet121": _figures("DenseNet", 75.0, 0.23, _kernels("densenet121")),
        "densenet169": _figures("DenseNet", 76.2, 0.18, _kernels("densenet169")),
        "densenet201": _figures("DenseNet", 77.3, 0.13, _kernels("densenet201")),
        "inception_v3": _figures("Inception", 77.9, 0.14, _kernels("inception_v3")),
        "inception_resnet_v2": _figures("Inception", 80.3, 0.065, _kernels("inception_resnet_v2")),
        "xception": _figures("Xception", 79.0, 0.11, _kernels("xception")),
        "convnext_tiny": _figures("ConvNeXt", 81.3, 0.11, "convnext_tiny_notop"),
        "convnext_small": _figures("ConvNeXt", 82.3, 0.064, "convnext_small_notop"),
        "convnext_base": _figures("ConvNeXt", 85.3, 0.05, "convnext_base_notop"),
        "convnext_large": _figures("ConvNeXt", 86.3, 0.022, "convnext_large_notop"),
        "convnext_xlarge": _figures("ConvNeXt", 86.7, 0.011, "convnext_xlarge_notop"),
        "vgg16": _figures("VGG", 71.3, 0.092, _kernels("vgg16")),
        "vgg19": _figures("VGG", 71.3, 0.068, _kernels("vgg19")),
    }
)
