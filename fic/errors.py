"""Errors of the training side, on the same root as the runtime's (`fic_runtime.errors`).

FicError
├── DataError            a data set cannot be used: no classes, an empty class, no readable picture
├── CacheError           the bottleneck cache cannot be used or written
├── TrainingError        the loss is not a number any more
├── HeadError            a head or its labels cannot be built, loaded or exported, or do not fit
├── RunError             a run folder is missing, incomplete, or does not fit what it is used for
├── UnknownBaseError     a base name that is not in the table
├── BaseOptionError      a base has no such layer, or does not accept such an image size
├── WeightsError         weights cannot be downloaded or read, or do not fit the base
├── ClusterError         a Ray cluster cannot be used
└── DownloadError        a download could not be finished or did not match its checksum
"""

from fic_runtime.errors import FicError as FicError
from fic_runtime.errors import one_line as one_line


class DataError(FicError):
    """A data set cannot be used: no classes, an empty class, no readable picture."""


class CacheError(FicError):
    """The bottleneck cache cannot be used or written."""


class TrainingError(FicError):
    """The training of the head cannot go on: the loss is not a number any more."""


class HeadError(FicError):
    """A head cannot be built, loaded or exported, or does not fit the bottlenecks."""


class RunError(FicError):
    """A run folder is missing, incomplete, or does not fit what it is used for."""


class UnknownBaseError(FicError):
    """A base name that is not in the table of `fic.bases.table`."""


class BaseOptionError(FicError):
    """A base has no such layer, or does not accept such an image size."""


class WeightsError(FicError):
    """The weights of a base cannot be downloaded or read, or do not fit it."""


class DownloadError(FicError):
    """A download could not be finished or did not match its checksum."""


class ClusterError(FicError):
    """A Ray cluster cannot be used, or its workers died."""
