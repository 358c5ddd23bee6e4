"""Fixtures that more than one folder of tests uses."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real photos and weights beside the checkout, or skip the test."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "photos").is_dir():
        pytest.skip("needs the folder ../shared with real photos and weights")
    return folder
