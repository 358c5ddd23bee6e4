"""Streams: every picture has its answer in its place, and nothing is left behind at the end."""

import itertools
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from fic_runtime.classifier import Classifier
from fic_runtime.errors import ImageError
from fic_runtime.multi_classifier import MultiClassifier
from fic_runtime.predictions import Prediction
from fic_runtime.streaming import answer_stream

WAYS = {"one by one": 1, "in batches": 4}
BOUND = {name: 2 * size + 2 * 2 for name, size in WAYS.items()}


@pytest.fixture(scope="module")
def classifier(golden):
    with Classifier(golden, device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (30, 40, 3), np.uint8) for _ in range(37)]


@pytest.fixture(params=WAYS, autouse=True)
def way(request):
    return request.param


@pytest.fixture
def stream(classifier, way):
    """Return `classifier.stream` with two workers, one picture at a time and in batches."""
    return lambda images, **options: classifier.stream(
        images, WAYS[way], **{"workers": 2, **options}
    )


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 10
    while left := [each for each in threading.enumerate() if each not in before]:
        assert time.monotonic() < end, f"threads are left: {left}"
        time.sleep(0.01)


def test_bottlenecks_stream_like_answers(classifier, pictures, way):
    images = [*pictures[:3], b"no picture", *pictures[3:6]]
    found = list(classifier.extract_stream(images, WAYS[way], on_error="yield", workers=2))
    assert isinstance(found.pop(3), ImageError)
    np.testing.assert_allclose(np.stack(found), classifier.extract(pictures[:6]), atol=1e-6)
    with pytest.raises(ImageError, match="picture 3"):
        list(classifier.extract_stream(images, WAYS[way], workers=2))


def test_answers_are_those_of_single_pictures_and_in_their_order(stream, classifier, pictures):
    answers = list(stream(pictures))
    assert len(answers) == len(pictures)
    for answer, picture in zip(answers, pictures, strict=True):
        alone = classifier.predict(picture)
        np.testing.assert_allclose(answer.probabilities, alone.probabilities, atol=1e-5)


def test_by_default_answers_on_the_cpu_are_those_of_single_pictures_to_the_bit(
    classifier, pictures
):
    for answer, picture in zip(classifier.stream(pictures), pictures, strict=True):
        np.testing.assert_array_equal(
            answer.probabilities, classifier.predict(picture).probabilities
        )


def test_slow_pictures_do_not_change_the_order(way):
    def decode(number):
        time.sleep(0.02 if number % 3 == 0 else 0)
        return np.full((1, 1, 3), number, np.uint8)

    answers = answer_stream(
        range(30),
        decode,
        lambda batch: [int(each[0, 0, 0]) for each in batch],
        batch_size=WAYS[way],
        workers=3,
        threads="workers" if WAYS[way] == 1 else "caller",
        on_error="raise",
    )
    assert list(answers) == list(range(30))


@pytest.mark.parametrize("source", [[], iter(()), (each for each in ())])
def test_an_empty_source_gives_no_answers(source, stream):
    assert list(stream(source)) == []


def test_an_endless_source_is_taken_from_as_answers_are_asked_for(stream, pictures, way):
    taken = itertools.count()

    def endless():
        for number in taken:
            yield pictures[number % len(pictures)]

    answers = stream(endless())
    for _ in range(50):
        assert isinstance(next(answers), Prediction)
    time.sleep(0.05)  # what the threads would take, they take now
    answers.close()
    assert next(taken) <= 50 + BOUND[way] + 1


def test_nothing_is_taken_before_the_first_answer_is_asked_for(stream):
    source = iter([b"no picture"])
    answers = stream(source)
    answers.close()
    assert list(source) == [b"no picture"]


def test_a_slow_source_does_not_wait_for_a_full_batch(stream, pictures):
    go_on = threading.Event()

    def slow():
        yield pictures[0]
        assert go_on.wait(30)  # no second picture before the first is answered
        yield pictures[1]

    answers = stream(slow())
    assert isinstance(next(answers), Prediction)
    go_on.set()
    assert len(list(answers)) == 1


def test_a_bad_picture_is_yielded_in_its_place(stream, pictures):
    mixed = [pictures[0], b"no picture", pictures[1], None, *pictures[2:9], b""]
    answers = list(stream(mixed, on_error="yield"))
    bad = [number for number, each in enumerate(answers) if isinstance(each, ImageError)]
    assert bad == [1, 3, 11]
    assert len(answers) == len(mixed)
    assert "None" in str(answers[3])


def test_a_stream_of_nothing_but_bad_pictures_is_answered(stream):
    answers = list(stream([b"bad"] * 20, on_error="yield"))
    assert [type(each) for each in answers] == [ImageError] * 20


def test_a_bad_picture_is_raised_after_the_answers_before_it(stream, pictures):
    answers = stream([*pictures[:5], b"bad", *pictures[5:]])
    assert [next(answers).index for _ in range(5)]
    with pytest.raises(ImageError, match=r"^picture 5: "):
        next(answers)
    assert list(answers) == []


def test_an_error_of_the_source_is_raised_after_the_answers_to_what_it_gave(stream, pictures):
    def breaking():
        yield from pictures[:6]
        raise OSError("the cable was pulled")

    answers = stream(breaking(), on_error="yield")
    assert len([next(answers) for _ in range(6)]) == 6
    with pytest.raises(OSError, match="the cable was pulled"):
        next(answers)


def test_an_item_that_is_no_kind_of_picture_is_a_slip_in_the_code(stream, pictures):
    with pytest.raises(TypeError, match=r"received builtins\.int"):
        list(stream([pictures[0], 7], on_error="yield"))


def test_a_stream_of_which_nobody_asks_more_ends_its_threads(stream, pictures):
    for _ in stream(itertools.cycle(pictures)):
        break


def test_ctrl_c_in_the_consumer_ends_the_threads(stream, pictures):
    def interrupted():
        for number, _ in enumerate(stream(itertools.cycle(pictures))):
            if number == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_silent_source_does_not_keep_a_stream_from_closing(stream, pictures):
    silence = threading.Event()

    def silent():
        yield pictures[0]
        silence.wait(60)
        yield pictures[1]

    answers = stream(silent())
    next(answers)
    answers.close()
    assert not silence.is_set()
    silence.set()


def test_a_classifier_that_is_closed_ends_its_streams(golden, pictures, way):
    classifier = Classifier(golden, device="cpu", threads=1)
    answers = classifier.stream(itertools.cycle(pictures), WAYS[way], workers=2)
    next(answers)
    classifier.close()
    with pytest.raises(ValueError, match="this classifier is closed"):
        for _ in answers:
            pass


def test_many_streams_run_at_once(stream, classifier, pictures):
    expected = [classifier.predict(each).index for each in pictures]
    found = {}

    def run(number):
        found[number] = [each.index for each in stream(pictures)]

    threads = [threading.Thread(target=run, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch_size is at least 1"),
        ({"workers": 0}, "workers is at least 1"),
        ({"on_error": "ignore"}, "on_error is 'raise' or 'yield'"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(options, says, classifier):
    with pytest.raises(ValueError, match=says):
        classifier.stream([], **options)


def test_one_picture_is_no_stream(stream, pictures):
    for one in ("photo.jpg", b"bytes", pictures[0]):
        with pytest.raises(TypeError, match="use predict"):
            stream(one)


def test_real_photos_and_broken_files_are_all_answered(stream, classifier, shared):
    photos = sorted((shared / "photos/flowers").rglob("*.jpg"))[::50]
    # All but the largest: a picture of a hundred megapixels takes its time.
    broken = sorted(
        file
        for file in (shared / "nasty").iterdir()
        if file.is_file() and file.stat().st_size < 100_000
    )
    mixed = [*photos, *broken, *photos]
    answers = list(stream(mixed, on_error="yield"))
    for path, answer in zip(mixed, answers, strict=True):
        try:
            alone = classifier.predict(path).index
        except ImageError as error:
            assert str(answer) == str(error)
        else:
            assert answer.index == alone


def test_many_heads_stream_as_one_does(golden, classifier, pictures, way):
    heads = {"one": golden, "other": golden}
    with MultiClassifier(golden, heads, device="cpu", threads=1) as many:
        mixed = [*pictures[:9], b"bad", *pictures[9:]]
        answers = list(many.stream(mixed, WAYS[way], workers=2, on_error="yield"))
        with pytest.raises(TypeError, match="use predict"):
            many.stream(pictures[0])
    assert isinstance(answers.pop(9), ImageError)
    for answer, picture in zip(answers, pictures, strict=True):
        assert answer.keys() == heads.keys()
        assert {each.index for each in answer.values()} == {classifier.predict(picture).index}


def test_encoded_pictures_stream_as_arrays_do(stream, pictures):
    encoded = [cv2.imencode(".png", each[..., ::-1])[1].tobytes() for each in pictures]
    expected = [each.index for each in stream(pictures)]
    assert [each.index for each in stream(encoded)] == expected


class Shelf:
    """Pictures that are all there, the last of which cannot be had."""

    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures) + 1

    def __iter__(self):
        yield from self.pictures
        raise OSError("the shelf is broken")


def test_an_error_of_a_source_with_a_length_comes_after_the_answers_to_what_it_gave(
    stream, pictures
):
    answers = stream(Shelf(pictures[:9]))
    assert len([next(answers) for _ in range(9)]) == 9
    with pytest.raises(OSError, match="the shelf is broken"):
        next(answers)


def test_of_a_list_no_more_is_begun_than_answers_are_asked_for(way):
    begun = []
    answers = answer_stream(
        list(range(100)),
        lambda number: begun.append(number) or np.zeros((1, 1, 3), np.uint8),
        lambda batch: [None] * len(batch),
        batch_size=WAYS[way],
        workers=2,
        threads="workers" if WAYS[way] == 1 else "caller",
        on_error="raise",
    )
    for _ in range(10):
        next(answers)
    time.sleep(0.05)  # what the threads would take, they take now
    answers.close()
    assert len(begun) <= 10 + BOUND[way]


def test_a_program_may_end_before_the_stream_of_a_list(golden):
    program = (
        "import sys; from fic_runtime import Classifier\n"
        "answers = Classifier(sys.argv[1]).stream([sys.argv[2]] * 100)\n"
        "print(next(answers).index)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, golden, golden / "large.png"],
        timeout=60,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip()
    assert not done.stderr


def test_a_machine_without_threads_to_spare_can_end_its_program(monkeypatch):
    ends = []
    started = itertools.count()
    start = threading.Thread.start

    def some(thread):
        if next(started):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", some)
    monkeypatch.setattr("fic_runtime.streaming.atexit.register", ends.append)
    answers = answer_stream(
        [0, 1],
        lambda _: np.zeros((1, 1, 3), np.uint8),
        list,
        batch_size=1,
        workers=2,
        threads="workers",
        on_error="raise",
    )
    with pytest.raises(RuntimeError, match="start new thread"):
        next(answers)
    for end in ends:
        end()
    assert ends
