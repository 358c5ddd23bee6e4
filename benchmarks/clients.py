"""Bundles in engines that others wrote: how far their answers are from those of fic-runtime.

    python benchmarks/clients.py BUNDLE ... [--photos DIR] [--client NAME ...] [--folder DIR]

Each client gets `classifier.onnx` of each bundle (`fic export --single-graph`) and the same pixels:
those of `golden.npz`, or photos. It is installed in an environment of its own below `--folder`,
which is kept if it is given; that takes pip, npm and a network. The table goes to standard output:
the largest difference of a probability, and of `ood_score` in units of the largest score.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import some_photos

from fic_runtime import Classifier
from fic_runtime.bundle import open_bundle
from fic_runtime.heads.out_of_distribution import read_out_of_distribution
from fic_runtime.images import load_image

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
GRAPH = "classifier.onnx"
SECONDS = 900.0  # of one client with one bundle; the reference evaluator is slow


class Client(NamedTuple):
    """An engine as users get it.

    Attributes:
        engine: its function in `client_engines.py`, or the package for Node.js.
        packages: what pip installs, or npm; the first is the one whose version is shown.
        setting: what is set, as the table says it.
        float_input: it wants a graph of `--float-input`, and is not asked for others.
        node: it is for Node.js.
        bare: what pip installs as well, but not what that asks for: pnnx names torch, which its
            program does not need.
    """

    engine: str
    packages: tuple[str, ...]
    setting: str = ""
    float_input: bool = False
    node: bool = False
    bare: tuple[str, ...] = ()


CLIENTS = {
    "OpenVINO, default": Client("openvino", ("openvino",)),
    "OpenVINO": Client("openvino_f32", ("openvino",), "`INFERENCE_PRECISION_HINT=f32`"),
    "onnxruntime-openvino": Client("onnxruntime_openvino", ("onnxruntime-openvino",)),
    "OpenCV dnn": Client("opencv", ("opencv-python-headless",), "pixels as uint8"),
    "OpenCV dnn 4.10": Client(
        "opencv", ("opencv-python-headless==4.10.*", "numpy<2"), "pixels as float32"
    ),
    "OpenCV dnn 4.8": Client(
        "opencv", ("opencv-python-headless==4.8.1.*", "numpy<2"), "pixels as float32"
    ),
    "OpenCV dnn 4.6": Client(
        "opencv", ("opencv-python-headless==4.6.*", "numpy<2"), "pixels as float32"
    ),
    "tract": Client("tract", ("tract",), "the batch: `1,224,224,3,u8`"),
    "onnx.reference": Client("reference", ("onnx",)),
    "onnxruntime-node": Client(
        "onnxruntime-node", ("onnxruntime-node",), "`npm i --ignore-scripts`", node=True
    ),
    "onnxruntime-web, wasm": Client("onnxruntime-web", ("onnxruntime-web",), node=True),
    "ncnn": Client("ncnn", ("ncnn",), "pnnx with `fp16=0`", float_input=True, bare=("pnnx",)),
}


class Refused(Exception):
    """A client cannot be installed, or cannot run the graph; the last line that it said."""


class Expected(NamedTuple):
    """What fic-runtime answers for pixels: probabilities (n, labels) and scores (n, 1), if any."""

    probabilities: Array
    scores: Array | None
    threshold: float

    def agreeing(self, found: Mapping[str, Array]) -> int:
        """Return for how many pictures label and `known` are the same."""
        same = self.probabilities.argmax(axis=1) == found["probabilities"].argmax(axis=1)
        if self.scores is not None:
            known = found["ood_score"][:, 0] <= self.threshold
            same &= known == (self.scores[:, 0] <= self.threshold)
        return int(same.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="instead of golden.npz")
    parser.add_argument("--images", type=int, default=8, help="number of photos")
    parser.add_argument("--client", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--folder", type=Path, help="for the environments; kept")
    options = parser.parse_args()
    forms = " | ".join(map(_form, options.bundles))
    print(f"| client | version | set | {forms} |")
    print("|---" * (3 + len(options.bundles)) + "|")
    with tempfile.TemporaryDirectory(prefix="fic-clients-") as work:
        folder = options.folder or Path(work)
        files = [] if options.photos is None else some_photos(options.photos, options.images)
        for row in _rows(options.client, options.bundles, files, folder):
            print(row, flush=True)


def _rows(
    names: Sequence[str], bundles: Sequence[Path], photos: Sequence[Path], folder: Path
) -> Iterator[str]:
    cases = [(bundle, pixels_of(bundle, photos)) for bundle in bundles]
    expected = [answers_of(bundle, pixels) for bundle, pixels in cases]
    for name in names:
        client = CLIENTS[name]
        try:
            program, version = installed(client, folder)
        except Refused as error:
            yield f"| {name} | does not install here: {error} |" + " |" * (1 + len(bundles))
            continue
        cells = []
        for (bundle, pixels), wanted in zip(cases, expected, strict=True):
            if client.float_input and not _takes_float(bundle):
                cells.append("needs `--float-input`")
                continue
            try:
                cells.append(compared(run(program, bundle, pixels), wanted))
            except Refused as error:
                print(f"{name}, {bundle}: {error}", file=sys.stderr)
                cells.append("refuses")
        yield f"| {name} | {version} | {client.setting} | {' | '.join(cells)} |"


def pixels_of(bundle: Path, photos: Sequence[Path]) -> Array:
    """Return pictures as the bundle's graph takes them: uint8 (n, height, width, 3)."""
    if not photos:
        with np.load(bundle / "golden.npz") as golden:
            return np.asarray(golden["images"])
    geometry = open_bundle(bundle).manifest.preprocessing.geometry
    return np.stack([load_image(photo, geometry) for photo in photos])


def answers_of(bundle: Path, pixels: Array) -> Expected:
    """Return what fic-runtime says of pixels."""
    opened = open_bundle(bundle)
    ood = read_out_of_distribution(opened.files, opened.manifest)
    with Classifier(bundle, device="cpu") as classifier:
        # They have the input's size already, and are not cropped again.
        bottlenecks, probabilities = classifier.run(pixels)
    if ood is None:
        return Expected(probabilities, None, 0.0)
    return Expected(probabilities, ood.score(bottlenecks, probabilities)[:, None], ood.threshold)


def compared(found: Mapping[str, Array], expected: Expected) -> str:
    """Return the largest differences, and how many answers are the same where not all are.

    That of the score is in units of the largest score.
    """
    parts = [f"{np.abs(found['probabilities'] - expected.probabilities).max():.0e}"]
    if expected.scores is not None:
        scale = max(1.0, float(np.abs(expected.scores).max()))
        parts.append(f"{np.abs(found['ood_score'] - expected.scores).max() / scale:.0e}")
    same, count = expected.agreeing(found), len(expected.probabilities)
    return ", ".join(parts) + (f", **{same} of {count} the same**" if same < count else "")


def installed(client: Client, folder: Path) -> tuple[list[str], str]:
    """Install a client unless it is there, and return the command that runs it, and its version.

    Raises:
        Refused: it cannot be had.
    """
    # Clients that differ in a setting alone share one.
    home = folder / "-".join(client.packages).replace("=", "").replace("*", "x").replace("<", "_")
    if client.node:
        home.mkdir(parents=True, exist_ok=True)
        package = home / "node_modules" / client.packages[0] / "package.json"
        if not package.exists():
            (home / "package.json").write_text("{}", encoding="utf-8")
            _call(["npm", "install", "--ignore-scripts", "--prefix", str(home), *client.packages])
        version = json.loads(package.read_text(encoding="utf-8"))["version"]
        return ["node", str(HERE / "client_engines.mjs"), client.engine, str(home)], version
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = home / "installed"
    if not done.exists():
        venv.create(home, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        _call([*install, "numpy", *client.packages])
        if client.bare:
            _call([*install, "--no-deps", *client.bare])
        done.touch()
    name = client.packages[0].partition("=")[0]
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    version = _call([str(python), "-c", ask])
    return [str(python), str(HERE / "client_engines.py"), client.engine], version.strip()


def run(program: Sequence[str], bundle: Path, pixels: Array) -> dict[str, Array]:
    """Run a client's program on pixels; return each output, float (n, …), by its name.

    Raises:
        Refused: it cannot run the bundle's graph.
    """
    entry = open_bundle(bundle).manifest.single_graph
    outputs = [entry["output"]["name"], *entry.get("further_outputs", [])]
    with tempfile.TemporaryDirectory(prefix="fic-clients-") as work:
        taken, given = Path(work) / "pixels.npy", Path(work) / "answers.json"
        np.save(taken, pixels.astype(entry["input"]["dtype"]))
        _call([*program, str(bundle / GRAPH), str(taken), str(given), *outputs])
        answers = json.loads(given.read_text(encoding="utf-8"))
    # What is not a number has no form of its own in JSON, and is null there.
    return {name: np.array(rows, dtype=float) for name, rows in answers.items()}


def _call(command: Sequence[str]) -> str:
    # Nothing of the environment that this program runs in, where a client may call pip, too.
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    own["PATH"] = f"{Path(command[0]).parent}{os.pathsep}{own.get('PATH', '')}"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS, env=own
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(str(error)) from None
    if done.returncode:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if "rror" in line] or said
        reason = errors[-1] if errors else f"ended with {done.returncode}"
        raise Refused(reason.replace("|", "/")[:160])
    return done.stdout


def _takes_float(bundle: Path) -> bool:
    return bool(open_bundle(bundle).manifest.single_graph["input"]["dtype"] == "float32")


def _form(bundle: Path) -> str:
    manifest = open_bundle(bundle).manifest
    forms = [f"`{manifest.origin['base']}`"]
    if manifest.quantization:
        forms.append(manifest.quantization["scheme"])
    if _takes_float(bundle):
        forms.append("float input")
    return ", ".join(forms)


if __name__ == "__main__":
    main()
