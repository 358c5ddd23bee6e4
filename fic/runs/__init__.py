"""The run folder, the result of a training on disk."""

from .run import RUN_FILE as RUN_FILE
from .run import Run as Run
from .run import as_run as as_run
from .run import read_record as read_record
from .writing import write_run as write_run
