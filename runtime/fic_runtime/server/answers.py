"""What the server sends: JSON, and refusals that say why."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..predictions import Prediction
from .models import HeadAnswers
from .workers import FullError, Picture

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Json(Response):
    """A JSON body; it may hold finite numbers only."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the text."""
        return _ENCODER.encode(content).encode("utf-8", "backslashreplace")


class RefusalError(HTTPException):
    """A request that is answered by an error: status, one sentence, and the kind for the metrics.

    The connection ends where the body was not read to its end.
    """

    def __init__(
        self, status: int, why: str, *, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, why, headers)
        self.reason = reason


def refusal_of(full: FullError) -> RefusalError:
    """Return what a client is told for whom the queue has no room."""
    return RefusalError(
        503, str(full), reason="queue", headers={"Retry-After": str(full.retry_after)}
    )


def predictions_json(
    model: str,
    pictures: Sequence[Picture],
    answers: Sequence[HeadAnswers],
    *,
    top: int,
    several: bool,
) -> Json:
    """Return what the models say of each picture, with the `top` best labels."""
    values = []
    for picture, answer in zip(pictures, answers, strict=True):
        if several:
            heads = {name: _prediction(one, top) for name, one in answer.items()}
            values.append({"file": picture.name, "heads": heads})
        else:
            (one,) = answer.values()
            values.append({"file": picture.name, **_prediction(one, top)})
    return Json({"model": model, "predictions": values})


def number(value: float | None) -> float | None:
    """Return what JSON can hold: None for a number that is not finite."""
    return value if value is not None and math.isfinite(value) else None


def _prediction(prediction: Prediction, top: int) -> dict[str, Any]:
    scores = prediction.top(min(top, len(prediction.labels)))
    return {
        "label": prediction.label,
        "index": prediction.index,
        "probability": number(prediction.probability),
        "known": prediction.known,
        "ood_score": number(prediction.ood_score),
        "top": [{"label": one.label, "probability": number(one.probability)} for one in scores],
    }
