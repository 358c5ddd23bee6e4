"""The reference of both commands, from the commands themselves.

A line `<!-- commands: NAME -->` of a page becomes a heading, a synopsis and a table of options for
each command. `fic` is made with click and `fic-runtime` with
argparse; the pages show no difference.
"""

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

_MARK = re.compile(r"^<!-- commands: (\S+) -->$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option or argument: how it is written, what it means, what holds without it."""

    names: str
    help: str
    default: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: its whole name, what it does, how it is called."""

    name: str
    synopsis: str
    help: str
    options: Sequence[Option]
    commands: Sequence["Command"] = ()


def with_commands(markdown: str) -> str:
    """Return the Markdown of a page with the commands in the place of the marks."""
    return _MARK.sub(lambda match: as_markdown(find_command(match[1])), markdown)


def find_command(name: str) -> Command:
    """Return `fic` or `fic-runtime` with all that is below it."""
    if name == "fic":
        from fic.cli import cli

        return _of_click(cli, click.Context(cli, info_name="fic", **cli.context_settings))
    # argparse has no registry of programs: the parser is made by the function that main() calls.
    from fic_runtime.cli import _parser

    return _of_argparse(_parser())


def every_command(command: Command) -> Iterator[Command]:
    """Yield a command and those below it, depth first."""
    yield command
    for each in command.commands:
        yield from every_command(each)


def as_markdown(command: Command) -> str:
    """Return a section for each command."""
    return "\n\n".join(_section(each) for each in every_command(command))


def _section(command: Command) -> str:
    parts = [f"## {command.name}", f"```text\n{command.synopsis}\n```", command.help]
    for group in dict.fromkeys(option.group for option in command.options):
        rows = [option for option in command.options if option.group == group]
        parts += [f"**{group}**"] if group else []
        parts += ["\n".join(["| option | default | |", "|---|---|---|", *map(_row, rows)])]
    return "\n\n".join(part for part in parts if part)


def _row(option: Option) -> str:
    in_words = " " in option.default or option.default in ("", "required")
    default = option.default if in_words else f"`{option.default}`"
    # Brackets are optional parts of a name, and not links.
    words = option.help.replace("[", r"\[")
    cells = (f"`{option.names}`", default, words)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


# --- click ---------------------------------------------------------------------------------------


def _of_click(command: click.Command, context: click.Context) -> Command:
    below = command.commands if isinstance(command, click.Group) else {}
    return Command(
        name=context.command_path,
        synopsis=" ".join([context.command_path, *command.collect_usage_pieces(context)]),
        help=_paragraphs(command.help or ""),
        options=_click_options(command, context),
        commands=[
            _of_click(below[name], click.Context(below[name], context, info_name=name))
            for name in sorted(below)
        ],
    )


def _click_options(command: click.Command, context: click.Context) -> list[Option]:
    groups = _click_groups(command, context)
    found = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if not isinstance(parameter, click.Option) or record is None:
            continue
        extra = parameter.get_help_extra(context)
        text, default = _without_default(parameter.help or "")
        if "range" in extra:
            text += f" Range: `{extra['range']}`."
        found.append(
            Option(
                names=record[0].replace(" RANGE", ""),
                help=text,
                default="required" if parameter.required else extra.get("default", default),
                group=groups.get(record[0], ""),
            )
        )
    # A group's options stand together, in the order in which --help shows the groups.
    order = list(dict.fromkeys(groups.values()))
    return sorted(found, key=lambda option: order.index(option.group) if option.group else -1)


def _click_groups(command: click.Command, context: click.Context) -> dict[str, str]:
    """Return the heading of each option, of a command that writes its options under headings."""
    formatter = _Headings()
    command.format_options(context, formatter)
    return formatter.headings if len(set(formatter.headings.values())) > 1 else {}


class _Headings(click.HelpFormatter):
    """Hear under which heading each option is written."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: dict[str, str] = {}
        self._heading = ""

    def write_heading(self, heading: str) -> None:
        """Remember the heading."""
        self._heading = heading

    def write_dl(self, rows: Iterable[tuple[str, str]], *_: Any, **__: Any) -> None:
        """Remember which options come under it."""
        self.headings |= {names: self._heading for names, _ in rows if names.startswith("-")}


# --- argparse ------------------------------------------------------------------------------------


def _of_argparse(parser: argparse.ArgumentParser) -> Command:
    below: list[Command] = []
    options = []
    for action in parser._actions:  # argparse offers no public way to its options
        if isinstance(action, argparse._SubParsersAction):
            below = [_of_argparse(each) for each in action.choices.values()]
        elif action.help != argparse.SUPPRESS:
            options.append(_argparse_option(action))
    # As click writes it: an option is in the table, and need not be in the line as well.
    arguments = re.sub(r"\[-.*?\](?= |$)|--\S+ \S+", "", " ".join(parser.format_usage().split()))
    synopsis = " ".join(["[OPTIONS]", *arguments.removeprefix(f"usage: {parser.prog}").split()])
    return Command(
        name=parser.prog,
        synopsis=f"{parser.prog} {synopsis}",
        help=_paragraphs(parser.description or ""),
        options=options,
        commands=below,
    )


def _argparse_option(action: argparse.Action) -> Option:
    value = action.metavar or "|".join(action.choices or []) or action.dest.upper()
    takes_value = action.nargs != 0
    if action.option_strings:
        names = ", ".join(action.option_strings) + (f" {value}" if takes_value else "")
    else:
        names = str(value)
    text, default = _without_default(action.help or "")
    if action.required and action.option_strings:
        default = "required"
    return Option(names=names, help=text, default=default)


def _paragraphs(text: str) -> str:
    """Return help as Markdown; what click leaves as it is, behind `\\b`, is code."""
    blocks = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        f"```text\n{inspect.cleandoc(block[1:])}\n```"
        if block.startswith("\b")
        else " ".join(block.split())
        for block in blocks
    )


def _without_default(text: str) -> tuple[str, str]:
    """Return what an option means, and the default that its help has in words."""
    text = " ".join(text.split())
    found = re.search(r" [(\[]default: (.+)[)\]]$", text)
    return (text[: found.start()], found[1]) if found else (text, "")
