"""The gate: what counts as the same answer."""

import math
from dataclasses import replace

import pytest

from fic_export.bundle.parity import Parity
from fic_export.errors import ParityError
from fic_export.options import Bounds

GOOD = Parity(
    pictures=200,
    largest_difference=1e-4,
    mean_difference=1e-6,
    top_1_agreement=1.0,
    worst_files=["rose.jpg", "tulip.jpg"],
    keras_accuracy=0.9,
    runtime_accuracy=0.895,
)


@pytest.mark.parametrize(
    ("figures", "bounds"),
    [
        ({}, Bounds()),
        ({"largest_difference": 0.0}, Bounds(max_difference=0.0)),
        ({"largest_difference": 1e-3}, Bounds()),
        ({"largest_difference": 0.2}, Bounds(max_difference=0.2)),
        ({"top_1_agreement": 0.995}, Bounds(min_agreement=0.99)),
        ({}, Bounds(min_accuracy=0.895)),
        ({"runtime_accuracy": None}, Bounds()),
    ],
)
def test_within_the_bounds_it_passes(figures, bounds):
    replace(GOOD, **figures).check(bounds)


@pytest.mark.parametrize(
    ("figures", "bounds", "message"),
    [
        ({"largest_difference": 1.1e-3}, Bounds(), r"by 0\.0011 on rose\.jpg, tulip\.jpg \(at"),
        ({"largest_difference": math.nan}, Bounds(), r"by nan on rose\.jpg"),
        ({"largest_difference": math.nan}, Bounds(max_difference=math.inf), "by nan"),
        ({"largest_difference": math.inf}, Bounds(max_difference=1.0), "by inf"),
        ({"top_1_agreement": 0.995}, Bounds(), r"another class than Keras for 0\.50% of 200"),
        ({"top_1_agreement": 0.98}, Bounds(min_agreement=0.99), r"at least 99\.00% must agree"),
        ({"top_1_agreement": math.nan}, Bounds(), "another class"),
        ({"top_1_agreement": 0.5}, Bounds(), r"\(worst: rose\.jpg, tulip\.jpg\)"),
        ({}, Bounds(min_accuracy=0.9), r"is 89\.50% \(at least 90\.00% is asked for\)"),
        ({"runtime_accuracy": None}, Bounds(min_accuracy=0.1), "is not known"),
    ],
)
def test_past_a_bound_it_is_refused(figures, bounds, message):
    with pytest.raises(ParityError, match=message) as caught:
        replace(GOOD, **figures).check(bounds)
    assert "nothing was written" in str(caught.value)
    assert caught.value.exit_code == 3
