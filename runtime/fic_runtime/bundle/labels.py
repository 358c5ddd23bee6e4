"""What may be the name of a class; needs only the standard library."""

import re

# Control characters, the two separators of lines and paragraphs, and surrogates, which stand for
# the bytes of a file name that is not UTF-8.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_label(text: str) -> bool:
    """Return whether a text is one line that can be printed.

    A label stands on a line of `labels.txt` and between the tabs of what commands print.
    """
    return bool(text) and _FORBIDDEN.search(text) is None
