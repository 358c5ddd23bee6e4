"""Options of a step: each default is written once, and what does not go together is refused."""

import ast
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from fic.cli.export import export
from fic.cli.option_values import from_options
from fic.options import (
    BaseOptions,
    CacheOptions,
    ExportOptions,
    OptionsError,
    ReliabilityOptions,
    TrainingOptions,
)

# A command remembers its option for help as it was first called, and other tests look at it.
_AS_IN_FIC: Any = {"help_option_names": ["-h", "--help"]}


def command_line(*arguments: str) -> dict[str, Any]:
    """Return what click hands to `fic export`."""
    values = dict(export.make_context("export", ["run", *arguments], **_AS_IN_FIC).params)
    return {name: value for name, value in values.items() if name not in ("run", "out")}


def test_defaults_of_fic_export_are_those_of_the_library() -> None:
    values = command_line()
    assert from_options(ReliabilityOptions, values) == ReliabilityOptions()
    values["reliability"] = ReliabilityOptions()
    assert from_options(ExportOptions, values) == ExportOptions()


def test_no_default_of_fic_export_is_written_a_second_time() -> None:
    tree = ast.parse(Path(inspect.getfile(inspect.unwrap(export.callback))).read_text("utf-8"))
    defaults = [
        keyword.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "default"
    ]
    assert len(defaults) > 15
    assert not [value for value in defaults if isinstance(value, ast.Constant)]


def test_every_option_of_fic_export_fills_a_field_of_the_library() -> None:
    arguments = ("--pictures", "7", "--assert-accuracy", "0.5", "--no-known", "--triton", "models")
    values = command_line(*arguments)
    for page in ("html", "web"):  # of the bundle, once it is there
        assert values.pop(page) is None
    reliability = from_options(ReliabilityOptions, values)
    options = from_options(ExportOptions, {**values, "reliability": reliability})
    assert options == ExportOptions(
        max_pictures=7,
        min_accuracy=0.5,
        triton=Path("models"),
        reliability=ReliabilityOptions(known=False),
    )
    filled = {field.name for kind in (ExportOptions, ReliabilityOptions) for field in fields(kind)}
    assert len(filled - {"reliability"}) == len(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deployed": Path("b")}, "deployed is for head_only: a whole bundle has its own base"),
        ({"head_only": True, "single_graph": True}, "single_graph is for a whole bundle"),
        ({"head_only": True, "triton": Path("models")}, "triton is for a whole bundle"),
        ({"head_only": True, "quantize": "int8"}, "quantize is for a whole bundle"),
    ],
)
def test_options_that_do_not_go_together_are_a_slip(options: Any, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        ExportOptions(**options)


def test_the_command_line_words_a_slip_with_its_own_names() -> None:
    with pytest.raises(click.UsageError) as caught:
        export.main(["run", "--base", "bundle"], standalone_mode=False, **_AS_IN_FIC)
    assert str(caught.value) == "--base is for --head-only: a whole bundle has its own base."


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        (BaseOptions, "pooling", "mean", "pooling is one of avg, max, cls, none; received 'mean'"),
        (BaseOptions, "resize", "squash", "resize is one of stretch, crop, pad; received 'squash'"),
        (CacheOptions, "engine", "tf", "engine is one of auto, onnx, keras; received 'tf'"),
        (CacheOptions, "views", 0, "views is at least 1; received 0"),
        (TrainingOptions, "optimizer", "adamm", "optimizer is one of adam, adamw, sgd, rmsprop"),
        (TrainingOptions, "monitor", None, "monitor is one of loss, accuracy; received None"),
        (TrainingOptions, "epochs", -1, "epochs is at least 0; received -1"),
        (TrainingOptions, "batch_size", 0, "batch_size is at least 1; received 0"),
        (TrainingOptions, "learning_rate", -1.0, "learning_rate is above 0; received -1.0"),
        (TrainingOptions, "weight_decay", float("nan"), "weight_decay is at least 0; received nan"),
        (TrainingOptions, "label_smoothing", 2, "label_smoothing is below 1; received 2"),
    ],
)
def test_an_option_that_makes_no_sense_is_a_slip(
    kind: Any, name: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{name: value})
