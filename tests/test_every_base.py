"""Every base goes the whole way: cut, extracted, trained, exported, run without Keras."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fic import BaseOptions, Source, TrainingOptions, export_run, train
from fic.bases import BASES, Base
from fic.options import CacheOptions
from fic_runtime import Classifier

QUICK = ("mobilenet_0.25",)
# A layer well before the end, by the beginning of the constructor's name.
INNER_LAYERS = {
    "MobileNet": "conv_pw_4_relu",
    "MobileNetV2": "block_4_add",
    "MobileNetV3": "expanded_conv_4_add",
    "NASNet": "normal_concat_1",
    "EfficientNet": "block3a_project_bn",
    "ResNet": "conv3_block1_out",
    "DenseNet": "conv3_block6_concat",
    "InceptionV3": "mixed2",
    "InceptionResNet": "mixed_5b",
    "Xception": "block4_pool",
    "ConvNeXt": "{name}_stage_1_block_0_identity",
    "VGG": "block3_pool",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of pictures that lean to blue or to red."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for channel, name in ((0, "blue"), (2, "red")):
        (folder / name).mkdir()
        for number in range(8):
            soft = random.integers(0, 160, (4, 4, 3), dtype=np.uint8)
            soft[..., channel] += 90
            picture = cv2.resize(soft, (80, 60), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / name / f"{number}.png"), picture)
    return folder


pytestmark = pytest.mark.usefixtures("nothing_left_in_memory")


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(base, id=name, marks=() if name in QUICK else pytest.mark.all_bases)
        for name, base in BASES.items()
    ],
)
def test_a_bundle_of_every_base_cut_inside_answers_like_its_run(
    base: Base, photos: Path, tmp_path: Path
) -> None:
    run = train(
        Source(data=photos, val_split=0.4),
        out=tmp_path / "run",
        base=BaseOptions(
            base_model=base.name,
            weights="none",
            image_size=base.minimum_size,
            layer=inner_layer(base),
        ),
        cache=CacheOptions(bottleneck_dir=tmp_path / "cache"),
        options=TrainingOptions(epochs=3),
    )
    assert run.record["engine"] == "onnx"
    # Compares with Keras, and raises if they differ.
    export_run(run.folder, out=tmp_path / "bundle")
    rows = run.validation()
    with Classifier(tmp_path / "bundle", device="cpu") as classifier:
        answers = classifier.predict_batch([row.path for row in rows])
    assert [each.label for each in answers] == [row.predicted for row in rows]
    assert np.std([each.probabilities[0] for each in answers]) > 0.01


def inner_layer(base: Base) -> str:
    """Return the layer of the longest beginning that fits."""
    beginning = max(filter(base.constructor.startswith, INNER_LAYERS), key=len)
    return INNER_LAYERS[beginning].format(name=base.name)
