"""Cells of CSV files that spreadsheets show as text: class and file names may be anybody's.

A cell that begins like a formula is one to a spreadsheet, and may send what stands beside it
elsewhere. An apostrophe in front makes it text; reading takes it away again.
"""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_ESCAPED = re.compile(rf"'{_FORMULA.pattern}")


def escaped(value: object) -> object:
    """Return the value of a cell, with an apostrophe before a text that would be a formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def unescaped(text: str) -> str:
    """Return a text that `escaped` was given."""
    return text[1:] if _ESCAPED.match(text) else text
