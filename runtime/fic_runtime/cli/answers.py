"""How a command line prints answers: a line of text, a JSON object or a row of a table.

Of several heads, text and tables have a line for each head, JSON has one object for each picture.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ImageError, printable, printable_json
from ..predictions import Prediction

_FORMULA = tuple("=+-@\t\r＝＋－＠")  # noqa: RUF001 # wide forms, which spreadsheets know as well


def answer_line(path: Path, prediction: Prediction, *, top_k: int) -> str:
    """Return the file, a tab, the best labels with their probabilities, and a mark of doubt."""
    scores = prediction.top(top_k)
    labels = "  ".join(f"{printable(score.label)} {score.probability:.4f}" for score in scores)
    return f"{printable(str(path))}\t{labels}" + (
        "  (unknown?)" if prediction.known is False else ""
    )


def answer_json(path: Path, answer: Prediction | ImageError, *, top_k: int) -> str:
    """Return one JSON object: the best labels, or the error of a picture that has none."""
    if isinstance(answer, ImageError):
        return json_line({"file": str(path), "error": str(answer)})
    top = [{"label": score.label, "probability": score.probability} for score in answer.top(top_k)]
    best: dict[str, Any] = {
        "label": answer.label,
        "index": answer.index,
        "probability": answer.probability,
    }
    if answer.known is not None:
        best |= {"known": answer.known, "ood_score": answer.ood_score}
    return json_line({"file": str(path), **best, "top": top})


def json_line(values: Mapping[str, Any]) -> str:
    """Return values as one line of JSON, readable and without what a terminal would obey.

    JSON is UTF-8. Where the output has another encoding (files on Windows) it is ASCII, which is
    the same in all that people use.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    return printable_json(json.dumps(values, ensure_ascii=encoding != "utf8"))


def table_cell(text: str) -> str:
    """Return the name of a picture or of a label as it may stand in a table.

    What a spreadsheet would take for a formula begins with an apostrophe, which it does not show.
    """
    return f"'{printable(text)}" if text.startswith(_FORMULA) else printable(text)


def table_head(*, top_k: int, known: bool = False) -> list[str]:
    """Return the names of a table's columns; the second best label is in `label_2`, and so on.

    Args:
        top_k: how many labels a row has.
        known: whether it has the out-of-distribution score, for bundles that have one.
    """
    best = ["label", "probability"]
    others = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in best]
    return ["file", *best, *others, *(["known", "ood_score"] if known else []), "error"]


def table_row(
    path: Path, answer: Prediction | ImageError, *, top_k: int, known: bool = False
) -> list[str]:
    """Return the cells of one picture; those of labels that there are not stay empty."""
    more = ["", ""] if known else []
    cells = [""] * (2 * top_k)
    if isinstance(answer, ImageError):
        return [table_cell(str(path)), *cells, *more, table_cell(str(answer))]
    for index, score in enumerate(answer.top(top_k)):
        cells[2 * index : 2 * index + 2] = [
            table_cell(score.label),
            f"{score.probability:.6f}",
        ]
    if known and answer.known is not None:
        more = [str(answer.known).lower(), f"{answer.ood_score:.6g}"]
    return [table_cell(str(path)), *cells, *more, ""]


def heads_line(path: Path, answers: Mapping[str, Prediction], *, top_k: int) -> str:
    """Return a line for each head: the file, the head's name and its labels, between tabs."""
    return "\n".join(
        f"{printable(str(path))}\t{answer_line(Path(name), answer, top_k=top_k)}"
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
    return json_line({"file": str(path), "heads": heads})


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
        rows.append([file, table_cell(name), *cells])
    return rows
