"""From a finished run to a bundle."""

from .pipeline import export_run as export_run
from .reliability import ReliabilityOptions as ReliabilityOptions
