"""Pictures of every kind in, the same answers out, however they are asked for."""

import json
import shutil
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from fic_runtime import (
    BundleError,
    Classifier,
    ImageError,
    MultiClassifier,
    Prediction,
    Score,
)
from fic_runtime.graphs.graph import Graph
from fic_runtime.images import load_image, read_image

LABELS = ("daisy", "Sonnenblume, groß", "バラ の花")


@pytest.fixture(scope="module")
def classifier(golden):
    with Classifier(golden, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def photo(golden):
    return golden / "large.png"


@pytest.fixture(scope="module")
def pictures(golden):
    return [golden / f"{name}.png" for name in ("large", "small", "wide", "grey")]


def row(prediction):
    return prediction.probabilities.tolist()


KINDS = {
    "path": lambda path: path,
    "text": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "rgb array": read_image,
    "rgba array": lambda path: np.dstack([read_image(path), np.full((90, 70), 9, np.uint8)]),
    "array with gaps": lambda path: np.repeat(read_image(path), 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_gets_the_same_answer(kind, classifier, photo):
    assert row(classifier.predict(KINDS[kind](photo))) == row(classifier.predict(photo))


@pytest.mark.parametrize("shape", [(60, 60), (60, 60, 1)])
def test_grey_array_gets_the_answer_of_its_file(shape, classifier, golden):
    grey = cv2.imread(str(golden / "grey.png"), cv2.IMREAD_GRAYSCALE).reshape(shape)
    assert row(classifier.predict(grey)) == row(classifier.predict(golden / "grey.png"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pillow_image_gets_the_answer_of_its_file(mode, classifier, photo):
    image = pytest.importorskip("PIL.Image")
    with image.open(photo) as opened:
        assert row(classifier.predict(opened.convert(mode))) == row(classifier.predict(photo))


def test_bgr_is_for_arrays_only(golden, photo):
    pixels = cv2.imread(str(photo))
    with Classifier(golden, channel_order="bgr") as bgr:
        assert row(bgr.predict(pixels)) == row(bgr.predict(photo))
        assert row(bgr.predict(pixels)) != row(bgr.predict(pixels[..., ::-1]))


def test_unknown_channel_order_is_a_slip(golden):
    with pytest.raises(ValueError, match="channel_order is 'rgb' or 'bgr'; received 'grb'"):
        Classifier(golden, channel_order="grb")


def test_the_input_is_never_changed(classifier, photo):
    pixels = read_image(photo)
    before = pixels.copy()
    classifier.predict(pixels)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 32])
def test_batches_answer_in_order_whatever_their_size(batch_size, classifier, pictures):
    one_by_one = [row(classifier.predict(picture)) for picture in pictures]
    together = classifier.predict_batch(pictures, batch_size)
    np.testing.assert_allclose([row(each) for each in together], one_by_one, rtol=0, atol=1e-6)


def test_run_is_predict_without_the_pictures(classifier, pictures):
    geometry = classifier.manifest.preprocessing.geometry
    pixels = np.stack([load_image(picture, geometry) for picture in pictures])
    bottlenecks, probabilities = classifier.run(pixels)
    expected = [row(each) for each in classifier.predict_batch(pictures, len(pictures))]
    np.testing.assert_array_equal(probabilities, expected)
    np.testing.assert_array_equal(bottlenecks, classifier.extract(pictures, len(pictures)))
    np.testing.assert_array_equal(classifier.probabilities(bottlenecks), probabilities)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_extract_gives_one_bottleneck_a_picture(batch_size, classifier, pictures):
    bottlenecks = classifier.extract(pictures, batch_size)
    assert (bottlenecks.dtype, bottlenecks.shape) == (np.float32, (4, 12))
    np.testing.assert_allclose(bottlenecks[2], classifier.extract([pictures[2]])[0], atol=1e-6)


@pytest.fixture(scope="module")
def with_two_threads(golden):
    with Classifier(golden, device="cpu", threads=2) as opened:
        yield opened


@pytest.mark.parametrize("number", [1, 2, 40])
def test_by_default_a_batch_has_the_answers_of_predict_to_the_bit(
    number, with_two_threads, pictures
):
    wanted = [pictures[each % len(pictures)] for each in range(number)]
    expected = [row(with_two_threads.predict(each)) for each in wanted]
    assert [row(each) for each in with_two_threads.predict_batch(wanted)] == expected
    np.testing.assert_array_equal(
        with_two_threads.extract(wanted),
        np.concatenate([with_two_threads.extract([each], 1) for each in wanted]),
    )


def test_what_an_iterator_gives_may_change_when_the_next_is_asked_for(
    with_two_threads, photo, tmp_path
):
    frame, other = np.empty((30, 40, 3), np.uint8), tmp_path / "taken.png"

    def source():
        assert threading.current_thread() is threading.main_thread()
        for number in range(12):
            frame[...] = 20 * number
            yield frame
            shutil.copy(photo, other)
            yield other
            other.unlink()
            with photo.open("rb") as file:
                yield file

    rows = [row(each) for each in with_two_threads.predict_batch(source())]
    expected = [
        row(with_two_threads.predict(each))
        for number in range(12)
        for each in (np.full((30, 40, 3), 20 * number, np.uint8), photo, photo)
    ]
    assert rows == expected


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_the_first_picture_at_fault_is_named_by_many_threads(kind, with_two_threads, photo):
    images = [*[photo] * 20, b"no picture", photo, b"nor this", *[photo] * 20]
    with pytest.raises(ImageError, match=r"^picture 20: .*not a picture"):
        with_two_threads.predict_batch(kind(images))
    assert not [each for each in threading.enumerate() if each.name.startswith("fic-batch")]


def test_no_pictures_no_answers(classifier):
    assert classifier.predict_batch([]) == []
    assert classifier.extract([]).shape == (0, 12)


def test_pictures_may_come_one_by_one_without_end_in_sight(classifier, photo):
    assert len(classifier.predict_batch((photo for _ in range(5)), 2)) == 5


def test_an_array_of_pictures_is_a_list_of_them(classifier, photo):
    pixels = read_image(photo)
    answers = classifier.predict_batch(np.stack([pixels, pixels[::-1]]))
    assert [row(each) for each in answers] == [
        pytest.approx(row(classifier.predict(each)), abs=1e-6) for each in (pixels, pixels[::-1])
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_one_picture_in_place_of_a_list_is_a_slip(kind, classifier, photo):
    with pytest.raises(TypeError, match=r"for one picture use predict\(\)"):
        classifier.predict_batch(KINDS[kind](photo))


def test_one_pillow_image_in_place_of_a_list_is_a_slip(classifier, photo):
    image = pytest.importorskip("PIL.Image")
    with image.open(photo) as opened, pytest.raises(TypeError, match="for one picture use"):
        classifier.predict_batch(opened)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_one_is_a_slip(batch_size, classifier, photo):
    with pytest.raises(ValueError, match="batch_size is at least 1"):
        classifier.predict_batch([photo], batch_size)


def test_the_picture_at_fault_is_named(classifier, photo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"^picture 1: .*broken\.jpg: not a picture"):
        classifier.predict_batch([photo, tmp_path / "broken.jpg", photo])
    with pytest.raises(ImageError, match=r"^picture 2: an image array is uint8"):
        classifier.extract([photo, photo, np.zeros((4, 4, 3))])


def test_a_prediction_names_the_most_probable_label(classifier, photo):
    prediction = classifier.predict(photo)
    assert prediction.index == int(np.argmax(prediction.probabilities)) == 1
    assert prediction.label == LABELS[1]
    assert prediction.probability == pytest.approx(max(row(prediction)))
    assert prediction.probabilities.dtype == np.float32
    assert sum(row(prediction)) == pytest.approx(1)


def test_the_numbers_are_those_of_python_where_they_are_single(classifier, photo):
    prediction = classifier.predict(photo)
    assert (type(prediction.index), type(prediction.probability)) == (int, float)
    assert [type(value) for value in (prediction.top(1)[0].index,)] == [int]


def test_top_is_sorted_and_no_longer_than_the_labels(classifier, photo):
    prediction = classifier.predict(photo)
    top = prediction.top(99)
    assert [each.label for each in top] == [LABELS[1], LABELS[2], LABELS[0]]
    assert top == sorted(top, key=lambda each: -each.probability)
    assert prediction.top(2) == top[:2]
    assert top[0] == Score(prediction.label, prediction.index, prediction.probability)


@pytest.mark.parametrize("k", [0, -1])
def test_top_of_less_than_one_is_a_slip(k, classifier, photo):
    with pytest.raises(ValueError, match="k is at least 1"):
        classifier.predict(photo).top(k)


def test_ties_keep_the_order_of_the_labels():
    prediction = Prediction.from_probabilities(
        np.array([0.2, 0.3, 0.2, 0.3], np.float32), ("a", "b", "c", "d")
    )
    assert (prediction.label, [each.label for each in prediction.top(4)]) == (
        "b",
        ["b", "d", "a", "c"],
    )


def test_to_dict_is_ready_for_json(classifier, photo):
    prediction = classifier.predict(photo)
    values = json.loads(json.dumps(prediction.to_dict()))
    assert values["label"] == LABELS[1]
    assert values["index"] == 1
    assert list(values["probabilities"]) == list(LABELS)
    assert values["probabilities"][LABELS[1]] == values["probability"] == prediction.probability


def test_a_prediction_shows_what_matters_and_can_be_compared(classifier, photo):
    first, second = classifier.predict(photo), classifier.predict(photo)
    assert first == second
    assert len({first, second}) == 1
    assert repr(first).startswith("Prediction(label='Sonnenblume, groß', index=1, probability=0.")


def test_a_classifier_says_what_it_is(classifier):
    assert classifier.labels == LABELS == classifier.manifest.labels
    assert classifier.provider == "CPUExecutionProvider"
    assert classifier.manifest.preprocessing.geometry.width == 40
    assert repr(classifier) == "<Classifier 3 labels, tiny>"


def test_the_bundle_may_be_given_as_text(golden, photo):
    with Classifier(str(golden)) as opened:
        assert opened.predict(str(photo)).index == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_answer(threads, golden, photo, classifier):
    with Classifier(golden, threads=threads) as other:
        np.testing.assert_allclose(
            row(other.predict(photo)), row(classifier.predict(photo)), rtol=0, atol=1e-6
        )


def test_one_classifier_serves_many_threads(classifier, pictures):
    expected = [row(classifier.predict(picture)) for picture in pictures]
    start = threading.Barrier(8)

    def ask(number):
        start.wait()
        return [row(classifier.predict(each)) for each in pictures * 5][number % 4 :: 4]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    for number, rows in enumerate(answers):
        np.testing.assert_allclose(rows, [expected[number % 4]] * 5, rtol=0, atol=1e-6)


USES = {
    "predict": lambda classifier, photo: classifier.predict(photo),
    "predict_batch": lambda classifier, photo: classifier.predict_batch([photo]),
    "extract": lambda classifier, photo: classifier.extract([photo]),
    "run": lambda classifier, _: classifier.run(np.zeros((1, 32, 40, 3), np.uint8)),
    "probabilities": lambda classifier, _: classifier.probabilities(np.zeros((1, 12), "f4")),
    "provider": lambda classifier, _: classifier.provider,
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_classifier_says_so(use, golden, photo):
    with Classifier(golden) as closed:
        pass
    with pytest.raises(ValueError, match="this classifier is closed; make a new one"):
        USES[use](closed, photo)


def test_closing_twice_does_no_harm(golden):
    classifier = Classifier(golden)
    classifier.close()
    classifier.close()
    assert classifier.labels == LABELS


def test_the_block_of_a_classifier_hides_no_error(golden):
    with pytest.raises(BundleError, match="mine"), Classifier(golden):
        raise BundleError("mine")


def test_the_files_may_go_once_a_classifier_is_open(bundle, photo):
    classifier = Classifier(bundle)
    for file in bundle.iterdir():
        file.unlink()
    assert classifier.predict(photo).index == 1


class TestNotFinite:
    """A base may give infinite values, or none at all, for some pictures: those have no answer."""

    @pytest.fixture
    def classifier(self, golden, monkeypatch):
        run = Graph.run_outputs

        def without_dark_pictures(self, batch, names):
            outputs = run(self, batch, names)
            if batch.dtype == np.uint8:  # the base
                outputs = [np.array(output) for output in outputs]
                dark = batch.reshape(len(batch), -1).max(axis=1) == 0
                for output in outputs:
                    output[dark] = self.value
            return outputs

        monkeypatch.setattr(Graph, "run_outputs", without_dark_pictures)
        monkeypatch.setattr(Graph, "value", np.nan, raising=False)
        with Classifier(golden, device="cpu") as opened:
            yield opened

    DARK = np.zeros((40, 40, 3), np.uint8)
    FAULT = "the base gives no finite values for it"

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_it_is_the_error_of_that_picture(self, classifier, photo, monkeypatch, value):
        monkeypatch.setattr(Graph, "value", value)
        with pytest.raises(ImageError, match=self.FAULT):
            classifier.predict(self.DARK)
        for ask in (classifier.predict_batch, classifier.extract):
            with pytest.raises(ImageError, match=f"picture 2: {self.FAULT}"):
                ask([photo, photo, self.DARK], batch_size=2)

    @pytest.mark.parametrize("batch_size", [None, 2])
    @pytest.mark.parametrize("stream", ["stream", "extract_stream"])
    def test_a_stream_goes_on_with_the_next_picture(self, classifier, photo, stream, batch_size):
        ask = getattr(classifier, stream)
        found = list(ask([photo, self.DARK, photo], batch_size, on_error="yield"))
        assert [isinstance(answer, ImageError) for answer in found] == [False, True, False]
        with pytest.raises(ImageError, match=f"picture 1: {self.FAULT}"):
            list(ask([photo, self.DARK, photo], batch_size))

    def test_several_heads_have_no_answer_either(self, golden, photo, classifier):
        with MultiClassifier(golden, [golden], device="cpu") as several:
            with pytest.raises(ImageError, match=self.FAULT):
                several.predict(self.DARK)
            found = list(several.stream([photo, self.DARK], on_error="yield"))
        assert [isinstance(answer, ImageError) for answer in found] == [False, True]

    def test_a_head_of_such_weights_answers_nothing(self, bundle, replace, golden):
        bias = struct.pack("<f", 0.1234567)
        graph = (golden / "head.onnx").read_bytes()
        replace("head.onnx", graph.replace(bias, struct.pack("<f", np.nan)))
        with (
            Classifier(bundle, device="cpu") as opened,
            pytest.raises(ImageError, match=self.FAULT),
        ):
            opened.predict(golden / "large.png")
