"""What every command says of itself, and how quickly."""

import subprocess
import sys

import click
import pytest

from fic.cli import cli
from tests.fic.cli.conftest import Fic


def commands(group: click.Command, *names: str) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(names, group)]
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            found += commands(command, *names, name)
    return found


@pytest.mark.parametrize(
    ("names", "command"),
    [pytest.param(*found, id=" ".join(["fic", *found[0]])) for found in commands(cli)],
)
def test_every_command_and_option_has_help(
    fic: Fic, names: tuple[str, ...], command: click.Command
) -> None:
    result = fic(*names, "--help")
    assert (result.code, result.err) == (0, "")
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[0] in result.out
    assert all(len(line) <= 100 for line in result.out.splitlines())


def test_the_help_of_training_has_headings(fic: Fic) -> None:
    help_ = fic("train", "--help").out
    headings = ("Pictures:", "Base:", "Bottlenecks:", "Training:", "Other options:")
    assert [line for line in help_.splitlines() if line in headings] == list(headings)
    after = {heading: help_.index(f"\n{heading}\n") for heading in headings}
    assert after["Base:"] < help_.index("\n  --pooling") < after["Bottlenecks:"]
    assert after["Bottlenecks:"] < help_.index("\n  --views") < after["Training:"]
    assert after["Training:"] < help_.index("\n  --fine-tune-lr") < after["Other options:"]


@pytest.mark.parametrize("command", ["export", "predict"])
def test_few_options_of_a_long_help_are_under_no_heading_of_their_own(
    fic: Fic, command: str
) -> None:
    help_ = fic(command, "--help").out
    assert "\nOptions:\n" not in help_
    others = help_.partition("\nOther options:\n")[2]
    named = [line.split()[0] for line in others.splitlines() if line.startswith("  -")]
    assert named == ["--bottleneck-dir", "-h,"]


def test_version_is_that_of_the_distribution(fic: Fic) -> None:
    from importlib.metadata import version

    assert fic("--version").out == f"fic {version('fast-image-classification')}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["bases"], ["--version"]])
def test_what_needs_nothing_heavy_loads_nothing_heavy(arguments: list[str]) -> None:
    listing = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fic", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = {line.rsplit("|", 1)[-1].strip() for line in listing.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"numpy", "cv2", "onnxruntime", "h5py", "keras", "tensorflow"}


def test_an_option_with_a_value_is_called_alike_in_the_environment() -> None:
    for names, command in commands(cli):
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                spelled = option.opts[0].removeprefix("--").replace("-", "_")
                assert option.name == spelled, (names, option.opts)
