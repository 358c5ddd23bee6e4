"""A run with pictures enough to fit something on, which the tests of exports share."""

from typing import Any

import pytest

from fic.data import Source
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.runs import Run


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory, make_photos: Any, base: BaseOptions) -> Run:
    """Return a run with pictures enough: some 75 on each side."""
    from fic.training import train

    folder = tmp_path_factory.mktemp("larger")
    return train(
        Source(data=make_photos(folder / "photos", 50), val_split=0.5),
        out=folder / "run",
        base=base,
        cache=CacheOptions(bottleneck_dir=folder / "cache"),
        options=TrainingOptions(epochs=3, learning_rate=0.01),
    )
