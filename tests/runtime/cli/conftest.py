"""Pictures for the commands."""

import shutil

import pytest


@pytest.fixture
def album(tmp_path, golden):
    """Return a folder with four pictures, one of which is broken."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number in (1, 2, 10):
        shutil.copy(golden / "small.png", folder / f"img{number}.png")
    (folder / "img3.png").write_bytes(b"no picture")
    return folder
