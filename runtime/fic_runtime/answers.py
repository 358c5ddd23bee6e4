"""How a command line prints predictions: one line a picture."""

import json
from pathlib import Path

from .classifier import Prediction
from .errors import ImageError


def answer_line(path: Path, prediction: Prediction, *, top_k: int) -> str:
    """Return the file, a tab, and the best labels with their probabilities."""
    scores = prediction.top(top_k)
    return f"{path}\t" + "  ".join(f"{each.label} {each.probability:.4f}" for each in scores)


def answer_json(path: Path, answer: Prediction | ImageError, *, top_k: int) -> str:
    """Return one JSON object: the best labels, or the error of a picture that has none."""
    if isinstance(answer, ImageError):
        return json.dumps({"file": str(path), "error": str(answer)}, ensure_ascii=False)
    top = [{"label": each.label, "probability": each.probability} for each in answer.top(top_k)]
    best = {"label": answer.label, "index": answer.index, "probability": answer.probability}
    return json.dumps({"file": str(path), **best, "top": top}, ensure_ascii=False)
