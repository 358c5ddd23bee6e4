"""The answers of `fic-runtime-web` in Chromium beside those of `fic-runtime`, and their speed.

    python benchmarks/browser.py BUNDLE PHOTOS [--images 200]

Needs Chromium, chromedriver and what `make test-web` builds. Photos go as files through either
reader. Where fic-runtime decodes a JPEG at a fraction of its size, which browsers do not, the
difference is that of the two ways; such photos are counted apart.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from measuring import some_photos
from selenium import webdriver

from fic_runtime import Classifier
from fic_runtime.images import load_image, read_image, resize_image

_DIST = Path(__file__).parents[1] / "runtime/web/dist"
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run")
_OPEN = """
    const done = arguments[0];
    const started = performance.now();
    import("/dist/fic-runtime-web.js")
        .then(({ Classifier }) => Classifier.open("/bundle/"))
        .then((classifier) => {
            globalThis.classifier = classifier;
            return classifier.selfTest();
        })
        .then((test) => done({ test, milliseconds: performance.now() - started }));
"""
_ASK = """
    const [name, done] = arguments;
    (async () => {
        const blob = await (await fetch(`/photos/${name}`)).blob();
        const pixels = await classifier.pixels(blob);
        const started = performance.now();
        const { known, probabilities } = await classifier.predict(blob);
        const milliseconds = performance.now() - started;
        return { pixels: [...pixels], known, probabilities: [...probabilities], milliseconds };
    })().then(done);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    files = some_photos(options.photos, options.images)
    with tempfile.TemporaryDirectory() as work, chromium() as driver:
        folder = Path(work)
        shutil.copytree(_DIST, folder / "dist")
        shutil.copytree(options.bundle, folder / "bundle")
        (folder / "photos").mkdir()
        for number, file in enumerate(files):
            shutil.copyfile(file, folder / f"photos/{number}.jpg")
        (folder / "index.html").write_text("<!doctype html><title>benchmark</title>")
        with served(folder) as address:
            driver.get(address)
            opened = driver.execute_async_script(_OPEN)
            print(f"opened and tested in {opened['milliseconds']:.0f} ms: {opened['test']}")
            asked = [
                driver.execute_async_script(_ASK, f"{number}.jpg") for number in range(len(files))
            ]
    with Classifier(options.bundle, device="cpu") as classifier:
        whole, reduced = compared(classifier, files, asked)
    for what, rows in (("decoded whole", whole), ("decoded at a fraction", reduced)):
        if rows:
            show(what, rows)
    times = [answer["milliseconds"] for answer in asked]
    print(f"predict from a file: {statistics.median(times):.1f} ms (median)")


def compared(
    classifier: Classifier, files: Sequence[Path], asked: Sequence[dict[str, Any]]
) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Return for each photo: levels of pixels, probabilities, same label, same known."""
    geometry = classifier.manifest.preprocessing.geometry
    whole, reduced = [], []
    for file, answer in zip(files, asked, strict=True):
        pixels = load_image(file, geometry)
        found = np.array(answer["pixels"], int).reshape(pixels.shape)
        expected = classifier.predict(file)
        probabilities = np.array(answer["probabilities"])
        row = (
            np.abs(found - pixels).max(),
            np.abs(probabilities - expected.probabilities).max(),
            probabilities.argmax() == expected.index,
            answer["known"] == expected.known,
        )
        same = np.array_equal(resize_image(read_image(file), geometry), pixels)
        (whole if same else reduced).append(row)
    return whole, reduced


def show(what: str, rows: Sequence[tuple[float, ...]]) -> None:
    levels, probabilities, labels, known = np.array(rows, float).T
    print(
        f"{len(rows)} photos {what}: pixels differ by at most {levels.max():.0f} levels, "
        f"probabilities by {probabilities.max():.4f} (mean {probabilities.mean():.5f}); the same "
        f"label {labels.sum():.0f}, the same known {known.sum():.0f}"
    )


@contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in _FLAGS:
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"), log_output=os.devnull)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


if __name__ == "__main__":
    main()
