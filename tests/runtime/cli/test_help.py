"""What every command says of itself, and how quickly."""

import re
import subprocess
import sys

import pytest

COMMANDS = (
    *("predict", "watch", "extract", "explain", "teach", "forget", "bench", "selftest", "info"),
    "doctor",
)
HEAVY = {"numpy", "cv2", "onnxruntime"}


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
