"""`fic-runtime predict`: answers on stdout, one line an error on stderr."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fic_runtime", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_picture_gets_a_line_with_its_label(run, golden):
    code, out, err = run("predict", golden, golden / "large.png")
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{golden}/large\.png\tSonnenblume, groß 0\.680\d\n", out)


def test_top_k_labels_stand_on_one_line(run, golden):
    _, out, _ = run("predict", golden, golden / "large.png", "--top-k", 2)
    assert re.fullmatch(r".*\tSonnenblume, groß 0\.\d{4}  バラ の花 0\.\d{4}\n", out)


def test_json_gives_one_object_a_line(run, golden):
    pictures = [golden / "large.png", golden / "small.png"]
    code, out, err = run("predict", golden, *pictures, "--json", "--top-k", 9)
    assert (code, err) == (0, "")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [each["file"] for each in answers] == list(map(str, pictures))
    for answer in answers:
        assert answer.keys() == {"file", "label", "index", "probability", "top"}
        assert answer["top"][0] == {
            "label": answer["label"],
            "probability": answer["probability"],
        }
        assert sum(each["probability"] for each in answer["top"]) == pytest.approx(1)


def test_a_folder_is_answered_in_natural_order_and_a_bad_file_stops_nothing(run, golden, album):
    code, out, err = run("predict", golden, album)
    assert code == 1
    assert re.findall(r"img\d+", out) == ["img1", "img2", "img10"]
    assert re.fullmatch(r"fic-runtime: .*img3\.png: not a picture[^\n]*\n", err)


def test_json_holds_the_error_of_a_bad_file_in_its_place(run, golden, album):
    code, out, _ = run("predict", golden, album, "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert ["error" in each for each in answers] == [False, False, True, False]
    assert "not a picture" in answers[2]["error"]


def test_a_table_has_a_line_for_every_picture_and_the_error_of_a_bad_one(run, golden, album):
    code, out, _ = run("predict", golden, album, "--csv", "--top-k", 4)
    head, *rows = csv.reader(out.splitlines())
    assert code == 1
    assert head == [
        *("file", "label", "probability", "label_2", "probability_2", "label_3", "probability_3"),
        *("label_4", "probability_4", "error"),
    ]
    assert [Path(row[0]).stem for row in rows] == ["img1", "img2", "img3", "img10"]
    assert rows[2][1:9] == [""] * 8
    assert "not a picture" in rows[2][9]
    for row in (rows[0], rows[1], rows[3]):
        probabilities = [float(row[column]) for column in (2, 4, 6)]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert probabilities == sorted(probabilities, reverse=True)
        assert row[7:] == ["", "", ""]  # there are three labels


def test_paths_may_come_from_standard_input(run, golden, album, monkeypatch):
    lines = f"{album / 'img1.png'}\n\n{album / 'img10.png'}\r\n{album}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    code, out, _ = run("predict", golden, "-", golden / "small.png")
    assert code == 1  # the folder holds a bad one
    found = [Path(line.split("\t")[0]).stem for line in out.splitlines()]
    assert found == ["img1", "img10", "img1", "img2", "img10", "small"]


def test_a_pattern_that_the_shell_left_alone_is_filled_in(run, golden, album):
    code, out, err = run("predict", golden, album / "img1*.png", album / "img[!13].png")
    assert (code, err) == (0, "")
    assert re.findall(r"img\d+", out) == ["img1", "img10", "img2"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(run, golden, album):
    name = album / "img[1].png"
    shutil.copy(golden / "large.png", name)
    _, out, _ = run("predict", golden, name)
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(name)]


def test_a_path_from_standard_input_is_answered_before_the_next_one_comes(golden):
    process = start("predict", golden, "-", stdin=subprocess.PIPE)
    for name in ("small.png", "large.png"):
        process.stdin.write(f"{golden / name}\n".encode())
        process.stdin.flush()
        assert name in process.stdout.readline().decode()
    out, err = process.communicate(os.fsencode(golden / "grey.png"))  # and no end of line
    assert (process.returncode, err) == (0, b"")
    assert "grey.png" in out.decode()


def test_ctrl_c_ends_the_wait_for_standard_input(golden):
    process = start("predict", golden, "-", stdin=subprocess.PIPE)
    process.stdin.write(f"{golden / 'small.png'}\n".encode())
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.communicate() == (b"", b"")


def test_a_reader_that_goes_away_is_no_error_to_speak_of(golden):
    process = start("predict", golden, *[golden / "small.png"] * 3000)
    process.stdout.readline()
    process.stdout.close()
    with process.stderr as stream:
        assert stream.read() == b""
    assert process.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(golden):
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "fic_runtime", "predict", golden, golden / "small.png"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert result.returncode == 1
    assert result.stderr == "fic-runtime: cannot write the answers (No space left on device)\n"


def test_ctrl_c_is_code_130_without_a_word(golden):
    process = start("predict", golden, *[golden / "small.png"] * 30_000)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, b"")


def test_a_name_that_is_no_utf_8_is_answered(golden, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        shutil.copy(golden / "small.png", name)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    process = start(
        "predict",
        golden,
        os.fsdecode(name),
        "--json",
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out)["file"] == os.fsdecode(name)


def test_what_a_folder_holds_beside_pictures_is_told_after_the_answers(run, golden, album):
    (album / "img3.png").unlink()
    for name in ("a.heic", "b.txt"):
        (album / name).touch()
    shutil.copy(golden / "small.png", album / "c")
    code, out, err = run("predict", golden, album)
    assert (code, len(out.splitlines())) == (0, 4)
    assert err == (
        "Used 4 of 6 files, 1 of them pictures by content only: 1 without a suffix; left out: "
        "1 .heic, 1 .txt; convert HEIC to JPEG first, with heif-convert or, on macOS, sips\n"
    )
    _, _, err = run("predict", golden, album, "--verbose")
    assert f"fic-runtime: left out: {album / 'b.txt'} (.txt)\n" in err


def test_an_empty_folder_and_a_vain_pattern_are_told_and_the_rest_is_answered(
    run, golden, album, tmp_path
):
    (tmp_path / "empty").mkdir()
    (album / "img3.png").unlink()
    code, out, err = run("predict", golden, tmp_path / "empty", album, tmp_path / "*.gif", "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert ["error" in answer for answer in answers] == [True, False, False, False, True]
    assert "empty: not a file but a folder" in err
    assert "*.gif: no such file, and nothing fits it as a pattern" in err


@pytest.mark.parametrize("arguments", [("", "x.png"), ("BUNDLE", "")])
def test_an_empty_argument_is_no_folder(run, golden, arguments, monkeypatch):
    monkeypatch.chdir(golden)
    code, out, err = run("predict", *(golden if each == "BUNDLE" else each for each in arguments))
    assert (code, out) == (2, "")
    assert "it is empty (is a variable of the shell unset?)" in err
