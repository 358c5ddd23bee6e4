"""A head apart from its base: only on the very base that it was made for, and never half of two."""

import io
import json
import shutil
import struct
import threading
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest

from fic_runtime import BundleError, Classifier
from fic_runtime.bundle import file_digest, open_bundle
from fic_runtime.head_bundles import files_of_the_head, head_files, head_golden
from fic_runtime.selftest import run_selftest

BIAS = struct.pack("<f", 0.1234567)  # of the head's first label; see make_bundle.py
LABELS = ("eins", "zwei", "drei")


@pytest.fixture(scope="session")
def make_head(golden):
    """Return a function that writes a head-only bundle for the golden one's base.

    The bias of its first label is `bias`: at 9 it always gives that label, at -9 never.
    """

    def write(place, *, bias=0.1234567, labels=LABELS, **changes):
        whole = open_bundle(golden)
        graph = whole.files.read("head.onnx")
        assert graph.count(BIAS) == 1
        files = files_of_the_head(whole) | {
            "head.onnx": graph.replace(BIAS, struct.pack("<f", bias)),
            "labels.txt": "".join(f"{label}\n" for label in labels).encode(),
        }
        files = head_files(replace(whole.manifest, labels=tuple(labels), **changes), files)
        if place.suffix == ".zip":
            with ZipFile(place, "w") as archive:
                for name, data in files.items():
                    archive.writestr(name, data)
        else:
            place.mkdir(parents=True)
            for name, data in files.items():
                (place / name).write_bytes(data)
        return place

    return write


@pytest.fixture(scope="module")
def head(make_head, tmp_path_factory):
    """Return a head-only bundle that always gives the first of its labels."""
    return make_head(tmp_path_factory.mktemp("heads") / "head", bias=9)


@pytest.fixture(scope="module")
def photo(golden):
    return golden / "large.png"


@pytest.mark.parametrize("name", ["head", "head.zip"])
def test_a_head_gives_its_own_answers_on_the_base_of_the_bundle(
    name, make_head, golden, photo, tmp_path
):
    place = make_head(tmp_path / name, bias=9)
    with Classifier(golden) as own, Classifier(golden, head=place) as other:
        assert own.predict(photo).label == "Sonnenblume, groß"
        assert other.labels == other.manifest.labels == LABELS
        assert (other.predict(photo).label, other.predict(photo).labels) == ("eins", LABELS)
        np.testing.assert_array_equal(own.extract([photo]), other.extract([photo]))


def test_the_same_head_apart_gives_the_same_to_the_bit(make_head, golden, photo, tmp_path):
    place = make_head(tmp_path / "head")
    with Classifier(golden) as own, Classifier(golden, head=place) as apart:
        np.testing.assert_array_equal(
            own.predict(photo).probabilities, apart.predict(photo).probabilities
        )


def test_a_whole_bundle_may_be_the_head(bundle, replace, golden, photo):
    data = (bundle / "head.onnx").read_bytes()
    replace("head.onnx", data.replace(BIAS, struct.pack("<f", 9)))
    with Classifier(golden, head=bundle) as classifier:
        assert classifier.predict(photo).label == "daisy"


def test_a_head_has_no_file_of_the_base_and_some_kilobytes(head):
    assert sorted(path.name for path in head.iterdir()) == [
        *("README.md", "golden.npz", "head.onnx", "labels.txt", "manifest.json"),
    ]
    assert sum(path.stat().st_size for path in head.iterdir()) < 8192
    manifest = open_bundle(head).manifest
    assert manifest.head_only
    assert manifest.base_files.keys() == {"base.onnx"}


def test_a_head_alone_says_what_it_needs(head):
    with pytest.raises(
        BundleError, match=r"is a head without its base .*Classifier\(BUNDLE, head="
    ):
        Classifier(head)
    with pytest.raises(BundleError, match="is a head without its base"):
        Classifier(head, head=head)


def test_a_head_of_another_base_is_refused_with_both_digests(make_head, golden, tmp_path):
    files = open_bundle(golden).manifest.files | {"base.onnx": "abcdef" + "0" * 58}
    place = make_head(tmp_path / "other", files=files)
    found = file_digest(golden / "base.onnx")[:12]
    with pytest.raises(
        BundleError,
        match=rf"other: is a head for the base abcdef000000, and .* {found}; .*--head-only --base",
    ):
        Classifier(golden, head=place)


def test_weights_beside_the_graph_of_the_base_count_too(make_head, golden, tmp_path):
    files = {**open_bundle(golden).manifest.files, "base.onnx.data": "1" * 64}
    place = make_head(tmp_path / "other", files=files)
    assert open_bundle(place).manifest.base_files.keys() == {"base.onnx", "base.onnx.data"}
    with pytest.raises(BundleError, match=r"for the base .{12}\+1{12}, and"):
        Classifier(golden, head=place)


@pytest.mark.parametrize("name", ["geometry", "base"])
def test_a_head_for_other_pixels_is_refused(name, make_head, golden, tmp_path):
    manifest = open_bundle(golden).manifest
    preprocessing, spec = manifest.preprocessing, manifest.base
    if name == "geometry":
        geometry = replace(preprocessing.geometry, resize="pad")
        changes = {"preprocessing": replace(preprocessing, geometry=geometry)}
    else:
        changes = {"base": replace(spec, input=replace(spec.input, name="x"))}
    place = make_head(tmp_path / "other", **changes)
    with pytest.raises(BundleError, match=r"other: its (preprocessing|names) .* not those of"):
        Classifier(golden, head=place)


def test_a_changed_byte_of_a_head_is_found(head, golden, tmp_path):
    shutil.copytree(head, tmp_path / "head")
    data = bytearray((tmp_path / "head/head.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "head/head.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"head\.onnx: does not match its checksum"):
        Classifier(golden, head=tmp_path / "head")


def test_a_graph_cannot_pass_for_a_file_of_the_base(head, golden, tmp_path):
    """Else nobody would look at its digest."""
    shutil.copytree(head, tmp_path / "head")
    file = tmp_path / "head/manifest.json"
    file.write_text(file.read_text("utf-8").replace("head.onnx", "base.onnx.head"), "utf-8")
    with pytest.raises(BundleError, match=r"base\.onnx\.head cannot be a file of the base"):
        Classifier(golden, head=tmp_path / "head")


@pytest.mark.parametrize("value", [1, "yes", None])
def test_head_only_is_true_or_false(value, bundle, edit):
    edit(lambda values: values.update(head_only=value))
    with pytest.raises(BundleError, match="should be true or false"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"head.onnx": b"", "manifest.json": b""},
        {"head.onnx": b"", "base.onnx": b""},
        {"head.onnx": b"", "base.onnx.data": b""},
    ],
)
def test_files_that_make_no_head_are_a_slip(files, golden):
    with pytest.raises(ValueError, match=r"are needed|holds no such file"):
        head_files(open_bundle(golden).manifest, files)


# --- the self-test --------------------------------------------------------------------------------


def test_base_and_head_pass_the_self_test_together(make_head, golden, tmp_path):
    result = run_selftest(golden, head=make_head(tmp_path / "head"), device="cpu")
    assert result.passed
    assert result.pictures == 3


def test_a_changed_weight_of_the_head_fails(head, golden):
    result = run_selftest(golden, head=head, device="cpu")
    assert not result.passed
    assert result.bottlenecks < 1e-5


def test_the_recorded_results_of_a_head_come_without_pictures(head, golden):
    with np.load(golden / "golden.npz") as arrays:
        made = head_golden(arrays["bottlenecks"], arrays["probabilities"])
    with np.load(io.BytesIO(made["golden.npz"])) as arrays:
        assert sorted(arrays.files) == ["bottlenecks", "probabilities"]
    assert (head / "golden.npz").read_bytes() == made["golden.npz"]


def test_a_head_without_recorded_results_says_so(head, golden, tmp_path):
    shutil.copytree(head, tmp_path / "head")
    values = json.loads((head / "manifest.json").read_text("utf-8"))
    del values["files"]["golden.npz"]
    (tmp_path / "head/manifest.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(BundleError, match=r"head: has no golden\.npz to compare with"):
        run_selftest(golden, head=tmp_path / "head")


# --- swapping -------------------------------------------------------------------------------------


def test_a_swapped_head_answers_from_then_on(head, golden, photo):
    with Classifier(golden) as classifier:
        classifier.swap_head(head)
        assert classifier.predict(photo).label == "eins"
        assert classifier.labels == classifier.manifest.labels == LABELS
        classifier.swap_head(golden)
        assert classifier.predict(photo).label == "Sonnenblume, groß"


def test_a_head_that_cannot_be_used_leaves_the_old_one(golden, photo, tmp_path):
    with Classifier(golden) as classifier:
        with pytest.raises(BundleError, match=r"no manifest\.json there"):
            classifier.swap_head(tmp_path)
        assert classifier.predict(photo).label == "Sonnenblume, groß"


def test_a_closed_classifier_stays_closed(head, golden):
    classifier = Classifier(golden)
    classifier.close()
    with pytest.raises(ValueError, match="this classifier is closed"):
        classifier.swap_head(head)


def test_no_prediction_is_of_two_heads_while_another_thread_swaps_them(
    make_head, golden, photo, tmp_path
):
    """Each head has labels and a first probability that the others never have."""
    biases = {"a": -9, "b": 0, "c": 2, "d": 9}
    places = [
        make_head(tmp_path / name, bias=bias, labels=[f"{name}{number}" for number in range(3)])
        for name, bias in biases.items()
    ]
    alone = {}
    for name, place in zip(biases, places, strict=True):
        with Classifier(golden, head=place, device="cpu", threads=1) as classifier:
            alone[name] = classifier.predict(photo).probabilities
    found: list[str] = []
    mixed: list[object] = []
    done = threading.Event()

    def predict(classifier):
        while not done.is_set():
            for answer in [classifier.predict(photo), *classifier.predict_batch([photo, photo])]:
                name = answer.labels[0][0]
                found.append(name)
                same = np.allclose(answer.probabilities, alone[name], atol=1e-5)
                if not same or answer.label != answer.labels[answer.index]:
                    mixed.append(answer)

    with Classifier(golden, head=places[0], device="cpu", threads=1) as classifier:
        threads = [threading.Thread(target=predict, args=(classifier,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(300):
            classifier.swap_head(places[number % 4])
        done.set()
        for thread in threads:
            thread.join()
    assert not mixed
    assert set(found) == set(biases)
