"""The queue and its threads."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fic_runtime import Classifier, ImageError
from fic_runtime.classifier import ServedBase
from fic_runtime.server import Limits
from fic_runtime.server.models import Models
from fic_runtime.server.workers import FullError, Picture, Workers


@pytest.fixture
def models(golden):
    with Classifier(golden, threads=1) as classifier:
        yield Models(classifier, "model")


@pytest.fixture
def gate(monkeypatch):
    """Return an event for which every prediction waits."""
    gate, predict = threading.Event(), Models.predict
    monkeypatch.setattr(
        Models, "predict", lambda self, pixels: gate.wait(20) and predict(self, pixels)
    )
    yield gate
    gate.set()


def workers_of(models, **options):
    options = {"threads": 1, "max_queue": 2, "max_pixels": 10**6, **options}
    return Workers(models, **options)


GREY = Picture(np.full((20, 30, 3), 128, np.uint8))


def test_what_the_queue_has_no_room_for_is_refused_at_once_and_the_rest_is_answered(models, gate):
    workers = workers_of(models)

    async def ask():
        taken = [asyncio.ensure_future(workers.answer([GREY])) for _ in range(3)]
        await asyncio.sleep(0)
        assert (workers.working, workers.waiting) == (1, 2)
        with pytest.raises(FullError) as full:
            await workers.answer([GREY])
        assert full.value.retry_after >= 1
        gate.set()
        return await asyncio.gather(*taken)

    assert len(asyncio.run(ask())) == 3
    workers.close()
    assert (workers.working, workers.waiting) == (0, 0)


def test_several_pictures_are_taken_all_or_none(models, gate):
    workers = workers_of(models)

    async def ask():
        with pytest.raises(FullError):
            await workers.answer([GREY] * 4)
        assert workers.working == 0
        gate.set()
        return await workers.answer([GREY] * 3)

    assert len(asyncio.run(ask())) == 3
    workers.close()


def test_what_nobody_waits_for_any_more_is_dropped(models, gate):
    workers = workers_of(models)

    async def ask():
        taken = [asyncio.ensure_future(workers.answer([GREY])) for _ in range(3)]
        await asyncio.sleep(0.05)
        taken[1].cancel()
        await asyncio.sleep(0)
        assert workers.waiting == 1
        gate.set()
        return await asyncio.gather(taken[0], taken[2])

    assert len(asyncio.run(ask())) == 2
    workers.close()


def test_batches_give_the_same_answers_and_their_own_errors(models, golden):
    files = [file.read_bytes() for file in sorted(golden.glob("*.png"))] * 3
    workers = workers_of(models, threads=2, max_queue=50, batch_size=4)

    async def ask():
        asked = [workers.answer([Picture(file)]) for file in (*files, b"no picture", b"")]
        return await asyncio.gather(*asked, return_exceptions=True)

    *answers, bad, empty = asyncio.run(ask())
    for file, (answer,) in zip(files, answers, strict=True):
        alone = models.predict(workers._decode(Picture(file)))["model"]
        np.testing.assert_allclose(
            answer["model"].probabilities, alone.probabilities, atol=1e-6, rtol=0
        )
    assert isinstance(bad, ImageError) and isinstance(empty, ImageError)
    workers.close()


def test_an_error_of_a_batch_reaches_everybody_who_waits(models, monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Models, "predict_batch", fail)
    workers = workers_of(models, batch_size=4)

    async def ask():
        return await asyncio.gather(
            *(workers.answer([GREY]) for _ in range(3)), return_exceptions=True
        )

    assert [str(each) for each in asyncio.run(ask())] == ["no memory"] * 3
    workers.close()


def test_overload_is_told_with_the_time_to_wait(serve, golden, picture, monkeypatch):
    client = serve(golden, limits=Limits(workers=1, max_queue=1))
    gate, predict = threading.Event(), Models.predict
    monkeypatch.setattr(
        Models, "predict", lambda self, pixels: gate.wait(20) and predict(self, pixels)
    )
    with ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(client.post, "/predict", content=picture) for _ in range(2)]
        while "fic_queue_pictures 1.0" not in client.get("/metrics").text:
            pass
        refused = client.post("/predict", content=picture)
        gate.set()
        assert [each.result().status_code for each in taken] == [200, 200]
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert "too many pictures wait" in refused.json()["error"]


def test_a_picture_without_a_finite_answer_spoils_no_other_one_of_its_batch(models, monkeypatch):
    run = ServedBase.run

    def without_dark_pictures(self, pixels):
        bottlenecks = np.array(run(self, pixels))
        bottlenecks[pixels.reshape(len(pixels), -1).max(axis=1) == 0] = np.nan
        return bottlenecks

    monkeypatch.setattr(ServedBase, "run", without_dark_pictures)
    workers = workers_of(models, max_queue=8, batch_size=8)
    dark = Picture(np.zeros((20, 30, 3), np.uint8))

    async def ask():
        asked = [workers.answer([picture]) for picture in (GREY, dark, GREY)]
        return await asyncio.gather(*asked, return_exceptions=True)

    try:
        found = asyncio.run(ask())
    finally:
        workers.close()
    assert [isinstance(answer, ImageError) for answer in found] == [False, True, False]


def test_at_the_end_what_was_begun_is_answered_and_what_waits_is_dropped(models, gate, monkeypatch):
    workers = workers_of(models)
    begun, predict = threading.Event(), Models.predict
    monkeypatch.setattr(
        Models, "predict", lambda self, pixels: begun.set() or predict(self, pixels)
    )

    async def ask():
        taken = [asyncio.ensure_future(workers.answer([GREY])) for _ in range(3)]
        # Not only taken: until a thread has the first, the end may drop any of them.
        assert await asyncio.to_thread(begun.wait, 20)
        ending = asyncio.ensure_future(asyncio.to_thread(workers.close))
        dropped = await asyncio.gather(*taken[1:], return_exceptions=True)
        gate.set()
        await ending
        return await taken[0], dropped

    (answer,), dropped = asyncio.run(asyncio.wait_for(ask(), 20))
    assert answer["model"].label
    assert [type(each) for each in dropped] == [asyncio.CancelledError] * 2


def test_nothing_runs_before_the_first_picture_and_nothing_is_taken_after_the_end(models):
    before = set(threading.enumerate())
    workers = workers_of(models)
    assert set(threading.enumerate()) <= before
    assert len(asyncio.run(workers.answer([GREY]))) == 1
    workers.close()
    with pytest.raises(RuntimeError, match="has ended"):
        asyncio.run(workers.answer([GREY]))
    workers.close()


def test_what_was_dropped_is_not_kept_in_the_queue(models, gate):
    workers = workers_of(models)

    async def ask():
        first = asyncio.ensure_future(workers.answer([GREY]))
        while workers._jobs.qsize() or not workers.working:
            await asyncio.sleep(0.001)  # until it is begun
        left = asyncio.ensure_future(workers.answer([Picture(b"a large file")]))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        kept = workers._jobs.get_nowait()
        gate.set()
        await first
        return kept

    assert asyncio.run(ask()).picture is None
    workers.close()
