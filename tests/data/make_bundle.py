"""Make the golden bundle of the current format: python tests/data/make_bundle.py

Run once for each new format number, and committed. A bundle that exists is never made again: that
a later runtime reads it and gives the same answers is the promise of the format.
"""

import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import onnx

from fic_export import export_bundle
from fic_runtime import Classifier
from fic_runtime.bundle.manifest import FORMAT
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing

HERE = Path(__file__).parent
LABELS = ("daisy", "Sonnenblume, groß", "バラ の花")
# Nothing symmetric, so that a mistake in channels, axes or arithmetic shows.
PREPROCESSING = Preprocessing(
    geometry=Geometry(height=32, width=40, resize="crop", crop_fraction=0.875, jpeg_margin=2.0),
    pixels=Pixels(channel_order="bgr", scale=(0.02, 0.016, 0.0125), offset=(-2.0, -1.5, -1.25)),
)
# A test finds the head's bias by its bytes and writes another.
BIAS = (0.1234567, -0.2345678, 0.3456789)


def main() -> None:
    """Write `bundle-v<format>/` with pictures and what the bundle says of them."""
    keras.utils.set_random_seed(1)
    folder = HERE / f"bundle-v{FORMAT}"
    if folder.exists():
        raise SystemExit(f"{folder}: is there already and must stay as it is")
    pictures = draw_pictures(HERE / "drawn")
    export_bundle(
        make_base(),
        make_head(),
        labels=LABELS,
        preprocessing=PREPROCESSING,
        pictures=pictures,
        out=folder,
        origin={"base": "tiny"},
        metrics={"accuracy": 0.5},
    )
    for picture in pictures:
        shutil.move(picture, folder / picture.name)
    (HERE / "drawn").rmdir()
    write_expected(folder, [folder / picture.name for picture in pictures])
    write_two_outputs(HERE / "two_outputs.onnx")


def make_base() -> keras.Model:
    """Return a base of two convolutions and a pool that tells pictures apart."""
    image = keras.Input((32, 40, 3))
    layer = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    layer = keras.layers.Conv2D(12, 3, strides=2, activation="relu")(layer)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(layer), name="tiny")


def make_head() -> keras.Model:
    """Return a linear head whose answers are neither sure nor all the same."""
    bottleneck = keras.Input((12,))
    layer = keras.layers.Dense(len(LABELS), activation="softmax")
    head = keras.Model(bottleneck, layer(bottleneck), name="head")
    kernel = np.random.default_rng(2).normal(0, 2, (12, len(LABELS)))
    layer.set_weights([kernel.astype(np.float32), np.array(BIAS, np.float32)])
    return head


def draw_pictures(folder: Path) -> list[Path]:
    """Draw pictures that shrink, grow, are grey, and a JPEG that is decoded at half its size."""
    folder.mkdir()
    random = np.random.default_rng(3)
    sizes = {"large.png": (90, 70), "small.png": (20, 23), "wide.png": (40, 200)}
    for name, size in (sizes | {"half.jpg": (150, 190)}).items():
        coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / name), picture)
    grey = cv2.resize(random.integers(0, 256, (3, 3), dtype=np.uint8), (60, 60))
    cv2.imwrite(str(folder / "grey.png"), grey)
    return sorted(folder.iterdir())


def write_expected(folder: Path, pictures: list[Path]) -> None:
    """Write bottlenecks and probabilities of each picture, and how far others may be from them."""
    with Classifier(folder, device="cpu", threads=1) as classifier:
        expected = {
            picture.name: {
                "bottleneck": classifier.extract([picture])[0].tolist(),
                "probabilities": classifier.predict(picture).probabilities.tolist(),
                # Decoders of JPEG may differ by a grey level or two.
                "tolerance": 1e-2 if picture.suffix == ".jpg" else 1e-4,
            }
            for picture in pictures
        }
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


def write_two_outputs(file: Path) -> None:
    """Write a valid graph that is no base: `image` to `bottleneck` and another output."""
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["n", 32, 40, 3])
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["n", 32, 40, 3])
        for name in ("bottleneck", "more")
    ]
    nodes = [onnx.helper.make_node("Identity", ["image"], [each.name]) for each in outputs]
    graph = onnx.helper.make_graph(nodes, "two_outputs", [image], outputs)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, file)


if __name__ == "__main__":
    main()
