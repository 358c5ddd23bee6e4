"""Conversion between options of the command line, of the library, and of `run.json`."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from ..options import (
    BaseOptions,
    CacheOptions,
    ExportOptions,
    ReliabilityOptions,
    TrainingOptions,
)

Options = TypeVar(
    "Options", BaseOptions, CacheOptions, TrainingOptions, ExportOptions, ReliabilityOptions
)

# Where an option of the command line is not called like the field that it fills.
_PARAMETERS: Mapping[type, Mapping[str, str]] = {
    BaseOptions: {"layer": "bottleneck_tensorname"},
    CacheOptions: {
        "batch_size": "bottlenecks_batch_size",
        "dtype": "cache_dtype",
        "compression": "cache_compression",
        "recompute": "create_bottleneck",
    },
    TrainingOptions: {
        "batch_size": "batch_size_train",
        "learning_rate": "lr",
        "fine_tune_learning_rate": "fine_tune_lr",
    },
    ExportOptions: {
        "deployed": "base",
        "quantize_for": "for",
        "min_accuracy": "assert_accuracy",
        "max_pictures": "pictures",
        "max_calibration_pictures": "calibration_pictures",
    },
    ReliabilityOptions: {},
}
_SECTIONS = {"base": BaseOptions, "bottlenecks": CacheOptions, "training": TrainingOptions}


class SectionedCommand(click.Command):
    """A command whose help shows its many options under headings.

    Args:
        headings: the names of the parameters under each heading, by default those of training;
            options of no heading come last.
    """

    def __init__(
        self,
        *arguments: Any,
        headings: Mapping[str, Collection[str]] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(*arguments, **keywords)
        self._headings = _TRAINING if headings is None else headings

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each under the heading of what it belongs to."""
        sections: dict[str, list[tuple[str, str]]] = {
            heading: [] for heading in (*self._headings, _OTHERS)
        }
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if isinstance(parameter, click.Option) and record is not None:
                sections[self._heading(parameter.name or "")].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def _heading(self, name: str) -> str:
        found = (heading for heading, names in self._headings.items() if name in names)
        return next(found, _OTHERS)


def from_options(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Return the library's options, filled from those of the command line."""
    return kind(**{field: values[name] for field, name in _parameters(kind).items()})


def flags(kind: type) -> dict[str, str]:
    """Return what each field of the library's options is called on the command line."""
    return {field: f"--{name.replace('_', '-')}" for field, name in _parameters(kind).items()}


def _parameters(kind: type) -> dict[str, str]:
    renamed = _PARAMETERS[kind]
    return {field.name: renamed.get(field.name, field.name) for field in fields(kind)}


_OTHERS = "Other options"
_TRAINING: Mapping[str, frozenset[str]] = {
    "Pictures": frozenset({"data", "train", "val", "val_split"}),
    "Base": frozenset(_parameters(BaseOptions).values()),
    "Bottlenecks": frozenset(_parameters(CacheOptions).values()),
    "Training": frozenset(_parameters(TrainingOptions).values()),
}


def _take_from_run(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the options of a run the defaults of this command."""
    if path is None:
        return
    from ..errors import RunError
    from ..runs import read_record

    record = read_record(path)
    sections: dict[str, dict[str, Any]] = {}
    for name in ("source", *_SECTIONS):
        values = record.get(name)
        if not isinstance(values, dict):
            raise RunError(f"{path}: has no {name!r} to be repeated; give another run")
        sections[name] = values
    defaults = dict(sections["source"])
    for section, kind in _SECTIONS.items():
        parameters = _parameters(kind)
        known = {name: value for name, value in sections[section].items() if name in parameters}
        # To extract everything again was wanted once.
        known.pop("recompute", None)
        known.pop("ray", None)
        defaults |= {parameters[name]: value for name, value in known.items()}
    context.default_map = defaults


config_option = click.option(
    "--config",
    metavar="RUN|FILE",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_take_from_run,
    help="Options from a run or its run.json; those given on the command line take precedence.",
)
