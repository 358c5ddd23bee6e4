import shutil
from pathlib import Path
from typing import Any

import pytest

from fic.data import Source
from fic.errors import RunError
from fic.exporting import export_run
from fic.options import BaseOptions, CacheOptions, ExportOptions, TrainingOptions
from fic.runs import Run
from fic.training import train
from fic_export.errors import OutputError, ParityError
from fic_export.options import BundleOptions
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.classifier import Classifier


@pytest.fixture(scope="module")
def exported(cold_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("exported") / "bundle"
    return out, export_run(cold_run.folder, out=out)


@pytest.fixture
def moved(run: Run) -> Run:
    """Return a run whose validation pictures are not where they were."""
    path = run.folder / "validation.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("photos", "gone"), encoding="utf-8")
    return run


def test_a_bundle_answers_like_the_run(cold_run: Run, exported: tuple[Path, Manifest]) -> None:
    rows = cold_run.validation()
    with Classifier(exported[0], device="cpu") as classifier:
        answers = classifier.predict_batch([row.path for row in rows])
    assert [answer.label for answer in answers] == [row.predicted for row in rows]
    assert [answer.probability for answer in answers] == pytest.approx(
        [row.probability for row in rows], abs=1e-4
    )


def test_a_run_itself_is_exported_and_paths_are_texts(cold_run: Run, tmp_path: Path) -> None:
    manifest = export_run(cold_run, out=str(tmp_path / "bundle"), triton=str(tmp_path / "models"))
    assert manifest.labels == cold_run.labels
    assert (tmp_path / "models/bundle.json").is_file()


def test_names_that_are_no_text_go_from_pictures_to_a_bundle(
    base: BaseOptions, photos: Path, warm: CacheOptions, tmp_path: Path
) -> None:
    odd = tmp_path / "caf\udce9"
    try:
        photos.rename(odd)
        for picture in sorted(odd.glob("*/*.jpg"))[::2]:
            picture.rename(picture.with_name(f"\udcff\n{picture.name}"))
    except OSError:
        pytest.skip("this file system takes no such names")
    run = train(
        Source(data=odd, val_split=0.25),
        out=tmp_path / "run\udce9",
        base=base,
        cache=warm,
        options=TrainingOptions(epochs=1, logs=tmp_path / "logs\udce9"),
        weight_file=tmp_path / "w\udce9.h5",
    )
    rows = Run(run.folder).validation()
    assert any("\udcff" in row.path.name for row in rows)
    assert all(row.path.is_file() for row in rows)
    for name in ("bundle\udce9", "bundle\udce9.zip"):
        manifest = export_run(run, out=tmp_path / name, data=odd, with_feature_map=True)
        assert manifest.parity["pictures"] == len(list(odd.glob("*/*.*")))
        with Classifier(tmp_path / name, device="cpu") as classifier:
            assert classifier.predict(rows[0].path).label in run.labels
    for file in (*run.folder.iterdir(), *(tmp_path / "bundle\udce9").iterdir()):
        if file.suffix in (".json", ".csv", ".html", ".md"):
            file.read_text(encoding="utf-8")


def test_a_bundle_records_where_it_comes_from(
    cold_run: Run, exported: tuple[Path, Manifest]
) -> None:
    manifest = exported[1]
    assert manifest.labels == cold_run.labels
    assert manifest.origin["base"] == "mobilenet_0.25"
    assert manifest.origin["weights"] == cold_run.record["fingerprint"]["weights"]
    assert manifest.metrics["accuracy"] == cold_run.metrics["val"]["accuracy"]
    assert manifest.parity["top_1_agreement"] == 1.0
    assert manifest.parity["largest_difference"] < 1e-4
    assert manifest.parity["pictures"] == len(cold_run.validation())
    accuracy = cold_run.metrics["val"]["accuracy"]
    assert manifest.parity["keras_accuracy"] == manifest.parity["runtime_accuracy"] == accuracy


def test_a_run_with_a_linear_head_is_exported_so_that_it_can_explain(
    cold_run: Run, exported: tuple[Path, Manifest], tmp_path: Path
) -> None:
    manifest = export_run(cold_run.folder, out=tmp_path / "bundle", with_feature_map=True)
    assert manifest.feature_map is not None
    assert manifest.feature_map.pictures == len(cold_run.validation())
    assert manifest.feature_map.largest_difference < 1e-5
    with (
        Classifier(exported[0], device="cpu") as plain,
        Classifier(tmp_path / "bundle", device="cpu") as able,
    ):
        for row in cold_run.validation():
            explanation = able.explain(row.path)
            prediction = plain.predict(row.path)
            assert (explanation.label, explanation.probability) == (
                prediction.label,
                pytest.approx(prediction.probability, abs=1e-6),
            )


def test_pictures_to_compare_on_come_from_each_class_in_turn(
    cold_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[Path] = []

    def remember(_: Any, __: Path, options: BundleOptions) -> None:
        compared.extend(map(Path, options.pictures or ()))

    monkeypatch.setattr("fic.exporting.pipeline.write_bundle", remember)
    export_run(cold_run.folder, out=tmp_path / "bundle", pictures=3)
    assert sorted(path.parent.name for path in compared) == ["blue", "green", "red"]


def test_pictures_to_compare_on_may_be_listed_in_a_file(
    moved: Run, tmp_path: Path, photos: Path, list_pictures: Any
) -> None:
    file = list_pictures(photos, tmp_path / "list.csv", val=4)
    manifest = export_run(moved.folder, out=tmp_path / "bundle", data=file)
    assert manifest.parity["pictures"] == 6


def test_a_run_whose_pictures_have_moved_says_what_to_do(moved: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="give --data with other pictures"):
        export_run(moved.folder, out=tmp_path / "bundle")


def test_other_pictures_will_do_and_bad_ones_among_them_are_passed_over(
    moved: Run, tmp_path: Path, photos: Path
) -> None:
    (photos / "red/0.jpg").write_bytes(b"no picture")
    manifest = export_run(moved.folder, out=tmp_path / "bundle", data=photos)
    assert manifest.parity["pictures"] == 23
    assert manifest.parity["runtime_accuracy"] > 0.5


def test_the_accuracy_on_pictures_of_other_classes_is_not_known(
    moved: Run, tmp_path: Path, photos: Path
) -> None:
    (photos / "red").rename(photos / "reddish")
    manifest = export_run(moved.folder, out=tmp_path / "bundle", data=photos)
    assert manifest.parity["runtime_accuracy"] is None


def test_data_without_a_readable_picture_is_an_error(moved: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.jpg").touch()
    with pytest.raises(RunError, match="none of its pictures can be read"):
        export_run(moved.folder, out=tmp_path / "bundle", data=tmp_path / "data")


def test_past_the_bound_an_earlier_bundle_stays(
    cold_run: Run, exported: tuple[Path, Manifest], tmp_path: Path
) -> None:
    shutil.copytree(exported[0], tmp_path / "bundle")
    with pytest.raises(ParityError):
        export_run(cold_run.folder, out=tmp_path / "bundle", max_difference=0.0)
    with Classifier(tmp_path / "bundle", device="cpu") as classifier:
        assert classifier.labels == cold_run.labels


def test_another_folder_is_not_replaced(cold_run: Run, photos: Path) -> None:
    with pytest.raises(OutputError, match=r"no manifest\.json"):
        export_run(cold_run.folder, out=photos)
    with pytest.raises(OutputError):
        export_run(cold_run.folder, out=cold_run.folder)


def test_a_bundle_is_exported_again_when_the_cache_is_gone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.chdir(tmp_path)  # whose cache is taken instead
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    record["bottlenecks"]["bottleneck_dir"] = str(tmp_path / "new cache")
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    manifest = export_run(run.folder, out=tmp_path / "bundle")
    assert manifest.parity["top_1_agreement"] == 1.0


def test_a_single_graph_is_written_beside_the_two_where_it_is_asked_for(
    cold_run: Run, tmp_path: Path
) -> None:
    manifest = export_run(cold_run.folder, out=tmp_path / "bundle.zip", single_graph=True)
    assert manifest.single_graph["pictures"] == manifest.parity["pictures"]
    with Classifier(tmp_path / "bundle.zip", device="cpu") as classifier:
        assert "classifier.onnx" in classifier.manifest.files


def test_a_head_for_a_base_with_other_weights_is_refused_at_once(
    run: Run, exported: tuple[Path, Manifest], tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(exported[0], tmp_path / "bundle"))
    manifest = bundle / "manifest.json"
    weights = exported[1].origin["weights"]
    manifest.write_text(manifest.read_text("utf-8").replace(weights, "0" * 32), "utf-8")
    with pytest.raises(RunError, match=f"with the weights {weights}, .* has one with {'0' * 32}"):
        export_run(run.folder, out=tmp_path / "head", head_only=True, deployed=bundle)


def test_options_may_be_given_as_one_object_and_keywords_come_first(
    cold_run: Run, tmp_path: Path
) -> None:
    options = ExportOptions(max_pictures=3, single_graph=True)
    manifest = export_run(cold_run.folder, out=tmp_path / "b", options=options, max_pictures=2)
    assert manifest.parity["pictures"] == 2
    assert manifest.single_graph


def test_an_unknown_keyword_is_refused_as_python_words_it(cold_run: Run, tmp_path: Path) -> None:
    message = r"export_run\(\) got an unexpected keyword argument 'quantise'"
    with pytest.raises(TypeError, match=message):
        export_run(cold_run.folder, out=tmp_path / "bundle", quantise="int8")


def test_a_triton_repository_is_written_where_it_is_asked_for(
    cold_run: Run, tmp_path: Path
) -> None:
    names: dict[str, Any] = {"triton": tmp_path / "models", "triton_name": "colours"}
    export_run(cold_run.folder, out=tmp_path / "bundle", pictures=2, **names)
    assert (tmp_path / "models/colours_head/1/model.onnx").is_file()
    with pytest.raises(OutputError, match="is the place of the bundle, too"):
        export_run(cold_run.folder, out=tmp_path / "b", triton=tmp_path / "b/models")


def test_a_teachable_bundle_has_the_statistics_of_all_training_pictures(
    cold_run: Run, tmp_path: Path
) -> None:
    export_run(cold_run.folder, out=tmp_path / "bundle", teachable=True)
    with Classifier(tmp_path / "bundle") as classifier:
        photo = cold_run.validation()[0].path
        classifier.teach("another", [photo])
        pictures = classifier.manifest.origin["pictures"]
    assert pictures.pop("another") == 1
    assert sum(pictures.values()) == cold_run.record["images"]["train"]
