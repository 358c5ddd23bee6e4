"""Exit codes that scripts use: 1 and one line for a failure, 2 and the usage for a mistake."""

import re

import pytest

FAILURES = {
    "no bundle": (
        ("predict", "{tmp}/none", "x.png"),
        r"none: no such file or folder, so no manifest\.json there",
    ),
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "", "a.jpg"],
        ["predict", "bundle", ""],
        ["predict", "bundle", "a.jpg", "--head", ""],
        ["extract", "bundle", "a.jpg", "--out", ""],
        ["explain", "bundle", "", "--out", "seen"],
        ["teach", "bundle", "tulips", "a.jpg", "--out", ""],
        ["html", "bundle", "--web", ""],
    ],
)
def test_an_empty_argument_is_not_this_folder(arguments, run, monkeypatch, golden):
    monkeypatch.chdir(golden)
    code, out, errors = run(*arguments)
    assert (code, out) == (2, "")
    assert "it is empty" in errors
