"""What users are told: every error that they can fix, and a log of the rest.

FicError                 one sentence for the user; a command line exits with `exit_code`
├── ImageError           this file or array is not a picture that can be classified
├── BundleError          a bundle is missing, damaged, or of a newer format
├── VideoError           a camera, a video or a stream cannot be opened, or ends too early
├── DeviceError          the device or provider asked for cannot be used here
├── OutputError          results cannot be written to the place asked for
├── SignatureError       a bundle is not what was signed; exit code 3
├── SigningError         signatures cannot be made or checked here: no library, no key
└── ServerError          the server cannot start here

The training side adds its own branches to the same root: `fic.errors` and `fic_export.errors`.
`Log` is for what is no error, and what only some want to hear of.
"""

import re
import sys

_MOST_CHARACTERS = 300  # of another library's words; some print whole graphs
# What a terminal obeys, or what makes one line look like several, or like another one: control
# characters, surrogates, separators of lines and paragraphs, and marks of the direction of writing.
_NOT_PRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class FicError(Exception):
    """Root of all errors that a user can fix: what is wrong, where, and what to do."""

    exit_code = 1

    def __str__(self) -> str:
        # Here, for every command line, log and answer: names of others stand in most of them.
        return printable(super().__str__())


def one_line(error: BaseException) -> str:
    """Return what another library says of an error as one line; its class where it says nothing."""
    return printable(" ".join(str(error).split()))[:_MOST_CHARACTERS] or type(error).__name__


def printable(text: str) -> str:
    """Return a text of others as it may stand on a line: what is not printable is escaped."""
    return _NOT_PRINTABLE.sub(_escaped, text)


def printable_json(text: str) -> str:
    """Return JSON that means the same, with the escapes of JSON for what is not printable."""
    return _NOT_PRINTABLE.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text
    )


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class ImageError(FicError):
    """A file or an array is not a picture that can be classified."""


class BundleError(FicError):
    """A bundle is missing, damaged, of a newer format, or does not fit what it is used with."""


class VideoError(FicError):
    """A camera, a video or a stream cannot be opened or read, or ends too early."""


class DeviceError(FicError):
    """The device or the execution provider that was asked for cannot be used here."""


class OutputError(FicError):
    """Results cannot be written there, or something else is there already."""


class SignatureError(FicError):
    """A bundle has no signature, or is not what was signed."""

    exit_code = 3


class SigningError(FicError):
    """Signatures cannot be made or checked here: the library or the key is missing."""


class ServerError(FicError):
    """The server cannot start: a package is missing, or its address cannot be had."""


class Log:
    """The logger of a module, by its name; imports `logging` only where somebody may listen.

    The import takes 5 ms of the 220 in which a small bundle gives its first answer. Who wants to
    hear of more than warnings has imported `logging` to say so.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, message: str, *values: object) -> None:
        """Log what happened, for those who ask."""
        if "logging" in sys.modules:
            self._log("INFO", message, values)

    def warning(self, message: str, *values: object) -> None:
        """Log what should not be; without a handler Python prints it to stderr."""
        self._log("WARNING", message, values)

    def _log(self, level: str, message: str, values: tuple[object, ...]) -> None:
        import logging

        # The caller of `info` or `warning` is whose line a handler shows.
        number = getattr(logging, level)
        logging.getLogger(self._name).log(number, message, *values, stacklevel=3)
