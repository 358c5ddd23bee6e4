import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.errors import RunError
from fic.options import BaseOptions, CacheOptions
from fic.runs import Run
from fic.runs.run import check_run_folder
from fic.runs.writing import add_tuning
from fic_export.errors import OutputError


def edit(run: Run, file: str, change: Any) -> None:
    """Change the JSON of a run."""
    path = run.folder / file
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def everything(run: Run) -> None:
    """Read all that other commands read of a run."""
    _ = run.record, run.metrics, run.labels, run.base_options, run.cache_options
    run.frozen_base()
    run.validation()
    run.head()


def test_a_run_knows_how_it_was_trained(cold_run: Run, base: BaseOptions) -> None:
    run = Run(cold_run.folder)
    assert run.base_options == base
    assert isinstance(run.cache_options, CacheOptions)
    assert run.cache_options.bottleneck_dir.is_absolute()
    assert run.labels == ("blue", "green", "red")
    assert run.frozen_base().folder.is_dir()


def test_the_head_of_a_run_answers(cold_run: Run) -> None:
    answers = cold_run.head().predict_on_batch(np.zeros((2, 256), np.float32))
    assert answers.shape == (2, 3)
    np.testing.assert_allclose(np.sum(answers, axis=1), 1, rtol=1e-5)


def test_validation_lists_the_pictures_with_their_answers(cold_run: Run) -> None:
    answers = cold_run.validation()
    assert all(answer.path.is_absolute() and answer.path.is_file() for answer in answers)
    right = sum(answer.predicted == answer.label for answer in answers) / len(answers)
    assert right == pytest.approx(cold_run.metrics["val"]["accuracy"])


DAMAGES = [
    (file, damage)
    for file in ("run.json", "metrics.json", "validation.csv", "head.keras")
    for damage in ("missing", "binary", "folder", "empty", "cut")
    # A shorter list of pictures is still one.
    if file != "validation.csv" or damage not in ("empty", "cut")
]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_a_damaged_file_is_named(run: Run, file: str, damage: str) -> None:
    path = run.folder / file
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        content = {"empty": b"", "cut": whole[: len(whole) // 3 - 7], "binary": b"\xff\x00" * 50}
        path.write_bytes(content[damage])
    with pytest.raises(RunError) as caught:
        everything(run)
    assert str(run.folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    if (file, damage) == ("head.keras", "cut"):
        assert "no zip archive, or cut off" in str(caught.value)


@pytest.mark.parametrize("field", ["labels", "base", "bottlenecks", "fingerprint"])
@pytest.mark.parametrize("value", [None, "missing", 3, []])
def test_a_record_that_makes_no_sense_is_refused(run: Run, field: str, value: Any) -> None:
    if (field, value) == ("labels", []):
        value = {}

    def change(record: dict[str, Any]) -> None:
        record[field] = value
        if value == "missing":
            del record[field]

    edit(run, "run.json", change)
    with pytest.raises(RunError, match=r"run\.json"):
        everything(run)


@pytest.mark.parametrize("number", [None, 0, 2, "1"])
def test_another_format_is_refused(run: Run, number: Any) -> None:
    edit(run, "run.json", lambda record: record.update(format=number))
    with pytest.raises(RunError, match="upgrade fic or train again"):
        everything(run)


def test_fields_of_a_later_release_are_passed_over(run: Run) -> None:
    edit(run, "run.json", lambda record: record["bottlenecks"].update(colour="blue"))
    everything(run)


def test_figures_without_the_validation_are_refused(run: Run) -> None:
    edit(run, "metrics.json", lambda metrics: metrics.pop("val"))
    with pytest.raises(RunError, match=r"metrics\.json: has no 'val'"):
        _ = run.metrics


def test_the_head_of_another_run_is_refused(run: Run) -> None:
    edit(run, "run.json", lambda record: record["labels"].append("yellow"))
    with pytest.raises(RunError, match=r"head\.keras: gives 3 .* 4 labels; train again"):
        run.head()


def test_a_file_that_may_not_be_read_is_no_reason_to_train_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    whole = Run(run.folder)
    _ = whole.record
    for reader in ("runs.run.read_json", "runs.run.read_regular", "heads.keras_files.open_regular"):
        monkeypatch.setattr(f"fic.{reader}", refuse)
    for read in (lambda: run.record, lambda: run.metrics, run.history, run.validation, whole.head):
        with pytest.raises(RunError, match=r"cannot be read \(Permission denied\); check its perm"):
            read()


def test_a_folder_without_a_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json there; give a folder that `fic train` wrote"):
        _ = Run(tmp_path).record


def test_what_is_not_a_run_is_said_and_what_takes_it(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/manifest.json").touch()
    with pytest.raises(RunError, match=r"is a bundle, not a run; call `fic-runtime predict"):
        _ = Run(tmp_path / "bundle").record
    with pytest.raises(RunError, match="no such folder"):
        _ = Run(tmp_path / "absent").record


def test_a_run_of_another_machine_makes_no_folder_of_that_machine(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    record["bottlenecks"]["bottleneck_dir"] = "/nowhere/at/all/bottlenecks"
    (run.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert Run(run.folder).cache_options.bottleneck_dir == Path("bottlenecks")
    given = Run(run.folder, "/nowhere/at/all/other").cache_options.bottleneck_dir
    assert given == Path("/nowhere/at/all/other")


def test_a_run_stands_for_its_folder(run: Run) -> None:
    assert Path(run) == run.folder
    assert Run(str(run.folder)) == Run(run.folder)


# --- where a run may be written -------------------------------------------------------------------


def test_a_run_may_replace_a_run(run: Run) -> None:
    (run.folder / ".DS_Store").touch()
    check_run_folder(run.folder)


def test_a_run_may_be_written_to_a_new_or_empty_folder(tmp_path: Path) -> None:
    check_run_folder(tmp_path)
    check_run_folder(tmp_path / "new")


@pytest.mark.parametrize("name", ["notes.txt", "bundle/manifest.json", ".git/config"])
def test_what_somebody_put_beside_a_run_is_not_replaced(run: Run, name: str) -> None:
    (run.folder / name).parent.mkdir(exist_ok=True)
    (run.folder / name).touch()
    with pytest.raises(OutputError, match=f"holds {name.split('/')[0]} beside"):
        check_run_folder(run.folder)


def test_another_folder_is_not_replaced(photos: Path) -> None:
    with pytest.raises(OutputError, match=r"no run\.json"):
        check_run_folder(photos)


@pytest.mark.parametrize("classes", [[], {"blue": 3}, {"blue": {"images": 1}}])
def test_figures_of_the_classes_that_are_none_are_named(run: Run, classes: object) -> None:
    edit(run, "metrics.json", lambda values: values["val"].update(per_class=classes))
    with pytest.raises(RunError, match=r"metrics\.json: 'per_class' is damaged"):
        _ = run.metrics


@pytest.mark.parametrize("figures", [{"accuracy": float("nan")}, {"bins": [{"x": float("inf")}]}])
def test_figures_that_are_not_finite_are_refused(run: Run, figures: Mapping[str, object]) -> None:
    edit(run, "metrics.json", lambda values: values["val"].update(figures))
    with pytest.raises(RunError, match=r"metrics\.json: figures are not finite"):
        _ = run.metrics


def test_a_run_is_whole_where_its_tuning_cannot_be_added(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match=r"tuning\.html: .*; the run itself is whole, in "):
        add_tuning(run, {}, page="")
    everything(Run(run.folder))
