"""Conversion between options of the command line, of the library, and of `run.json`."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ..options import (
    BaseOptions,
    CacheOptions,
    ExportOptions,
    ReliabilityOptions,
    TrainingOptions,
)
from .options import FOLDER

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

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Read the arguments; one that belongs to no option is most often a data set."""
        context.allow_extra_args = True
        rest = super().parse_args(context, arguments)
        if context.args and not context.resilient_parsing:
            first = context.args[0]
            wanted = context.params.get("data", first) is None
            hint = f"; a data set is given as --data {first}" if wanted else ""
            raise click.UsageError(f"{first!r} belongs to no option{hint}", context)
        return rest

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


def parameters(kind: type) -> list[str]:
    """Return the parameters of the command line that fill the fields of the library's options."""
    return list(_parameters(kind).values())


def _parameters(kind: type) -> dict[str, str]:
    renamed = _PARAMETERS.get(kind, {})
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
    if path is not None:
        context.default_map = recorded_defaults(path)


def recorded_defaults(path: Path) -> dict[str, Any]:
    """Return what a run, or its `run.json`, says of data, base and recipe, by parameter.

    Raises:
        RunError: it cannot be read, or makes no sense.
    """
    from ..data import Source
    from ..errors import RunError
    from ..runs import read_record
    from ..runs.recorded_options import checked_values

    record = read_record(path)
    defaults: dict[str, Any] = {}
    for section, kind in {"source": Source, **_SECTIONS}.items():
        if not isinstance(record.get(section), dict):
            raise RunError(f"{path}: has no {section!r} to be repeated; give another run")
        try:
            values = checked_values(kind, record[section])
        except ValueError as error:
            raise RunError(f"{path}: {section!r} makes no sense ({error})") from error
        # To extract everything again was wanted once.
        values.pop("recompute", None)
        values.pop("ray", None)
        parameters = _parameters(kind)
        defaults |= {parameters[name]: value for name, value in values.items()}
    return defaults


config_option = click.option(
    "--config",
    metavar="RUN|FILE",
    type=FOLDER,
    is_eager=True,
    expose_value=False,
    callback=_take_from_run,
    help="Data, base and recipe from a run or its run.json; options of the command line take "
    "precedence.",
)

trust_option = click.option(
    "--trust-code",
    is_flag=True,
    help="Take code and output folders from --config, too: the function of --head, --logs and "
    "--bottleneck-dir. Only for a run of your own.",
)


def check_trust(context: click.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a training without what a stranger's run may not decide.

    A `run.json` of --config describes data, base and recipe. Code that it names is not run, and
    nothing is written where it says, unless --trust-code or the command line says so; a cache that
    is there already is used.

    Raises:
        click.UsageError: the head is a function in a file that --config names.
    """
    from ..bases.frozen import is_cache
    from ..heads.building import parse_head

    def recorded(name: str) -> Any:
        source = context.get_parameter_source(name)
        return options[name] if source is ParameterSource.DEFAULT_MAP else None

    chosen = dict(options)
    if chosen.pop("trust_code"):
        return chosen
    head, logs, cache = map(recorded, ("head", "logs", "bottleneck_dir"))
    if head is not None and parse_head(head).kind == "custom":
        raise click.UsageError(
            f"--config names {head} as the code of its head, which would be run: give --trust-code "
            "if the run is your own, or --head."
        )
    if logs is not None:
        click.echo(f"--logs {logs} of --config is left out; give --logs", err=True)
        chosen["logs"] = None
    default = CacheOptions.bottleneck_dir
    if cache is not None and not is_cache(cache) and cache != default.absolute():
        click.echo(
            f"--bottleneck-dir {cache} of --config is not a cache that is there; using {default}",
            err=True,
        )
        chosen["bottleneck_dir"] = default
    return chosen
