"""The command line: answers on stdout, one line an error on stderr, exit codes that scripts use."""

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

import numpy as np
import pytest

from fic_runtime import cli
from fic_runtime.classifier import Classifier
from fic_runtime.cli import counting

COMMANDS = (
    *("predict", "watch", "extract", "explain", "teach", "forget", "bench", "selftest", "info"),
    "doctor",
)
HEAVY = {"numpy", "cv2", "onnxruntime"}


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fic_runtime", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.fixture
def album(tmp_path, golden):
    """Return a folder with four pictures, one of which is broken."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in (1, 2, 10):
        shutil.copy(golden / "small.png", folder / f"img{number}.png")
    (folder / "img3.png").write_bytes(b"no picture")
    return folder


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


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_pictures_are_counted_on_a_terminal_where_the_answers_go_elsewhere(
    golden, album, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(counting, "_SECONDS_BETWEEN_COUNTS", -1)
    with pytest.raises(SystemExit):
        cli.main(["predict", str(golden), str(album)])
    assert "\r1 of 4 pictures\r2 of 4 pictures" in terminal.getvalue()
    assert "\r3 of 4 pictures\r\x1b[Kfic-runtime: " in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_pictures_are_counted_while_their_bottlenecks_are_extracted(
    golden, album, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(counting, "_SECONDS_BETWEEN_COUNTS", -1)
    with pytest.raises(SystemExit):
        cli.main(["extract", str(golden), str(album), "--out", str(tmp_path / "f.npz")])
    assert "\r3 of 4 pictures\r\x1b[Kfic-runtime: " in terminal.getvalue()


def test_extract_takes_paths_from_standard_input(run, golden, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.StringIO(f"{golden / 'large.png'}\n{golden / 'grey.png'}\n")
    )
    assert run("extract", golden, "-", "--out", tmp_path / "f.npz")[0] == 0
    with np.load(tmp_path / "f.npz") as arrays:
        assert [Path(file).name for file in arrays["files"]] == ["large.png", "grey.png"]


FAILURES = {
    "no bundle": (("predict", "{tmp}/none", "x.png"), r"none: no manifest\.json there"),
    "no picture": (("predict", "{bundle}", "{tmp}/none.png"), r"none\.png: no such file"),
    "long name": (("predict", "{bundle}", "a" * 300), "cannot be read"),
    "empty folder": (("predict", "{bundle}", "{tmp}/empty"), "empty: no pictures in this folder"),
    "selftest of nothing": (("selftest", "{tmp}"), r"no manifest\.json there"),
    "info of nothing": (("info", "{tmp}/none"), r"no manifest\.json there"),
    "info of a file": (("info", "{bundle}/base.onnx"), "is neither a folder nor a zip"),
    "no match": (("predict", "{bundle}", "{tmp}/*.jpg"), "nothing fits it as a pattern"),
    "no video": (("watch", "{bundle}", "{tmp}/none.mp4"), r"none\.mp4: no such file"),
    "bench of nothing": (("bench", "{tmp}/none"), r"no manifest\.json there"),
    "no cuda": (("predict", "{bundle}", "x.png", "--device", "cuda"), "onnxruntime-gpu|could not"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_one_line_and_code_1(case, run, golden, tmp_path):
    arguments, message = FAILURES[case]
    (tmp_path / "empty").mkdir()
    code, out, err = run(*(each.format(bundle=golden, tmp=tmp_path) for each in arguments))
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"fic-runtime: [^\n]*({message})[^\n]*\n", err)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("guess",),
        ("predict",),
        ("predict", "bundle"),
        ("predict", "bundle", "x.png", "--json", "--csv"),
        ("predict", "bundle", "x.png", "--top-k", "0"),
        ("predict", "bundle", "x.png", "--top-k", "many"),
        ("predict", "bundle", "x.png", "--threads", "0"),
        ("predict", "bundle", "x.png", "--threads", "100000"),
        ("predict", "bundle", "x.png", "--device", "tpu"),
        ("extract", "bundle", "x.png"),
        ("selftest",),
        ("info", "bundle", "more"),
        ("watch", "bundle"),
        ("watch", "bundle", "0", "--every", "-1"),
        ("watch", "bundle", "0", "--min-probability", "2"),
        ("watch", "bundle", "0", "--hold", "0"),
        ("bench", "bundle", "--threads", "1,none"),
        ("bench", "bundle", "--batch-sizes", "0"),
        ("bench", "bundle", "--seconds", "long"),
    ],
)
def test_wrong_usage_is_code_2_with_the_usage(arguments, run):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: fic-runtime")
    assert "Traceback" not in err


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


def test_a_self_test_that_passes_is_code_0(run, golden):
    code, out, err = run("selftest", golden, "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.startswith("3 pictures on CPUExecutionProvider\n")
    assert out.endswith("\npassed\n")


@pytest.fixture
def tampered(bundle, replace):
    data = (bundle / "head.onnx").read_bytes()
    replace("head.onnx", data[:-400] + data[-400:].replace(b"\x3f", b"\xbf"))
    return bundle


def test_a_self_test_that_fails_is_code_3(run, tampered):
    code, out, err = run("selftest", tampered)
    assert (code, err) == (3, "")
    assert out.endswith("\nFAILED: this device gives other results\n")


def test_a_self_test_in_json_says_whether_it_passed(run, golden, tampered):
    for folder, passed, expected in ((golden, True, 0), (tampered, False, 3)):
        code, out, _ = run("selftest", folder, "--json")
        result = json.loads(out)
        assert (code, result.pop("passed")) == (expected, passed)
        assert result.keys() == {
            "provider",
            "pictures",
            "pixels",
            "bottlenecks",
            "probabilities",
            "bottlenecks_tolerance",
            "probabilities_tolerance",
        }


def test_info_shows_what_is_in_a_bundle(run, golden):
    code, out, err = run("info", golden)
    assert (code, err) == (0, "")
    for part in ("3: daisy, Sonnenblume, groß", "40x32 RGB, crop", "tiny", "accuracy", "base.onnx"):
        assert part in out


def test_info_in_json_is_the_manifest(run, golden):
    _, out, _ = run("info", golden, "--json")
    written = json.loads((golden / "manifest.json").read_text("utf-8"))
    # What came later has its default.
    assert json.loads(out) == json.loads(out) | written


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)])
def test_help_explains_every_argument(arguments, run):
    code, out, err = run(*arguments, "--help")
    usage, *parts = out.split("\n\n")
    named = set(re.findall(r"--[a-z-]+", usage)) | set(re.findall(r"\b[A-Z]{5,}\b", usage))
    assert (code, err) == (0, "")
    for name in named:
        # The name, its value, and on the same or the next line what it is for.
        assert re.search(rf"^  (-h, )?{name}( \S+)?(  +|\n +)\w", "\n".join(parts), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_line_in_the_help(command, run):
    _, out, _ = run("--help")
    assert re.search(rf"^    {command} +\w+ \w+", out, re.MULTILINE)
    assert f"\n  fic-runtime {command} " in out


def test_version_is_that_of_the_distribution(run):
    from fic_runtime import __version__

    assert run("--version") == (0, f"fic-runtime {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_loads_nothing_heavy(arguments):
    program = (
        "import sys, fic_runtime.cli\n"
        f"try: fic_runtime.cli.main({arguments!r})\n"
        f"except SystemExit: print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stderr == "[]\n"


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
