"""The command lines of the scripts before fic run as they were, but for the program's name."""

from pathlib import Path

import pytest

from tests.conftest import MakePhotos
from tests.fic.cli.conftest import Fic

SPLIT = "split --dataset flowers --val_split 0.2"
TRAIN = (
    "train --train train_dir --val val_dir --logs log_resnet --bottleneck_dir bottlenecks "
    "--base_model resnet50 --bottlenecks_batch_size 100 --epochs 1 "
    "--bottleneck_tensorname activation_31"
)
PREDICT = (
    "predict --weight_file Resnet50_top.h5 --label_file essential_files/label_map.json "
    "--img_dir val_dir/daisy --base_model resnet50 --bottleneck_tensorname activation_31"
)

# Random weights and small pictures in place of ImageNet's. Converting ResNet50 for the other engine
# would take longer than all the rest.
DEFAULTS = {
    "FIC_TRAIN_WEIGHTS": "none",
    "FIC_TRAIN_IMAGE_SIZE": "32",
    "FIC_TRAIN_ENGINE": "keras",
    "FIC_TRAIN_WEIGHT_FILE": "Resnet50_top.h5",
    "FIC_TRAIN_LABEL_FILE": "essential_files/label_map.json",
    "FIC_PREDICT_WEIGHTS": "none",
    "FIC_PREDICT_IMAGE_SIZE": "32",
}


def test_the_sample_command_lines_run_one_after_the_other(
    fic: Fic, make_photos: MakePhotos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in DEFAULTS.items():
        monkeypatch.setenv(name, value)
    make_photos(tmp_path / "flowers", 6, labels=("daisy", "roses"))

    def run(line: str) -> str:
        result = fic(*line.split())
        assert result.code == 0, result.err
        return result.out

    run(SPLIT)
    assert "validation accuracy" in run(TRAIN)
    assert list((tmp_path / "log_resnet").rglob("events*"))
    answers = run(PREDICT)
    pictures = sorted((tmp_path / "val_dir/daisy").iterdir())
    assert pictures
    assert [line.split("\t")[0] for line in answers.splitlines()] == [
        str(picture.relative_to(tmp_path)) for picture in pictures
    ]
    assert answers == run("predict run val_dir/daisy")
