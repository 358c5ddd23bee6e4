"""How a command line prints what several heads say: as `answers`, with the name of the head.

Text and tables have a line for each head, JSON has one object for each picture.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import ImageError
from ..predictions import Prediction
from .answers import answer_json, answer_line, table_head, table_row


def heads_line(path: Path, answers: Mapping[str, Prediction], *, top_k: int) -> str:
    """Return a line for each head: the file, the head's name and its labels, between tabs."""
    return "\n".join(
        f"{path}\t{answer_line(Path(name), answer, top_k=top_k)}"
        for name, answer in answers.items()
    )


def heads_json(path: Path, answers: Mapping[str, Prediction] | ImageError, *, top_k: int) -> str:
    """Return one JSON object, with what each head says by its name under `heads`."""
    if isinstance(answers, ImageError):
        return answer_json(path, answers, top_k=top_k)
    heads = {}
    for name, answer in answers.items():
        heads[name] = json.loads(answer_json(path, answer, top_k=top_k))
        del heads[name]["file"]
    return json.dumps({"file": str(path), "heads": heads}, ensure_ascii=False)


def heads_table_head(*, top_k: int, known: bool = False) -> list[str]:
    """Return the names of a table's columns: `head` comes after `file`."""
    file, *others = table_head(top_k=top_k, known=known)
    return [file, "head", *others]


def heads_table_rows(
    path: Path, answers: Mapping[str, Prediction] | ImageError, *, top_k: int, known: bool = False
) -> list[list[str]]:
    """Return the rows of one picture, one for each head, or one with an error."""
    by_name = {"": answers} if isinstance(answers, ImageError) else answers
    rows = []
    for name, answer in by_name.items():
        file, *cells = table_row(path, answer, top_k=top_k, known=known)
        rows.append([file, name, *cells])
    return rows
