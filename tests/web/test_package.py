"""The npm package in Node: the same numbers as fic-runtime, and the same refusals."""

import hashlib
import json
import shutil
import struct
import tomllib
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.head_only import files_of_the_head, head_files
from fic_runtime.classifier import Classifier
from fic_runtime.errors import BundleError
from fic_runtime.heads.ood_scores import METHODS
from fic_runtime.heads.out_of_distribution import OutOfDistribution
from fic_runtime.images import resize_image
from fic_runtime.preprocessing import Geometry

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
BUNDLES = [DATA / "bundle-v1", DATA / "explaining-bundle", DATA / "before-wings/bundle.zip"]

OPEN = """
    import { Classifier } from "fic-runtime-web/node";
    try {
        const classifier = await Classifier.open(given.bundle, { head: given.head });
        result = { labels: classifier.labels };
        await classifier.close();
    } catch (error) {
        result = { error: error.message, name: error.name };
    }
"""


def test_versions_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    html = tomllib.loads((ROOT / "runtime/html/pyproject.toml").read_text("utf-8"))["project"]
    npm = json.loads((ROOT / "runtime/web/package.json").read_text("utf-8"))
    assert (html["version"], npm["version"]) == (version, version)


def test_the_engine_is_pinned_by_version_and_checksum():
    lock = json.loads((ROOT / "runtime/web/package-lock.json").read_text("utf-8"))
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    needed = json.loads((ROOT / "runtime/web/package.json").read_text("utf-8"))["dependencies"]
    assert list(needed) == ["onnxruntime-web"]
    assert packages["node_modules/onnxruntime-web"]["version"] == needed["onnxruntime-web"]


SIZES = [
    *[
        (448, 448),
        (300, 500),
        (672, 448),
        (1, 1),
        (2, 3),
        (37, 500),
        (448, 447),
        (64, 64),
        (63, 65),
    ],
    *[(128, 32), (640, 480)],
]


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_pixels_are_resized_as_opencv_does_it(node, resize, tmp_path):
    random = np.random.default_rng(7)
    geometry = Geometry(height=64, width=80, resize=resize, crop_fraction=0.875)
    expected = []
    for number, (height, width) in enumerate(SIZES):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        pixels.tofile(tmp_path / f"{number}.in")
        expected.append(resize_image(pixels, geometry))
    node(
        """
        import { writeFileSync } from "node:fs";
        import { openPicture } from "./src/pictures.js";
        import { resizePicture } from "./src/resizing.js";
        for (const [number, [height, width]] of given.sizes.entries()) {
            const data = new Uint8Array(readFileSync(`${given.folder}/${number}.in`));
            const picture = await openPicture({ width, height, data });
            writeFileSync(`${given.folder}/${number}.out`, resizePicture(picture, given.geometry));
        }
        result = null;
        """,
        sizes=SIZES, folder=tmp_path, geometry=vars(geometry),
    )  # fmt: skip
    for number, pixels in enumerate(expected):
        found = np.fromfile(tmp_path / f"{number}.out", np.uint8).reshape(pixels.shape)
        difference = np.abs(found.astype(int) - pixels)
        assert difference.max() <= 1, SIZES[number]
        assert difference.mean() < 0.06, SIZES[number]


FEATURES, CLASSES, KEPT = 12, 3, 4
SHAPES = {
    "maximum_probability": {},
    "energy": {"weights": (FEATURES, CLASSES), "bias": (CLASSES,), "scale": ()},
    "mahalanobis": {
        "centre": (FEATURES,), "means": (CLASSES, FEATURES), "directions": (FEATURES, KEPT),
        "weights": (KEPT,), "rest": (), "scale": (),
    },
    "nearest_neighbour": {"neighbours": (20, FEATURES)},
}  # fmt: skip
SHAPES["normalised_mahalanobis"] = SHAPES["mahalanobis"]


def test_every_method_of_fic_runtime_is_tested_here():
    assert SHAPES.keys() == METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pooled", [True, False])
def test_scores_are_those_of_fic_runtime(node, method, pooled, tmp_path):
    random = np.random.default_rng(3)
    arrays = {
        name: np.asarray(random.normal(1, 0.5, shape), np.float16 if len(shape) > 1 else np.float32)
        for name, shape in SHAPES[method].items()
    }
    if "neighbours" in arrays:  # as in a file that was written column by column
        arrays["neighbours"] = np.asfortranarray(arrays["neighbours"])
    np.savez(tmp_path / "known.npz", **arrays)
    shape = (5, FEATURES) if pooled else (5, 2, 3, FEATURES)
    bottlenecks = random.normal(0, 1, shape).astype(np.float32)
    probabilities = random.dirichlet(np.ones(CLASSES), 5).astype(np.float32)
    made = METHODS[method](**{name: array.astype(np.float32) for name, array in arrays.items()})
    expected = OutOfDistribution(made, 0.0).score(bottlenecks, probabilities)
    scores = node(
        """
        import { readScore } from "./src/scores.js";
        const known = { method: given.method, file: given.file && "known.npz" };
        const base = { output: { shape: given.shape } };
        const manifest = { known, base, files: { "known.npz": "" } };
        const contents = new Map();
        if (given.file) contents.set("known.npz", new Uint8Array(readFileSync(given.file)));
        const score = await readScore({ place: "here", manifest, contents });
        result = given.bottlenecks.map((row, i) =>
            score(Float32Array.from(row), given.probabilities[i]));
        """,
        method=method, file=tmp_path / "known.npz" if arrays else None,
        shape=[None, *shape[1:]], bottlenecks=bottlenecks.reshape(5, -1).tolist(),
        probabilities=probabilities.tolist(),
    )  # fmt: skip
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_recorded_results_are_met_and_answers_are_those_of_fic_runtime(node, bundle):
    pixels = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    with Classifier(bundle, device="cpu") as classifier:
        expected = classifier.predict(pixels)
    found = node(
        """
        import { Classifier } from "fic-runtime-web/node";
        const classifier = await Classifier.open(given.bundle);
        const picture = { width: 70, height: 50, data: Uint8Array.from(given.pixels) };
        const { label, index, probabilities, known, score } = await classifier.predict(picture);
        const test = await classifier.selfTest();
        result = { label, index, probabilities: [...probabilities], known, score, test };
        """,
        bundle=bundle, pixels=pixels.ravel().tolist(),
    )  # fmt: skip
    assert found["test"]["passed"], found["test"]
    assert (found["label"], found["index"]) == (expected.label, expected.index)
    assert found["known"] is None
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=2e-3)


def test_recorded_scores_are_compared(node, cautious, tmp_path):
    """A wrong one fails the test, so that a right one means something."""
    bundle = Path(shutil.copytree(cautious, tmp_path / "bundle"))
    with np.load(bundle / "golden.npz") as recorded:
        arrays = dict(recorded)
    scores = 1 - arrays["probabilities"].max(axis=1)
    outcomes = []
    for right in (True, False):
        np.savez(bundle / "golden.npz", ood_scores=scores + (0 if right else 0.01), **arrays)
        values = json.loads((bundle / "manifest.json").read_text("utf-8"))
        values["files"]["golden.npz"] = digest(bundle / "golden.npz")
        (bundle / "manifest.json").write_text(json.dumps(values), encoding="utf-8")
        outcomes.append(
            node(
                """
                import { Classifier } from "fic-runtime-web/node";
                result = await (await Classifier.open(given.bundle)).selfTest();
                """,
                bundle=bundle,
            )
        )
    assert [each["passed"] for each in outcomes] == [True, False]
    assert outcomes[0]["scores"] < 1e-5


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def edited(how):
    def damage(bundle):
        values = json.loads((bundle / "manifest.json").read_text("utf-8"))
        how(values)
        (bundle / "manifest.json").write_text(json.dumps(values), encoding="utf-8")

    return damage


def cut_off(bundle):
    (bundle / "base.onnx").write_bytes((bundle / "base.onnx").read_bytes()[:-1])


def other_graph(bundle):
    """Exchange the domain of the first operator; its digest is right."""
    model = b"\x08\x08\x3a\x0c\x0a\x0a\x22\x03Foo\x3a\x03bar"
    (bundle / "head.onnx").write_bytes(model)
    edited(lambda values: values["files"].update({"head.onnx": digest(bundle / "head.onnx")}))(
        bundle
    )


DAMAGE = {
    "no manifest": lambda bundle: (bundle / "manifest.json").unlink(),
    "no JSON": lambda bundle: (bundle / "manifest.json").write_text("{"),
    "no UTF-8": lambda bundle: (bundle / "manifest.json").write_bytes(b'{"format": "\xff"}'),
    "a newer format": edited(lambda values: values.update(format=2)),
    "labels twice": edited(lambda values: values.update(labels=["a", "a", "b"])),
    "too few labels": edited(lambda values: values.update(labels=["a", "b"])),
    "an unknown rule": edited(lambda values: values["preprocessing"]["geometry"].update(gamma=2)),
    "an unknown resize": edited(
        lambda values: values["preprocessing"]["geometry"].update(resize="squeeze")
    ),
    "a path": edited(lambda values: values["files"].update({"../head.onnx": "0"})),
    "no checksum": edited(lambda values: values["files"].pop("head.onnx")),
    "a damaged graph": cut_off,
    "a missing graph": lambda bundle: (bundle / "head.onnx").unlink(),
    "another size": edited(lambda values: values["preprocessing"]["geometry"].update(height=31)),
    "custom operators": other_graph,
    "an unknown score": edited(
        lambda values: values.update(
            known={"method": "oracle", "threshold": 1, "file": None, "false_rejection": 0.05}
        )
    ),
    "other names": edited(lambda values: values["head"]["output"].update(name="answers")),
}


def open_all(node, places):
    """Open many bundles in one process, and return what became of each."""
    return node(
        """
        import { Classifier } from "fic-runtime-web/node";
        result = [];
        for (const place of given.places) {
            const opening = Classifier.open(place).then(() => null);
            result.push(await opening.catch(({ name, message }) => ({ name, message })));
        }
        """,
        places=places,
    )


@pytest.fixture(scope="module")
def refused(node, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    places = [
        Path(shutil.copytree(DATA / "explaining-bundle", folder / str(number)))
        for number in range(len(DAMAGE))
    ]
    for place, damage in zip(places, DAMAGE.values(), strict=True):
        damage(place)
    found = open_all(node, places)
    return dict(zip(DAMAGE, zip(places, found, strict=True), strict=True))


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_fic_runtime_refuses_is_refused_in_one_sentence(refused, damage):
    bundle, found = refused[damage]
    with pytest.raises(BundleError):
        Classifier(bundle, device="cpu")
    assert found["name"] == "BundleError"
    assert found["message"].startswith(str(bundle))
    assert "\n" not in found["message"]


def packed(folder, archive, method):
    with zipfile.ZipFile(archive, "w", method) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, file.name)
    return archive


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_opened_as_it_is(node, explaining, method, tmp_path):
    archive = packed(explaining, tmp_path / "bundle.zip", method)
    assert node(OPEN, bundle=archive)["labels"] == ["red", "green", "blue"]


def twice(archive):
    with pytest.warns(UserWarning), zipfile.ZipFile(archive, "a") as out:
        out.writestr("labels.txt", "red\n")


def in_a_folder(archive):
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr("bundle/labels.txt", "red\n")


def bomb(archive):
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(80 << 20))


def flipped(archive):
    data = bytearray(archive.read_bytes())
    data[data.index(b"class_weights") + 200] ^= 255
    archive.write_bytes(data)


ARCHIVES = {
    "cut off": lambda archive: archive.write_bytes(archive.read_bytes()[:-200]),
    "empty": lambda archive: archive.write_bytes(b""),
    "no archive": lambda archive: archive.write_bytes(b"PK" + bytes(100)),
    "two of one name": twice,
    "a folder inside": in_a_folder,
    "one that grows": bomb,
    "a flipped byte": flipped,
}


def test_a_damaged_archive_is_refused_in_one_sentence(node, explaining, tmp_path):
    archives = []
    for number, damage in enumerate(ARCHIVES.values()):
        archive = packed(explaining, tmp_path / f"{number}.zip", zipfile.ZIP_DEFLATED)
        damage(archive)
        archives.append(archive)
    for name, found in zip(ARCHIVES, open_all(node, archives), strict=True):
        assert found is not None, name
        assert found["name"] == "BundleError", name
        assert "\n" not in found["message"], name


def head_of(bundle, place, **changes):
    whole = open_bundle(bundle)
    files = head_files(whole.manifest, files_of_the_head(whole))
    values = json.loads(files["manifest.json"]) | changes
    place.mkdir()
    for name, data in (files | {"manifest.json": json.dumps(values).encode()}).items():
        (place / name).write_bytes(data)
    return place


def test_a_head_answers_on_the_base_that_it_was_made_for(node, explaining, tmp_path):
    head = head_of(explaining, tmp_path / "head", labels=["rot", "grün", "blau"])
    assert node(OPEN, bundle=explaining, head=head)["labels"] == ["rot", "grün", "blau"]


def test_a_head_for_another_base_is_refused(node, explaining, tmp_path):
    head = head_of(DATA / "bundle-v1", tmp_path / "head")
    found = node(OPEN, bundle=explaining, head=head)
    assert "is a head for the base" in found["error"]


def test_a_head_alone_says_that_it_needs_its_base(node, explaining, tmp_path):
    found = node(OPEN, bundle=head_of(explaining, tmp_path / "head"))
    assert found["name"] == "HeadOnlyError"


def test_digests_are_those_of_every_length_of_the_last_block(node):
    found = node(
        """
        import { crc32, sha256, sha256InPlainScript } from "./src/digests.js";
        result = [];
        for (let length = 0; length < 200; length++) {
            const bytes = Uint8Array.from({ length }, (_, i) => (i * 7) & 255);
            const plain = Buffer.from(sha256InPlainScript(bytes)).toString("hex");
            result.push([plain, await sha256(bytes), crc32(bytes)]);
        }
        """
    )
    for length, (plain, native, _) in enumerate(found):
        data = bytes(i * 7 & 255 for i in range(length))
        assert plain == native == hashlib.sha256(data).hexdigest()
    assert found[9][2] == zlib.crc32(bytes(i * 7 for i in range(9)))


def test_no_float_is_taken_for_a_picture(node, explaining):
    found = node(
        """
        import { Classifier } from "fic-runtime-web/node";
        const classifier = await Classifier.open(given.bundle);
        result = [];
        for (const picture of [
            null, {}, new Blob([]), { width: 2, height: 2, data: new Float32Array(12) },
            { width: 0, height: 2, data: new Uint8Array(0) },
            { width: 2, height: 2, data: new Uint8Array(5) },
        ]) {
            result.push(await classifier.predict(picture).catch((error) => error.name));
        }
        """,
        bundle=explaining,
    )
    assert found == ["ImageError"] * 6


def test_half_floats_are_read_exactly(node, tmp_path):
    bits = np.arange(0, 2**16, 7, np.uint16)
    values = bits.view(np.float16)
    values = values[np.isfinite(values)]
    np.savez(tmp_path / "half.npz", values=values)
    found = node(
        """
        import { readArrays } from "./src/arrays.js";
        const arrays = await readArrays(new Uint8Array(readFileSync(given.file)));
        result = [...arrays.values.data];
        """,
        file=tmp_path / "half.npz",
    )
    packed_values = struct.pack(f"<{len(values)}f", *found)
    assert packed_values == values.astype("<f4").tobytes()
