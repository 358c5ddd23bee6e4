import json
from pathlib import Path
from typing import Any

import pytest

from fic.errors import RunError
from fic.exporting import export_run
from fic.exporting.pictures import training_pictures
from fic.runs import Run
from fic_export.options import BundleOptions
from fic_export.quantization import gate as quantization


def files(by_class: Any) -> set[Path]:
    return {path for paths in by_class.values() for path in paths}


def test_training_pictures_are_all_that_were_not_validated_on(
    cold_run: Run, shared_photos: Path
) -> None:
    found = files(training_pictures(cold_run))
    validated = {row.path for row in cold_run.validation()}
    assert validated
    assert found == set(shared_photos.glob("*/*.*")) - validated


def test_their_order_is_mixed_and_always_the_same(cold_run: Run) -> None:
    found = training_pictures(cold_run)
    assert found == training_pictures(cold_run)
    assert any(list(paths) != sorted(paths) for paths in found.values())


def test_a_list_with_a_split_gives_those_marked_for_training(
    cold_run: Run, shared_photos: Path, tmp_path: Path, list_pictures: Any
) -> None:
    file = list_pictures(shared_photos, tmp_path / "list.csv", val=4)
    assert len(files(training_pictures(cold_run, file))) == 18


@pytest.mark.parametrize("source", [{"data": "gone"}, {}, None])
def test_pictures_that_have_moved_are_asked_for(run: Run, source: Any) -> None:
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    record["source"] = source
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunError, match="--calibration-data"):
        training_pictures(Run(run.folder))


def test_ranges_are_measured_on_training_pictures_of_each_class_in_turn(
    cold_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Path] = []

    def remember(_: Any, __: Path, options: BundleOptions) -> None:
        measured.extend(map(Path, options.calibration_files or ()))

    monkeypatch.setattr("fic.exporting.pipeline.write_bundle", remember)
    export_run(cold_run.folder, out=tmp_path / "b", quantize="int8", calibration_pictures=6)
    classes = [path.parent.name for path in measured]
    assert sorted(classes) == sorted(["blue", "green", "red"] * 2)
    assert not set(measured) & {row.path for row in cold_run.validation()}


def test_training_pictures_that_cannot_be_read_are_an_error(cold_run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.jpg").touch()
    with pytest.raises(RunError, match="none of its training pictures can be read"):
        export_run(
            cold_run.folder, out=tmp_path / "b", quantize="int8", calibration_data=tmp_path / "data"
        )


def test_fp16_needs_no_training_pictures(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "_seconds", lambda *_: 0.001)
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    record["source"] = {"data": "gone"}
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    found = export_run(run.folder, out=tmp_path / "b", quantize="fp16", max_accuracy_drop=1.0)
    assert found.quantization["scheme"] == "fp16"


@pytest.mark.all_bases
def test_int8_keeps_its_accuracy_on_real_photos(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fic import BaseOptions, Source, TrainingOptions, train
    from fic.options import CacheOptions

    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    run = train(
        Source(data=shared / "photos/flowers"),
        out=tmp_path / "run",
        base=BaseOptions(
            base_model="mobilenet_v2_0.35", weights=str(shared / "keras_home/models" / name)
        ),
        cache=CacheOptions(bottleneck_dir=tmp_path / "cache"),
        options=TrainingOptions(epochs=20),
    )
    # Speed is for the benchmark to tell.
    monkeypatch.setattr(quantization, "time_in_turn", lambda *_: [[0.002], [0.001]])
    manifest = export_run(
        run.folder, out=tmp_path / "bundle", quantize="int8", max_accuracy_drop=0.02
    )
    assert manifest.quantization["top_1_agreement"] > 0.97
