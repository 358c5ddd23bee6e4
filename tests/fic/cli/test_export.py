"""`fic export`: whole bundles, heads alone, and what is refused."""

import json
from pathlib import Path

import pytest

from fic.runs import Run
from fic_runtime.classifier import Classifier
from tests.fic.cli.conftest import Fic, assert_one_line


@pytest.mark.parametrize("bound", [("--max-difference", "0"), ("--assert-accuracy", "1")])
def test_a_bundle_past_the_bound_has_exit_code_3_and_is_not_written(
    fic: Fic, run: Run, shared_photos: Path, tmp_path: Path, bound: tuple[str, str]
) -> None:
    answers = run.folder / "validation.csv"
    answers.write_text(answers.read_text().replace("/blue/", "/green/"))  # some are wrong now
    result = fic("export", run.folder, "--out", "bundle", *bound)
    assert result.code == 3
    assert "nothing was written" in result.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir() if "bundle" in path.name] == []


def test_export_writes_a_single_graph_and_a_triton_repository_where_asked(
    fic: Fic, run: Run, shared_photos: Path, tmp_path: Path
) -> None:
    options = ("--single-graph", "--triton", "models", "--triton-name", "colours")
    result = fic("export", run.folder, "--out", "bundle.zip", *options)
    assert result.code == 0
    assert "Triton model repository written to models, its ensemble is colours" in result.out
    assert (tmp_path / "models/colours_base/1/model.onnx").is_file()
    assert b"classifier.onnx" in (tmp_path / "bundle.zip").read_bytes()
    refused = fic("export", run.folder, "--out", "other", "--triton", "other")
    assert_one_line(refused, 1, "is the place of the bundle, too")
    assert not (tmp_path / "other").exists()


def test_a_head_alone_is_for_the_base_of_a_bundle(fic: Fic, run: Run) -> None:
    assert fic("export", run.folder, "--out", "bundle").code == 0
    result = fic("export", run.folder, "--head-only", "--base", "bundle")
    assert result.code == 0
    assert "head written to head: on 4 pictures Keras and the bundle agree" in result.out
    assert "try it: fic-runtime predict bundle --head head PHOTO" in result.out
    picture = run.validation()[0].path
    with Classifier("bundle") as whole, Classifier("bundle", head="head") as apart:
        expected = whole.predict(picture).probabilities.tolist()
        assert apart.predict(picture).probabilities.tolist() == expected
    assert_one_line(
        fic("export", run.folder, "--head-only", "--out", "bundle"), 1, "holds a whole bundle"
    )


@pytest.mark.quantize
def test_a_quantized_base_is_told_beside_float32(
    fic: Fic, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fic_export.quantization.gate.time_in_turn", lambda *_: [[0.004], [0.002]])
    options = ["--quantize", "int8", "--calibration-pictures", "5", "--max-accuracy-drop", "1"]
    result = fic("export", run.folder, "--out", "bundle", *options)
    assert result.code == 0
    assert "int8 against float32: accuracy " in result.out
    assert "2.00x the speed here" in result.out
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text(encoding="utf-8"))
    assert manifest["quantization"]["calibration_pictures"] == 5


@pytest.mark.quantize
def test_an_int8_base_that_is_slower_has_exit_code_3(
    fic: Fic, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fic_export.quantization.gate.time_in_turn", lambda *_: [[0.002], [0.004]])
    options = ["--quantize", "int8", "--max-accuracy-drop", "1"]
    result = fic("export", run.folder, "--out", "bundle", *options)
    assert result.code == 3
    assert "it is not faster here; nothing was written" in result.err.splitlines()[-1]
    assert not (tmp_path / "bundle").exists()
