"""From a finished run to a bundle."""

from ..options import ReliabilityOptions as ReliabilityOptions
from .pipeline import export_run as export_run
