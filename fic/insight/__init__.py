"""Questions to the cache of bottlenecks: what is wrong with the pictures, and how good is a run."""

from .auditing import audit as audit
from .decisions import apply_decisions as apply_decisions
from .reporting import report as report
