"""Files that break decoders: each gives pixels or one sentence, in little memory."""

import csv
import json
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import pytest

from fic_runtime.errors import ImageError
from fic_runtime.images import read_image

NASTY = Path(__file__).parents[4] / "shared" / "nasty"
MEGABYTES = 500  # the largest of these pictures has two megapixels

# Listed as a whole file, but it ends where the data of its first scan should begin.
ENDS_AFTER_ITS_HEADER = "jpeg_ultrahdr_gainmap.jpg"


def listing() -> list[dict[str, str]]:
    if not NASTY.is_dir():
        return []
    with (NASTY / "LISTING.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def expectation(row: dict[str, str]) -> str:
    if row["file"] == ENDS_AFTER_ITS_HEADER:
        return "fail"
    old = tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 11)
    return "maybe" if old and row["file"].endswith(".gif") else row["expect"]


# Linux's ru_maxrss would not do: it starts with the memory of the process that ran the tests.
MEMORY = Path("/proc/self/status")
DECODE_ALL = """
import json, re, sys, time
from pathlib import Path
from fic_runtime.errors import ImageError
from fic_runtime.images.loading import read_image

for line in sys.stdin:
    start = time.perf_counter()
    try:
        outcome = str(read_image(Path(line.rstrip("\\n"))).shape)
    except ImageError as error:
        outcome = str(error)
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) // 1024
    print(json.dumps([outcome, peak, time.perf_counter() - start]))
"""


MEGAPIXELS_50 = """
import re, sys
from pathlib import Path
import cv2, numpy
from fic_runtime.images.loading import load_image
from fic_runtime.preprocessing import Geometry

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

before = peak()
assert load_image(sys.argv[1], Geometry(height=224, width=224)).shape == (224, 224, 3)
print(peak() - before)
"""


@cache
def photo_of_50_megapixels(suffix: str) -> bytes:
    smooth = np.add.outer(np.arange(5800, dtype=np.uint8), np.arange(8700, dtype=np.uint8))
    _, data = cv2.imencode(suffix, cv2.cvtColor(smooth, cv2.COLOR_GRAY2BGR))
    return bytes(data)


@pytest.mark.skipif(not MEMORY.exists(), reason="reads the peak memory where Linux tells it")
@pytest.mark.parametrize(
    # A JPEG is decoded at an eighth; else there are the pixels, 150 MB, twice if turned.
    ("suffix", "orientation", "megabytes"),
    [(".jpg", 1, 100), (".png", 1, 350), (".png", 6, 350)],
)
def test_a_photo_of_50_megapixels_takes_little_memory(suffix, orientation, megabytes, tmp_path):
    data = photo_of_50_megapixels(suffix)
    if orientation != 1:
        data = with_exif(data, orientation)
    (tmp_path / f"photo{suffix}").write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-c", MEGAPIXELS_50, str(tmp_path / f"photo{suffix}")],
        capture_output=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) < megabytes


def with_exif(png: bytes, orientation: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    chunk = b"eXIf" + tiff
    # After IHDR, which always has the same length.
    return b"".join(
        [png[:33], struct.pack(">I", len(tiff)), chunk, struct.pack(">I", crc32(chunk)), png[33:]]
    )


@cache
def decode_all_in_one_process() -> list[tuple[str, int, float]]:
    names = "".join(f"{NASTY / row['file']}\n" for row in listing())
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", DECODE_ALL],
        input=names, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return [tuple(json.loads(line)) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("row", listing(), ids=lambda row: row["file"])
def test_a_nasty_file_gives_what_the_listing_expects(row):
    expect = expectation(row)
    try:
        pixels = read_image(NASTY / row["file"])
    except ImageError as error:
        assert expect in ("fail", "bomb", "maybe"), str(error)
        assert row["file"] in str(error)
        assert "\n" not in str(error)
    else:
        assert expect in ("ok", "maybe")
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


@pytest.mark.skipif(not NASTY.is_dir(), reason="needs the folder ../shared/nasty")
@pytest.mark.skipif(not MEMORY.exists(), reason="reads the peak memory where Linux tells it")
def test_all_nasty_files_pass_through_one_process_in_little_memory():
    outcomes = decode_all_in_one_process()

    assert len(outcomes) == len(listing())
    assert max(peak for _, peak, _ in outcomes) < MEGABYTES


@pytest.mark.skipif(not NASTY.is_dir(), reason="needs the folder ../shared/nasty")
def test_the_exif_examples_all_come_out_as_the_same_landscape():
    first, *others = (
        read_image(NASTY / f"exif_landscape_{orientation}.jpg").astype(int)
        for orientation in (1, 4, 6, 7)
    )

    for other in others:  # they are tagged with a numeral, and compressed anew
        assert other.shape == first.shape
        assert np.abs(other - first).mean() < 6
        assert np.abs(other[::-1] - first).mean() > 30


@pytest.mark.skipif(not NASTY.is_dir(), reason="needs the folder ../shared/nasty")
def test_the_dark_16_bit_tiff_is_not_nearly_black():
    assert 64 < read_image(NASTY / "tiff_16bit.cropped.tif").mean() < 192
