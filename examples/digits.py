"""Write scikit-learn's 1797 handwritten digits as a data set of PNG files, with no network.

    python examples/digits.py OUT

OUT gets one folder per digit. The pictures are scans of real handwriting, 8 by 8 pixels with 17
levels of grey (E. Alpaydin, C. Kaynak, 1998: Optical Recognition of Handwritten Digits).
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits


def write_digits(out: Path) -> int:
    """Write the data set, unless it is there, and return the number of pictures."""
    digits = load_digits()
    if out.exists():
        found = len(list(out.glob("*/*.png")))
        if found != len(digits.images):
            sys.exit(f"{out}: holds something else; delete it or choose another folder")
        return found
    out.parent.mkdir(parents=True, exist_ok=True)
    # The folder takes its name when it is complete, so an interrupted run leaves none.
    work = Path(tempfile.mkdtemp(prefix=".digits-", dir=out.parent))
    try:
        for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            folder = work / "digits" / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            grey = np.rint(image * (255 / 16)).astype(np.uint8)
            # PNG, because eight pixels leave nothing to spare for a lossy format.
            cv2.imencode(".png", grey)[1].tofile(folder / f"{number:04}.png")
        (work / "digits").rename(out)
    finally:
        shutil.rmtree(work)
    return len(digits.images)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the data set")
    folder = parser.parse_args().out
    print(f"{write_digits(folder)} pictures in {folder}")
