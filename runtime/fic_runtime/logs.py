"""Loggers that import `logging` only where somebody may listen.

The import takes 5 ms of the 220 in which a small bundle gives its first answer. Who wants to hear
of more than warnings has imported `logging` to say so.
"""

import sys


class Log:
    """The logger of a module, by its name."""

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
