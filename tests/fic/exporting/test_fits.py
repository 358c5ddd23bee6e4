"""What is fitted on a run's bottlenecks before it is exported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.data import Source
from fic.errors import DataError
from fic.exporting import ReliabilityOptions, export_run
from fic.exporting.cached_bottlenecks import cached_bottlenecks
from fic.exporting.fits import measure_reliability
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.runs import Run
from fic_runtime.classifier import Classifier


def measure(run: Run, recorder: Any, **options: Any) -> Any:
    return measure_reliability(
        cached_bottlenecks(run, recorder),
        *(run.frozen_base(), run.head(), ReliabilityOptions(**options), recorder),
    )


def test_an_exported_run_knows_its_pictures_and_not_noise(larger: Run, tmp_path: Path) -> None:
    manifest = export_run(larger.folder, out=tmp_path / "bundle", pictures=20)
    known = manifest.known
    assert known is not None and known.figures["foreign_source"] == "drawn"
    assert known.figures["validation_pictures"] == larger.record["images"]["val"]
    assert manifest.calibration["pictures"] == larger.record["images"]["val"]
    assert manifest.parity["largest_difference"] < 1e-4
    with Classifier(tmp_path / "bundle", device="cpu") as classifier:
        answers = classifier.predict_batch([row.path for row in larger.validation()])
    # Of the validation pictures a share of the false rejection is past the threshold.
    assert np.mean([answer.known is False for answer in answers]) <= 0.05


def test_a_head_alone_takes_its_score_along(larger: Run, tmp_path: Path) -> None:
    export_run(larger.folder, out=tmp_path / "head", head_only=True, pictures=3)
    options = ReliabilityOptions(calibrate=False, known=False)
    export_run(larger.folder, out=tmp_path / "bundle", reliability=options, pictures=3)
    picture = larger.validation()[0].path
    with Classifier(tmp_path / "bundle", head=tmp_path / "head", device="cpu") as classifier:
        assert classifier.predict(picture).known is not None


def test_pictures_of_the_users_own_are_the_foreign_ones(
    larger: Run, recorder: Any, tmp_path: Path, make_photos: Any
) -> None:
    folder = make_photos(tmp_path / "foreign", 4)
    (folder / "blue" / "broken.jpg").write_bytes(b"no picture")
    figures = measure(larger, recorder, foreign=folder).ood_score.known.figures
    assert (figures["foreign_source"], figures["foreign_pictures"]) == ("files", 12)


def test_a_foreign_folder_without_a_readable_picture_is_an_error(
    larger: Run, recorder: Any, tmp_path: Path
) -> None:
    (tmp_path / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="--foreign"):
        measure(larger, recorder, foreign=tmp_path)


@pytest.mark.parametrize(("calibrate", "known"), [(True, False), (False, True), (False, False)])
def test_each_can_be_left_out(calibrate: bool, known: bool, larger: Run, recorder: Any) -> None:
    found = measure(larger, recorder, calibrate=calibrate, known=known)
    assert (found.calibration is not None, found.ood_score is not None) == (calibrate, known)


def test_few_pictures_give_no_score_and_the_reason_is_told(cold_run: Run, recorder: Any) -> None:
    found = measure(cold_run, recorder)
    assert found.ood_score is None
    assert found.calibration.temperature == 1.0
    assert any("no score for unknown pictures" in note for note in recorder.notes)


def test_without_cached_bottlenecks_nothing_is_extracted(
    larger: Run, recorder: Any, tmp_path: Path
) -> None:
    moved = replace(larger, bottleneck_dir=tmp_path / "empty")
    found = measure(moved, recorder)
    assert found.ood_score is None
    assert found.calibration.reason.startswith("its bottlenecks are not in the cache")
    assert not list((tmp_path / "empty").rglob("shard-*"))


def test_pictures_that_have_moved_are_no_error(run: Run, recorder: Any) -> None:
    import json

    record = json.loads((run.folder / "run.json").read_text("utf-8"))
    record["source"]["data"] += " gone"
    (run.folder / "run.json").write_text(json.dumps(record), "utf-8")
    found = measure(Run(run.folder), recorder)
    assert "its pictures cannot be read" in found.calibration.reason


def test_feature_maps_are_pooled(tmp_path: Path, make_photos: Any, base: BaseOptions) -> None:
    from fic.training import train

    run = train(
        Source(data=make_photos(tmp_path / "photos", 20), val_split=0.5),
        out=tmp_path / "run",
        base=replace(base, layer="conv_pw_11_relu", pooling="none"),
        cache=CacheOptions(bottleneck_dir=tmp_path / "cache"),
        options=TrainingOptions(epochs=1),
    )
    manifest = export_run(run.folder, out=tmp_path / "bundle", pictures=3)
    assert manifest.known is not None and len(manifest.base.output.shape) == 4
    with Classifier(tmp_path / "bundle", device="cpu") as classifier:
        assert classifier.predict(run.validation()[0].path).known is not None
