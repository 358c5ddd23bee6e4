"""The folder that an audit writes: findings for programs, a page, and the file to decide in."""

import json
from pathlib import Path

from fic_export.errors import OutputError
from fic_runtime.results import cannot_write, check_replaceable, check_writable, replacing_folder

from .decisions import ERRORS, decisions_csv, holds_decisions
from .findings import Audit

AUDIT_FILE = "audit.json"
SUSPECTS_FILE = "suspects.csv"
REPORT_FILE = "report.html"
# What a desktop leaves in a folder that somebody looks at.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def check_audit_folder(folder: Path) -> None:
    """Make sure that an audit can be written to `folder`, in place of an earlier one at most.

    Raises:
        OutputError: it holds something else, or suspects that somebody has decided about, or cannot
            be written.
    """
    check_replaceable(folder, mark=AUDIT_FILE)
    if folder.is_dir():
        own = {AUDIT_FILE, SUSPECTS_FILE, REPORT_FILE, *_LITTER}
        for entry in sorted(folder.iterdir()):
            if entry.name not in own:
                raise OutputError(
                    f"{folder}: holds {entry.name} beside an earlier audit, and a new audit "
                    "replaces the folder; move it away or give another folder"
                )
    if holds_decisions(folder / SUSPECTS_FILE):
        raise OutputError(
            f"{folder / SUSPECTS_FILE}: holds decisions, and a new audit replaces it; apply it or "
            "move it away, or give another folder"
        )
    check_writable(folder)


def write_audit(folder: Path, audit: Audit, *, report: str, split: bool) -> None:
    """Write the folder of an audit whole, in place of an earlier one if there is one.

    Args:
        folder: the folder.
        audit: what was found.
        report: the page about it.
        split: whether the data set is split already.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    check_audit_folder(folder)
    try:
        with replacing_folder(folder, mark=AUDIT_FILE) as temporary:
            text = json.dumps(audit.to_dict(), indent=1)
            (temporary / AUDIT_FILE).write_text(text + "\n", encoding="utf-8")
            (temporary / SUSPECTS_FILE).write_text(
                decisions_csv(audit, split=split), encoding="utf-8", errors=ERRORS, newline=""
            )
            (temporary / REPORT_FILE).write_text(
                report, encoding="utf-8", errors="backslashreplace"
            )
    except OSError as error:
        raise cannot_write(folder, error) from error
