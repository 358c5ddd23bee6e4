"""The figures of `fic-runtime bench` are whole; how large they are is left open."""

import errno
import json
import re
import shutil

import pytest

from fic_runtime import cli
from fic_runtime.diagnostics import benchmark

QUICK = ("--seconds", "0", "--batch-sizes", "1,3", "--threads", "1,2", "--device", "cpu")


@pytest.fixture
def run(golden, capfd):
    """Return a function that runs `bench` quickly and returns (exit code, stdout, stderr)."""

    def command(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["bench", str(golden), *map(str, arguments), *QUICK])
        out, err = capfd.readouterr()
        return end.value.code or 0, out, err

    return command


def test_without_pictures_a_drawn_one_is_measured(run):
    code, out, err = run("--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["drawn"], found["pictures"], found["threads"]) == (True, 1, 2)
    assert found["provider"] == "CPUExecutionProvider"
    assert found["load_ms"] > 0
    assert {"numpy", "onnxruntime", "python"} <= found["versions"].keys()
    parts = ["file", "array", "decode and resize", "resize", "base", "head"]
    assert list(found["latency"]) == parts
    for latency in found["latency"].values():
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
        assert latency["runs"] >= 5
    assert [each["threads"] for each in found["throughput"]] == [1, 2]
    for each in found["throughput"]:
        assert each["by_batch_size"].keys() == {"1", "3"}
        assert min(*each["by_batch_size"].values(), each["stream"]) > 0


def test_without_a_folder_to_draw_in_a_picture_is_asked_for(run, monkeypatch):
    def refuse(**_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(benchmark, "TemporaryDirectory", refuse)
    code, out, err = run()
    assert (code, out) == (1, "")
    assert "no picture can be drawn (No usable temporary" in err
    assert err.count("\n") == 1


def test_the_table_names_every_part_with_its_figures(run):
    code, out, _ = run()
    assert code == 0
    assert out.startswith("a drawn photo of 640x480 on CPUExecutionProvider; bundle opened in ")
    for name in ("from a file", "from an array", "  decode and resize a file", "  base", "  head"):
        assert re.search(rf"^{name} +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d +\d+$", out, re.MULTILINE)
    assert re.search(r"^pictures a second +batch 1 +batch 3 +stream of files$", out, re.MULTILINE)
    for threads in ("1 thread ", "2 threads"):
        assert re.search(rf"^{threads} +\d+\.\d +\d+\.\d +\d+\.\d$", out, re.MULTILINE)


def test_given_pictures_take_turns(run, golden, tmp_path):
    for number in range(40):
        shutil.copy(golden / "small.png", tmp_path / f"{number}.png")
    code, out, _ = run(tmp_path, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["drawn"], found["pictures"]) == (False, 40)


def test_a_picture_that_cannot_be_read_is_one_line(run, tmp_path):
    code, out, err = run(tmp_path / "none.png")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"fic-runtime: .*none\.png: no such file[^\n]*\n", err)
