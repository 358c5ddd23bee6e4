"""Every error that a user can fix.

FicError                 one sentence for the user; a command line exits with `exit_code`
├── ImageError           this file or array is not a picture that can be classified
├── BundleError          a bundle is missing, damaged, or of a newer format
├── VideoError           a camera, a video or a stream cannot be opened, or ends too early
├── DeviceError          the device or provider asked for cannot be used here
├── OutputError          results cannot be written to the place asked for
└── ServerError          the server cannot start here

The training side adds its own branches to the same root: `fic.errors` and `fic_export.errors`.
"""

_MOST_CHARACTERS = 300  # of another library's words; some print whole graphs


class FicError(Exception):
    """Root of all errors that a user can fix: what is wrong, where, and what to do."""

    exit_code = 1


def one_line(error: BaseException) -> str:
    """Return what another library says of an error as one line; its class where it says nothing."""
    return " ".join(str(error).split())[:_MOST_CHARACTERS] or type(error).__name__


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


class ServerError(FicError):
    """The server cannot start: a package is missing, or its address cannot be had."""
