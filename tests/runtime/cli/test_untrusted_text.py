"""Names of pictures and labels are others' text: no terminal obeys it, no spreadsheet runs it."""

import csv
import io
import json
import shutil

import pytest

from fic_runtime.cli.answers import table_cell

NASTY = "x\x1b[31m\u202eforged"


@pytest.fixture
def picture(golden, tmp_path):
    return shutil.copy(golden / "small.png", tmp_path / f"{NASTY}.png")


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--head", "one=BUNDLE"]])
def test_a_name_of_a_picture_is_escaped_in_every_form(form, run, golden, picture, tmp_path):
    (tmp_path / f"{NASTY}.jpg").write_bytes(b"")
    form = [part.replace("BUNDLE", str(golden)) for part in form]
    _, out, err = run("predict", golden, picture, tmp_path / f"{NASTY}.jpg", *form)
    for text in (out, err):
        assert not set(text) & set("\x1b\u202e")
    assert "forged.png" in out
    assert "forged.jpg: the file is empty" in err
    if form == ["--json"]:
        assert json.loads(out.splitlines()[0])["file"] == str(picture)


def test_labels_cannot_turn_the_terminal_around(run, golden, make_head, tmp_path):
    head = make_head(tmp_path / "head", labels=("a\u202eb", "c", "d"), bias=9)
    _, out, _ = run("predict", golden, golden / "small.png", "--head", head)
    assert r"a\u202eb" in out
    for more in ([], ["--json"]):
        _, out, _ = run("info", head, *more)
        assert "\u202e" not in out


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(0)", "'=HYPERLINK(0)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", r"'\t=1"),
        ("a=1", "a=1"),
        ("rose-1.jpg", "rose-1.jpg"),
        ("a\nb", r"a\nb"),
    ],
)
def test_no_cell_of_a_table_is_a_formula(text, cell):
    assert table_cell(text) == cell


def test_a_table_of_answers_holds_no_formula(run, golden, make_head, tmp_path, monkeypatch):
    shutil.copy(golden / "small.png", tmp_path / "=cmd.png")
    head = make_head(tmp_path / "head", labels=("=1+1", "c", "d"), bias=9)
    monkeypatch.chdir(tmp_path)
    _, out, _ = run("predict", golden, "=cmd.png", "--head", f"@x={head}", "--csv")
    _, row = csv.reader(io.StringIO(out))
    assert row[:3] == ["'=cmd.png", "'@x", "'=1+1"]
    run("extract", golden, "=cmd.png", "--out", "f.csv")
    assert (tmp_path / "f.csv").read_text("utf-8").splitlines()[1].startswith("'=cmd.png,")
