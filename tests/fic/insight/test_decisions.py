import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fic.data import Split
from fic.data.csv_files import read_csv
from fic.errors import DataError
from fic.insight import apply_decisions
from fic.insight.decisions import decisions_csv, holds_decisions
from fic.insight.duplicates import DuplicateGroup
from fic.insight.findings import Audit, Suspect
from fic_export.errors import OutputError

Decide = Callable[..., Path]


@pytest.fixture
def decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decide:
    """Return a function that writes decisions about four pictures, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        (tmp_path / f"{number}.jpg").touch()

    def write(*decisions: str, suggested: str = "dog", split: str | None = None) -> Path:
        lines = ["path,label,suggested,score,problem" + (",split" if split else "") + ",decision"]
        for number in range(4):
            decision = decisions[number] if number < len(decisions) else ""
            side = f",{split}" if split else ""
            label = "cat" if number % 2 else "dog"
            lines.append(f"{number}.jpg,{label},{suggested},0.9000,label{side},{decision}")
        file = tmp_path / "suspects.csv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


def cleaned(out: Path = Path("cleaned.csv")) -> dict[str, str]:
    with out.open(encoding="utf-8", newline="") as file:
        return {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}


KEPT = {"0.jpg": "dog", "1.jpg": "cat", "2.jpg": "dog", "3.jpg": "cat"}


@pytest.mark.parametrize(
    ("decision", "label"),
    [
        *(("", "cat"), ("keep", "cat"), ("relabel", "dog"), ("dog", "dog"), ("Keep", "cat")),
        *((" Reject ", None), ("remove", None)),
    ],
)
def test_each_decision_does_what_it_says(decide: Decide, decision: str, label: str | None) -> None:
    applied = apply_decisions(decide("", decision), Path("cleaned.csv"))
    expected = {**KEPT, "1.jpg": label}
    assert cleaned() == {name: label for name, label in expected.items() if label is not None}
    assert applied.kept + applied.rejected + applied.relabeled == 4
    assert applied.rejected == (label is None)
    assert applied.relabeled == (label == "dog")


@pytest.mark.parametrize(("word", "remedy"), [("reject", "delete"), ("keep", "nothing")])
def test_a_decision_that_is_the_name_of_a_class_too_is_not_guessed_at(
    decide: Decide, word: str, remedy: str
) -> None:
    file = decide("", word)
    file.write_text(file.read_text("utf-8").replace(",dog,dog,", f",{word},dog,"), encoding="utf-8")
    with pytest.raises(DataError, match=f"line 3: '{word}' is a class here .* {remedy}$"):
        apply_decisions(file, Path("cleaned.csv"))
    file.write_text(file.read_text("utf-8").replace(f",{word}\n", ",relabel\n"), encoding="utf-8")
    assert apply_decisions(str(file), "cleaned.csv").relabeled == 1


def test_a_suggestion_may_be_edited_into_a_new_class(decide: Decide) -> None:
    apply_decisions(decide("relabel", suggested="Blüte 花"), Path("cleaned.csv"))
    assert cleaned()["0.jpg"] == "Blüte 花"


def test_the_cleaned_file_is_a_data_set_and_the_pictures_stay(
    decide: Decide, tmp_path: Path
) -> None:
    file = decide("reject")
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere/cleaned.csv"
    apply_decisions(file, out)
    assert len(read_csv(out)) == 3  # type: ignore[arg-type]
    assert (tmp_path / "0.jpg").exists()


def test_a_split_stays_as_it_was(decide: Decide) -> None:
    file = decide(split="train")
    file.write_text(file.read_text("utf-8").replace("train,\n", "val,\n", 1), encoding="utf-8")
    apply_decisions(file, Path("cleaned.csv"))
    split = read_csv("cleaned.csv", labels=("cat", "dog"))
    assert isinstance(split, Split)
    assert (len(split.train), len(split.val)) == (3, 1)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_what_other_spreadsheet_programs_save_is_read(decide: Decide, mark: str) -> None:
    file = decide("reject")
    text = file.read_text("utf-8").replace(",", mark).replace("\n", "\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("decision", "Decision ").encode())
    assert apply_decisions(file, Path("cleaned.csv")).rejected == 1
    assert holds_decisions(file)


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [("", "", False), (",decision\n", ",choice\n", True), ("label,\n", "label, keep\n", True)],
)
def test_a_file_that_somebody_worked_on_is_told_from_a_fresh_one(
    decide: Decide, before: str, after: str, holds: bool
) -> None:
    file = decide()
    file.write_text(file.read_text("utf-8").replace(before, after, 1), encoding="utf-8")
    assert holds_decisions(file) is holds
    assert not holds_decisions(Path("gone.csv"))


def suspect(path: Path, *, label: str = "dog") -> Suspect:
    return Suspect(
        path=path, label=label, suggested=label, score=0.9, likely_wrong=True, side="train"
    )


def audited(*suspects: Suspect, duplicates: Sequence[DuplicateGroup] = ()) -> Audit:
    return Audit(
        base="b", counts={"dog": 1}, images={"train": 1, "val": 0}, suspects=suspects,
        duplicates=duplicates, outliers=[], confusions=[], files=[], agreement=1.0, cache={},
        seconds=0.0,
    )  # fmt: skip


def test_a_copy_is_listed_with_the_other_one_and_whether_the_split_leaks() -> None:
    paths = tuple(Path(f"{number}.jpg") for number in range(4))
    groups = [
        DuplicateGroup(paths=own, labels=("dog", "dog"), sides=sides, kind="mirrored")
        for own, sides in ((paths[:2], ("train", "val")), (paths[2:], ("val", "val")))
    ]
    text = decisions_csv(audited(*map(suspect, paths), duplicates=groups), split=False)
    assert [row["problem"] for row in csv.DictReader(text.splitlines())] == [
        "label; mirrored as 1.jpg, across the split",
        "label; mirrored as 0.jpg, across the split",
        "label; mirrored as 3.jpg",
        "label; mirrored as 2.jpg",
    ]


def test_names_that_look_like_formulas_are_text_in_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "=1.jpg").touch()
    text = decisions_csv(audited(suspect(tmp_path / "=1.jpg", label="=a")), split=False)
    assert ",'=a,'=a," in text
    file = tmp_path / "suspects.csv"
    file.write_text(text + f"{tmp_path / '=1.jpg'}2,b,b,0.1,,\n", encoding="utf-8")
    (tmp_path / "=1.jpg2").touch()
    apply_decisions(file, tmp_path / "cleaned.csv")
    assert ",=a\n" in (tmp_path / "cleaned.csv").read_text("utf-8")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (",decision\n", ",choice\n", "line 1: has no column decision"),
        ("path,", "path,path,", "line 1: has the column path twice"),
        ("0.jpg", "9.jpg", "line 2: no such file: 9.jpg"),
        ("0.jpg", "1.jpg", "line 3: 1.jpg is on line 2 too"),
        ("0.jpg", "", "line 2: has no path"),
        ("0.jpg,", "0.jpg,a,", "line 2: has another number of cells than line 1"),
        ("label,\n", "label\n", "line 2: has another number of cells than line 1"),
        ("label,\n", "label,rose\n", "line 2: the decision 'rose' makes no sense; write keep"),
        ("dog,dog,0.9000,label,\n", "dog,,0.9000,label,relabel\n", "line 2: '' cannot be a label"),
        ("0.jpg,dog", "0.jpg,", "line 2: '' cannot be a label"),
        ("0.jpg", '"0.jpg', "correct the quotes"),
        (",decision\n", ',"decision"x\n', "line 1: .*correct the quotes"),
    ],
)
def test_a_file_edited_into_nonsense_is_one_sentence(
    decide: Decide, before: str, after: str, says: str
) -> None:
    file = decide()
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(DataError, match=says) as caught:
        apply_decisions(file, Path("cleaned.csv"))
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("cleaned.csv").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 9, b"path,label,decision\n"])
def test_what_is_no_table_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "suspects.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match="give a file that `fic audit` wrote"):
        apply_decisions(file, tmp_path / "cleaned.csv")


def test_one_class_is_too_few(decide: Decide) -> None:
    with pytest.raises(DataError, match="leaves 1 class, and a data set needs two"):
        apply_decisions(decide("", "reject", "", "reject"), Path("cleaned.csv"))


def test_nothing_is_written_over(decide: Decide) -> None:
    file = decide()
    Path("cleaned.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        apply_decisions(file, Path("cleaned.csv"))
    assert Path("cleaned.csv").read_text() == "mine"


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "one endless line", "a folder"])
def test_decisions_are_a_file_of_lines(decide: Decide, kind: str) -> None:
    file = decide("reject")
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "a folder":
        file.mkdir()
    elif kind == "/dev/zero":
        file.symlink_to(kind)
    else:
        file.write_bytes(b"path,label,decision\n" + b"a" * (3 << 20))
    with pytest.raises(DataError) as caught:
        apply_decisions(file, Path("cleaned.csv"))
    assert "\n" not in str(caught.value)
    assert not Path("cleaned.csv").exists()


@pytest.mark.parametrize("name", ["a\0b.jpg", "a" * 5000, "..", ""])
def test_a_name_that_no_file_has_is_one_sentence(decide: Decide, name: str) -> None:
    file = decide()
    file.write_text(file.read_text().replace("0.jpg", name), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: (no such file|has no path)"):
        apply_decisions(file, Path("cleaned.csv"))
