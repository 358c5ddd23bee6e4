"""A head apart from its base: only on the very base that it was made for, and never half of two."""

import csv
import io
import json
import re
import shutil
import struct
import threading
from dataclasses import replace

import numpy as np
import pytest

from fic_runtime import BundleError, Classifier, ImageError, MultiClassifier
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.head_only import head_files, head_golden
from fic_runtime.bundle.opening import file_digest
from fic_runtime.classifier import ServedBase
from fic_runtime.diagnostics.selftest import run_selftest

LABELS = ("eins", "zwei", "drei")


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
    bias = struct.pack("<f", 0.1234567)  # of the first label; see make_bundle.py
    data = (bundle / "head.onnx").read_bytes()
    replace("head.onnx", data.replace(bias, struct.pack("<f", 9)))
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


@pytest.mark.parametrize(
    ("name", "says"),
    [("geometry", "preprocessing is not that"), ("base", "names and shapes of .* are not those")],
)
def test_a_head_for_other_pixels_is_refused(name, says, make_head, golden, tmp_path):
    manifest = open_bundle(golden).manifest
    preprocessing, spec = manifest.preprocessing, manifest.base
    if name == "geometry":
        geometry = replace(preprocessing.geometry, resize="pad")
        changes = {"preprocessing": replace(preprocessing, geometry=geometry)}
    else:
        changes = {"base": replace(spec, input=replace(spec.input, name="x"))}
    place = make_head(tmp_path / "other", **changes)
    with pytest.raises(BundleError, match=rf"other: its {says} of .*bundle-v1.*--head-only"):
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
    file.write_text(file.read_text("utf-8").replace("head.onnx", "base.onnx.head.onnx"), "utf-8")
    with pytest.raises(BundleError, match=r"base\.onnx\.head\.onnx cannot be a file of the base"):
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


# --- many heads -----------------------------------------------------------------------------------


@pytest.fixture
def two(make_head, tmp_path):
    """Return a head-only folder that always says `ripe`, and an archive with other labels."""
    return (
        make_head(tmp_path / "ripeness", bias=9, labels=["ripe", "green", "rotten"]),
        make_head(tmp_path / "pests.zip", bias=-9, labels=["none", "few", "many"]),
    )


def test_every_head_answers_with_its_own_labels_as_it_does_alone(two, golden, photo):
    with MultiClassifier(golden, [*two, golden]) as classifier:
        found = classifier.predict(photo)
        assert list(found) == list(classifier.labels) == ["ripeness", "pests", golden.name]
        assert classifier.labels["pests"] == ("none", "few", "many")
        assert classifier.manifests["ripeness"].head_only
        for (name, answer), place in zip(found.items(), [*two, golden], strict=True):
            with Classifier(golden, head=place) as alone:
                expected = alone.predict(photo)
            assert (answer.label, answer.labels) == (expected.label, classifier.labels[name])
            np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
    assert found["ripeness"].label == "ripe"
    assert found["pests"].label != "none"


def test_a_batch_gives_each_picture_the_answers_that_it_gets_alone(two, golden):
    pictures = [golden / f"{name}.png" for name in ("large", "small", "wide")]
    with MultiClassifier(golden, two) as classifier:
        batch = classifier.predict_batch(iter(pictures), batch_size=2)
        for answers, picture in zip(batch, pictures, strict=True):
            alone = classifier.predict(picture)
            assert answers.keys() == alone.keys() == {"ripeness", "pests"}
            for name, answer in answers.items():
                near = {"rtol": 0, "atol": 1e-6}
                np.testing.assert_allclose(answer.probabilities, alone[name].probabilities, **near)
        assert classifier.predict_batch([]) == []
        with pytest.raises(ImageError, match=r"picture 2: .*no such file"):
            classifier.predict_batch([*pictures[:2], "gone.png"], batch_size=1)


def test_the_base_runs_once_for_all_heads(two, golden, photo, monkeypatch):
    runs = []
    run = ServedBase.run
    monkeypatch.setattr(ServedBase, "run", lambda *given: runs.append(1) or run(*given))
    with MultiClassifier(golden, two) as classifier:
        assert len(classifier.predict(photo)) == 2
    assert len(runs) == 1


def test_heads_may_be_named(two, golden, photo):
    with MultiClassifier(golden, {"a": two[0], "b": two[0]}) as classifier:
        assert list(classifier.predict(photo)) == ["a", "b"]


def test_two_heads_of_one_name_are_refused(two, golden):
    with pytest.raises(BundleError, match="a head called 'ripeness' is there already, from"):
        MultiClassifier(golden, [two[0], two[0]])


def test_heads_come_and_go(two, golden, photo):
    with MultiClassifier(golden) as classifier:
        assert classifier.predict(photo) == {}
        classifier.attach(two[0])
        classifier.attach(two[1], "bugs")
        assert list(classifier.predict(photo)) == ["ripeness", "bugs"]
        classifier.attach(two[0], "bugs", replace=True)
        assert classifier.predict(photo)["bugs"].label == "ripe"
        classifier.detach("ripeness")
        assert list(classifier.predict(photo)) == ["bugs"]
        with pytest.raises(ValueError, match="no head is called 'ripeness'; there are: bugs"):
            classifier.detach("ripeness")


def test_a_head_of_another_base_cannot_be_attached(make_head, golden, photo, tmp_path):
    files = {**open_bundle(golden).manifest.files, "base.onnx": "0" * 64}
    place = make_head(tmp_path / "other", files=files)
    with MultiClassifier(golden) as classifier:
        with pytest.raises(BundleError, match="is a head for the base 000000000000, and"):
            classifier.attach(place)
        assert classifier.predict(photo) == {}


def test_one_text_is_no_list_of_heads(two, golden):
    with pytest.raises(TypeError, match="heads is a list of bundles or a mapping"):
        MultiClassifier(golden, str(two[0]))


def test_a_closed_classifier_of_many_heads_says_so(two, golden, photo):
    classifier = MultiClassifier(golden, two)
    classifier.close()
    with pytest.raises(ValueError, match="this classifier is closed"):
        classifier.predict(photo)


def test_heads_are_whole_while_another_thread_replaces_them(two, golden, photo):
    """Both heads go by one name in turn; `ripe` must never come with the other's labels."""
    wrong: list[object] = []
    done = threading.Event()

    def predict(classifier):
        while not done.is_set():
            answers = classifier.predict(photo)
            if not {"a"} <= answers.keys() <= {"a", "b"}:
                wrong.append(answers)
            for answer in answers.values():
                ripe = answer.labels[0] == "ripe"
                if ripe != (answer.index == 0) or answer.label != answer.labels[answer.index]:
                    wrong.append(answer)

    with MultiClassifier(golden, {"a": two[0]}, device="cpu", threads=1) as classifier:
        threads = [threading.Thread(target=predict, args=(classifier,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(100):
            classifier.attach(two[number % 2], "a", replace=True)
            classifier.attach(two[1], "b")
            classifier.detach("b")
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong


# --- on the command line --------------------------------------------------------------------------


def test_one_head_answers_as_if_it_were_the_bundles_own(run, two, golden, photo):
    code, out, err = run("predict", golden, photo, "--head", two[0])
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{photo}\tripe 0\.\d{{4}}\n", out)


def test_many_heads_have_a_line_each(run, two, golden, photo):
    _, out, _ = run("predict", golden, photo, "--head", two[0], "--head", f"bugs={two[1]}")
    first, second = (line.split("\t") for line in out.splitlines())
    assert first[:2] == [str(photo), "ripeness"]
    assert second[:2] == [str(photo), "bugs"]
    assert first[2].startswith("ripe 0.")


def test_a_head_with_a_name_is_told_apart_even_alone(run, two, golden, photo):
    _, out, _ = run("predict", golden, photo, "--head", f"fruit={two[0]}", "--json")
    answer = json.loads(out)
    assert answer["file"] == str(photo)
    assert answer["heads"].keys() == {"fruit"}
    assert answer["heads"]["fruit"].keys() == {"label", "index", "probability", "top"}


def test_a_path_with_an_equals_sign_is_no_name(run, make_head, golden, photo, tmp_path):
    place = make_head(tmp_path / "a=b", bias=9)
    _, out, _ = run("predict", golden, photo, "--head", place)
    assert "\teins 0." in out


def test_a_table_has_a_row_for_each_head_and_one_for_an_error(run, two, golden, photo):
    heads = ("--head", two[0], "--head", two[1])
    code, out, _ = run("predict", golden, photo, "gone.png", *heads, "--csv", "--top-k", 2)
    columns, *rows = csv.reader(out.splitlines())
    assert code == 1
    assert columns == [
        *("file", "head", "label", "probability", "label_2", "probability_2", "error"),
    ]
    assert [row[1] for row in rows] == ["ripeness", "pests", ""]
    assert rows[0][2] == "ripe"
    assert "no such file" in rows[2][-1]


def test_an_error_in_json_stands_where_the_heads_would(run, two, golden):
    code, out, _ = run("predict", golden, "gone.png", "--head", f"a={two[0]}", "--json")
    assert code == 1
    assert json.loads(out).keys() == {"file", "error"}


@pytest.mark.parametrize("command", ["predict", "selftest"])
def test_a_head_on_the_wrong_base_is_one_line(command, run, make_head, golden, photo, tmp_path):
    files = {**open_bundle(golden).manifest.files, "base.onnx": "0" * 64}
    place = make_head(tmp_path / "other", files=files)
    pictures = [photo] if command == "predict" else []
    code, out, err = run(command, golden, *pictures, "--head", place)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"fic-runtime: .*other: is a head for the base 0{12}, and [^\n]*\n", err)


def test_the_self_test_takes_a_head(run, make_head, head, golden, tmp_path):
    assert run("selftest", golden, "--head", make_head(tmp_path / "head"))[0] == 0
    assert run("selftest", golden, "--head", head)[0] == 3


def test_info_says_that_a_bundle_is_a_head_only(run, head):
    code, out, _ = run("info", head)
    assert code == 0
    assert out.startswith("head only ")
    assert re.search(r"^base\.onnx +not in here: the base is [0-9a-f]{64}$", out, re.MULTILINE)
    assert json.loads(run("info", head, "--json")[1])["head_only"] is True
