"""From a finished run to a bundle."""

from .fits import ReliabilityOptions as ReliabilityOptions
from .pipeline import export_run as export_run
