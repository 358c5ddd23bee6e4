"""The pages of `fic-runtime serve` at its root, as a person uses them."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from fic_runtime.bundle.pages import write_site

from .picture_files import encoded

pytest.importorskip("uvicorn", reason="needs the extra [serve]")


@pytest.fixture
def served(cautious: Path) -> Iterator[Callable[..., str]]:
    """Return a function that serves a bundle whose score doubts and returns the address."""
    processes = []

    def start(*options: str | Path) -> str:
        command = [sys.executable, "-m", "fic_runtime", "serve", cautious, "--port", "0", *options]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        )
        assert processes[-1].stdout is not None
        address = processes[-1].stdout.readline().strip() + "/"
        while not is_ready(address):
            time.sleep(0.05)
        return address

    yield start
    for process in processes:
        process.terminate()
        process.communicate(timeout=30)


def is_ready(address: str) -> bool:
    try:
        with urlopen(f"{address}v2/health/ready", timeout=30) as answer:
            return bool(answer.status == 200)
    except HTTPError:
        return False


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str, tuple[int, int, int]], Path]:
    """Return a function that writes a picture of one color."""

    def write(name: str, color: tuple[int, int, int]) -> Path:
        file = tmp_path / name
        file.write_bytes(encoded("PNG", np.full((60, 80, 3), color, np.uint8)))
        return file

    return write


def test_the_servers_own_page_asks_the_server(browser: Any, served: Any, picture: Any) -> None:
    address = served()
    browser.open(address)

    def answer_to(file: Path, *, contains: str) -> str:
        browser.one("input[type=file]").send_keys(str(file))
        browser.until(lambda: contains in browser.text("[role=status]"))
        return str(browser.text("[role=status]"))

    assert answer_to(picture("red.png", (230, 20, 20)), contains="red").startswith("red ")
    assert "not like the pictures" in answer_to(picture("grey.png", (90, 90, 90)), contains="unkn")
    broken = picture("broken.png", (0, 0, 0))
    broken.write_bytes(b"no picture")
    assert "image: not a picture" in answer_to(broken, contains="image:")
    shown = [each for each in browser.read_requests() if not each.startswith("blob:")]
    assert set(shown) - {f"{address}favicon.ico"} == {address, f"{address}predict"}
    # The browser itself logs the refusal of what was no picture, and that there is no icon.
    complaints = [each for each in browser.complaints() if "Failed to load resource" not in each]
    assert complaints == []


def test_the_page_that_answers_by_itself_can_stand_in_its_place(
    browser: Any, served: Any, picture: Any, cautious: Path, page_parts: None, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    write_site(cautious, site)
    address = served("--page", site)
    browser.open(address)
    browser.until(lambda: browser.text("#status").startswith("Ready"))
    browser.one("#files").send_keys(str(picture("red.png", (230, 20, 20))))
    browser.until(lambda: browser.all(".picture") and not browser.all(".picture.waiting"))
    assert browser.text("#gallery .verdict").startswith("red ")
    assert f"{address}predict" not in browser.read_requests()
    assert browser.complaints() == []
