"""An extension of Python-Markdown that puts the reference of the commands into a page."""

from typing import Any

from commands import with_commands
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor


class CommandLine(Preprocessor):
    """Put the commands in the place of the marks."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines of a page with the commands in them."""
        return with_commands("\n".join(lines)).split("\n")


class CommandLineExtension(Extension):
    """Register `CommandLine` before what takes comments and code out of a page."""

    def extendMarkdown(self, md: Markdown) -> None:  # Python-Markdown has its own names
        """Register it; higher numbers come first, and code blocks have 25."""
        md.preprocessors.register(CommandLine(md), "command_line", 100)


def makeExtension(**_: Any) -> CommandLineExtension:
    """Return the extension; Python-Markdown calls this by its name."""
    return CommandLineExtension()
