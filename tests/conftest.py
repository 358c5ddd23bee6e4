"""Fixtures that more than one folder of tests uses."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Let the programs that tests start see Ctrl-C, which a shell hides from background jobs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real photos and weights beside the checkout, or skip the test."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "photos").is_dir():
        pytest.skip("needs the folder ../shared with real photos and weights")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests put into fic's caches out of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIC_CACHE_DIR", str(tmp_path_factory.mktemp("fic-cache")))
        yield
