"""`fic-runtime extract`: bottlenecks in a file."""

import csv
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fic_runtime.classifier import Classifier


def test_extract_takes_paths_from_standard_input(run, golden, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.StringIO(f"{golden / 'large.png'}\n{golden / 'grey.png'}\n")
    )
    assert run("extract", golden, "-", "--out", tmp_path / "f.npz")[0] == 0
    with np.load(tmp_path / "f.npz") as arrays:
        assert [Path(file).name for file in arrays["files"]] == ["large.png", "grey.png"]


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_bottlenecks_are_written_and_a_bad_file_is_left_out(suffix, run, golden, album, tmp_path):
    out = tmp_path / f"features{suffix}"
    code, told, err = run("extract", golden, album, "--out", out)
    assert (code, told) == (1, f"3 bottlenecks of 12 written to {out}\n")
    assert re.fullmatch(r"fic-runtime: .*img3\.png: not a picture[^\n]*\n", err)
    wanted = [str(album / f"img{number}.png") for number in (1, 2, 10)]
    if suffix == ".npz":
        with np.load(out) as arrays:
            files, bottlenecks = arrays["files"].tolist(), arrays["bottlenecks"]
    else:
        head, *rows = csv.reader(out.read_text("utf-8").splitlines())
        assert head == ["file", *map(str, range(12))]
        files = [row[0] for row in rows]
        bottlenecks = np.array([row[1:] for row in rows], np.float32)
    assert files == wanted
    with Classifier(golden, device="cpu") as classifier:
        np.testing.assert_array_equal(bottlenecks, classifier.extract(wanted, batch_size=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["album", out.name]


@pytest.mark.parametrize(
    ("out", "says"),
    [("f.txt", "must end in .npz or .csv"), ("none/f.npz", "cannot be written"), ("", "must end")],
)
def test_a_place_for_bottlenecks_that_will_not_do_is_one_line(out, says, run, golden, tmp_path):
    code, told, err = run("extract", golden, golden / "small.png", "--out", tmp_path / out)
    assert (code, told) == (1, "")
    assert says in err
    assert err.count("\n") == 1


def test_nothing_is_written_where_no_picture_can_be_read(run, golden, album, tmp_path):
    code, _, err = run("extract", golden, album / "img3.png", "--out", tmp_path / "f.npz")
    assert code == 1
    assert err.endswith("none of the pictures could be read; nothing was written\n")
    assert not (tmp_path / "f.npz").exists()
