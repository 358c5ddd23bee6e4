"""Train, export, run without Keras: every way to ask gives the same answer."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fic.bases import find_base
from fic.runs import Run
from fic_export.bundle.parity import keras_probabilities
from fic_export.options import KerasClassifier
from fic_runtime.classifier import Classifier
from fic_runtime.images import load_image

TRAIN = ("--epochs", "15", "--lr", "0.01", "--base-model", "mobilenet_0.25", "--weights", "none")


def run(module: str, *arguments: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command as a user does, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with photos of two shapes in three colours, a run and its bundle."""
    folder = tmp_path_factory.mktemp("user")
    random = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(8):
            shape = (60, 90, 3) if number % 2 else (120, 70, 3)
            picture = random.integers(0, 60, shape, dtype=np.uint8)
            picture[:, :, label] += 180
            suffix = ("jpg", "png", "bmp", "webp")[number % 4]
            cv2.imwrite(str(folder / "photos" / name / f"{number}.{suffix}"), picture)
    run("fic", "train", "--data", "photos", "--image-size", "64", *TRAIN, cwd=folder)
    run("fic", "export", "run", "--out", "bundle", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    return sorted((folder / "photos").rglob("*.*"))


@pytest.fixture(scope="module")
def bundle_answers(folder: Path, files: list[Path]) -> np.ndarray[Any, Any]:
    with Classifier(folder / "bundle", device="cpu") as classifier:
        return np.stack([each.probabilities for each in classifier.predict_batch(files)])


def test_the_bundle_agrees_with_keras(
    folder: Path, files: list[Path], bundle_answers: np.ndarray[Any, Any]
) -> None:
    trained = Run(folder / "run")
    base = trained.frozen_base()
    classifier = KerasClassifier(
        base=base.model,
        head=trained.head(),
        labels=trained.labels,
        preprocessing=base.preprocessing,
    )
    expected = keras_probabilities(classifier, files)
    np.testing.assert_allclose(bundle_answers, expected, atol=1e-4)
    assert bundle_answers.std() > 0.1  # it does tell the pictures apart


@pytest.mark.parametrize(("module", "model"), [("fic", "run"), ("fic_runtime", "bundle")])
def test_both_commands_give_the_answers_of_the_bundle(
    folder: Path,
    files: list[Path],
    bundle_answers: np.ndarray[Any, Any],
    module: str,
    model: str,
) -> None:
    output = run(module, "predict", model, "photos", "--top-k", "3", "--json", cwd=folder)
    labels = list(Run(folder / "run").labels)
    found = {}
    for answer in map(json.loads, output.splitlines()):
        scores = {score["label"]: score["probability"] for score in answer["top"]}
        found[folder / answer["file"]] = [scores[label] for label in labels]
    np.testing.assert_allclose([found[file] for file in files], bundle_answers, atol=1e-4)


def test_the_bundle_was_checked_and_passes_its_own_test(folder: Path) -> None:
    manifest = json.loads((folder / "bundle/manifest.json").read_text(encoding="utf-8"))
    assert manifest["parity"]["top_1_agreement"] == 1.0
    assert manifest["parity"]["largest_difference"] <= 1e-4
    run("fic_runtime", "selftest", "bundle", cwd=folder)


def test_training_again_with_another_rate_extracts_nothing(folder: Path) -> None:
    arguments = ("--data", "photos", "--image-size", "64", "--out", "again", *TRAIN)
    run("fic", "train", *arguments, "--lr", "0.02", cwd=folder)
    assert Run(folder / "again").record["cache"] == {"hits": 24, "extracted": 0, "skipped": 0}


@pytest.mark.slow
def test_flowers_reach_the_accuracy_of_a_linear_classifier(shared: Path, tmp_path: Path) -> None:
    keras_home = {"KERAS_HOME": str(shared / "keras_home")}
    arguments = (
        *("train", "--data", shared / "photos/flowers", "--val-split", "0.2", "--out", "run"),
        *("--base-model", "mobilenet_v2_0.35", "--weights", "imagenet"),
    )
    run("fic", *arguments, cwd=tmp_path, **keras_home)
    first = Run(tmp_path / "run")
    assert first.record["cache"]["hits"] == 0
    assert first.metrics["val"]["accuracy"] >= 0.84

    run("fic", *arguments, "--lr", "0.0005", cwd=tmp_path, **keras_home)
    assert Run(tmp_path / "run").record["cache"]["extracted"] == 0

    run("fic", "export", "run", "--out", "bundle", cwd=tmp_path, **keras_home)
    parity = json.loads((tmp_path / "bundle/manifest.json").read_text(encoding="utf-8"))["parity"]
    assert parity["top_1_agreement"] == 1.0
    assert parity["largest_difference"] <= 1e-4

    roses = sorted((shared / "photos/flowers/roses").glob("*.jpg"))[:50]
    lines = run("fic_runtime", "predict", "bundle", *roses, cwd=tmp_path).splitlines()
    assert sum(line.split("\t")[1].startswith("roses ") for line in lines) > len(roses) / 2


def test_preprocessing_keeps_the_accuracy_of_keras_on_imagenet(shared: Path) -> None:
    import keras

    models = shared / "keras_home/models"
    index = json.loads((models / "imagenet_class_index.json").read_text(encoding="utf-8"))
    number_of = {synset: int(number) for number, (synset, _) in index.items()}
    files = sorted((shared / "imagenet_samples").glob("*.JPEG"))
    targets = np.array([number_of[file.name.split("_")[0]] for file in files])
    model = keras.applications.MobileNet(
        alpha=0.75, weights=str(models / "mobilenet_7_5_224_tf.h5")
    )

    def top_1(inputs: np.ndarray[Any, Any]) -> float:
        return float((model.predict(inputs, verbose=0).argmax(axis=1) == targets).mean())

    preprocessing = find_base("mobilenet_0.75").preprocessing()
    pixels = np.stack([load_image(file, preprocessing.geometry) for file in files])
    ours = top_1(preprocessing.pixels.apply(pixels.astype(np.float32)))
    loaded = np.stack(
        [np.asarray(keras.utils.load_img(file, target_size=(224, 224))) for file in files]
    )
    theirs = top_1(keras.applications.mobilenet.preprocess_input(loaded.astype(np.float32)))
    assert ours >= 0.8
    assert abs(ours - theirs) <= 0.02
