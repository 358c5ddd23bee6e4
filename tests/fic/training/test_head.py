import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest

from fic.bases import find_base
from fic.bases.frozen import FrozenBase
from fic.bottlenecks import cached
from fic.bottlenecks.cached import Bottlenecks
from fic.cache import BottleneckCache
from fic.cache import rows as cache_rows
from fic.cache.keys import make_keys
from fic.data import Dataset
from fic.digests import digest_bytes
from fic.errors import TrainingError
from fic.fingerprint import Fingerprint
from fic.options import BaseOptions, ClassWeights, Optimizer, TrainingOptions
from fic.progress import Progress, Silence
from fic.training.class_weights import class_weights
from fic.training.head import TrainedHead, probabilities, train_head
from fic.training.starting_head import starting_head

CLASSES = ("a", "b", "c")
FEATURES = 6
UNUSED = FrozenBase(BaseOptions(), Path())
QUICK = TrainingOptions(epochs=30, learning_rate=0.05)

Keep = Callable[..., Bottlenecks]


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    """Return a function that puts features (pictures, views, *shape) into a cache of their own."""
    with ExitStack() as caches:

        def put(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Bottlenecks:
            fingerprint = Fingerprint(
                base="made_up",
                weights="0" * 32,
                tensor="output",
                pooling="none",
                preprocessing=find_base("mobilenet").preprocessing(),
                dtype="float32",
                shape=features.shape[2:],
            )
            cache = caches.enter_context(BottleneckCache(tmp_path / "cache", fingerprint))
            rows = []
            for view in range(features.shape[1]):
                keys = make_keys(
                    (digest_bytes(b"%d" % view + row.tobytes()), view) for row in features[:, view]
                )
                with cache.writer() as writer:
                    writer.add(keys, features[:, view])
                rows.append(cache.find(keys))
            paths = tuple(Path(f"{number}.jpg") for number in range(len(labels)))
            dataset = Dataset(paths, tuple(labels.tolist()), CLASSES)
            return Bottlenecks(cache, dataset, np.stack(rows, axis=1))

        yield put


def clouds(
    seed: int, count: int = 60, *, noise: float = 0.3, views: int = 1, shape: tuple[int, ...] = ()
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return features of three classes that a line can tell apart, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.eye(3, FEATURES)[labels].reshape(count, 1, *(1 for _ in shape), FEATURES)
    features = centres + random.normal(0, noise, (count, views, *shape, FEATURES))
    return features.astype(np.float32), labels


def train_from_nothing(
    train: Bottlenecks, val: Bottlenecks, options: TrainingOptions, progress: Progress
) -> TrainedHead:
    head = starting_head(train, UNUSED, options)
    return train_head(head, train, val, options, progress)


def fit(keep: Keep, options: TrainingOptions = QUICK, **kind: Any) -> TrainedHead:
    return train_from_nothing(
        keep(*clouds(1, **kind)), keep(*clouds(2, **kind)), options, Silence()
    )


def test_a_head_learns_what_can_be_told_apart(keep: Keep) -> None:
    assert fit(keep).history[-1].val_accuracy > 0.95


@pytest.mark.parametrize("magnitude", [1e-15, 1e-6, 1e6])
def test_bottlenecks_of_any_magnitude_can_be_learned(keep: Keep, magnitude: float) -> None:
    """Those of random weights shrink with every layer, down to 1e-18."""
    (train, train_labels), (val, val_labels) = clouds(1), clouds(2)
    trained = train_from_nothing(
        keep(train * np.float32(magnitude), train_labels),
        keep(val * np.float32(magnitude), val_labels),
        QUICK,
        Silence(),
    )
    assert trained.history[-1].val_accuracy > 0.95


def test_a_feature_that_never_moves_does_no_harm(keep: Keep) -> None:
    (train, train_labels), (val, val_labels) = clouds(1), clouds(2)
    train[..., 5] = val[..., 5] = 0.7
    val[0, 0, 5] += 1e-3
    trained = train_from_nothing(keep(train, train_labels), keep(val, val_labels), QUICK, Silence())
    assert trained.history[-1].val_accuracy > 0.95


def test_equal_bottlenecks_are_no_division_by_zero(keep: Keep) -> None:
    ones = np.ones((9, 1, FEATURES), np.float32)
    data = keep(ones, np.arange(9) % 3)
    assert math.isfinite(train_from_nothing(data, data, QUICK, Silence()).history[-1].loss)


def test_the_same_seed_gives_the_same_head(keep: Keep) -> None:
    one, two = (fit(keep).model.get_weights() for _ in range(2))
    for mine, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_another_seed_gives_another_head(keep: Keep) -> None:
    one, two = (fit(keep, replace(QUICK, seed=seed)).model.get_weights() for seed in (0, 1))
    assert any(not np.array_equal(mine, other) for mine, other in zip(one, two, strict=True))


def test_the_best_epoch_is_kept(keep: Keep) -> None:
    """The classes overlap and the rate is high, so the loss rises again."""
    options = TrainingOptions(epochs=25, learning_rate=0.3, patience=0)
    train, val = keep(*clouds(1, noise=2)), keep(*clouds(2, noise=2))
    trained = train_from_nothing(train, val, options, Silence())
    losses = [figures.val_loss for figures in trained.history]
    assert trained.best_epoch == 1 + int(np.argmin(losses)) < 25
    answers = probabilities(trained.model, val)
    loss = -np.log(answers[np.arange(len(val)), val.targets]).mean()
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_training_ends_when_patience_does(keep: Keep) -> None:
    options = TrainingOptions(epochs=200, learning_rate=0.3, patience=3)
    trained = fit(keep, options, noise=2)
    assert len(trained.history) == trained.best_epoch + 3 < 200


def test_no_patience_means_all_epochs(keep: Keep) -> None:
    options = TrainingOptions(epochs=12, learning_rate=0.5, patience=0)
    assert len(fit(keep, options, noise=2).history) == 12


def test_history_numbers_the_epochs_and_progress_hears_them(keep: Keep, recorder: Any) -> None:
    options = TrainingOptions(epochs=4)
    trained = train_from_nothing(keep(*clouds(1)), keep(*clouds(2)), options, recorder)
    assert [figures.epoch for figures in trained.history] == [1, 2, 3, 4]
    assert recorder.epochs == trained.history


@pytest.mark.parametrize("rate", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(keep: Keep, rate: float) -> None:
    with pytest.raises(TrainingError, match="use a smaller --lr"):
        fit(keep, TrainingOptions(epochs=5, learning_rate=rate))


def test_a_loss_that_is_no_number_after_the_only_step_is_seen_too(keep: Keep) -> None:
    with pytest.raises(TrainingError):
        fit(keep, TrainingOptions(epochs=1, batch_size=1000, learning_rate=math.nan))


def test_maps_are_averaged(keep: Keep) -> None:
    trained = fit(keep, shape=(4, 5), noise=1.0)
    assert trained.model.input_shape == (None, 4, 5, FEATURES)
    assert trained.history[-1].val_accuracy > 0.95
    maps = np.random.default_rng(0).normal(size=(2, 4, 5, FEATURES)).astype(np.float32)
    means = np.broadcast_to(maps.mean(axis=(1, 2), keepdims=True), maps.shape)
    np.testing.assert_allclose(
        trained.model.predict_on_batch(maps), trained.model.predict_on_batch(means), atol=1e-5
    )


def test_training_draws_among_the_views_and_validation_uses_the_plain_one(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = keep(*clouds(1, views=3)), keep(*clouds(2, views=2))
    read: list[np.ndarray[Any, Any]] = []
    original = Bottlenecks.read

    def remember(self: Bottlenecks, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        read.append(np.isin(self.rows, rows).sum(axis=0) if self is val else rows)
        return original(self, rows)

    monkeypatch.setattr(Bottlenecks, "read", remember)
    train_from_nothing(train, val, TrainingOptions(epochs=6, batch_size=60, patience=0), Silence())
    steps = [rows for rows in read[1:] if len(rows) == 60]  # the first reads the statistics
    views = [np.isin(train.rows, rows).sum(axis=0) for rows in steps]
    assert len(views) == 6
    assert all(drawn.sum() == 60 and drawn.min() > 5 for drawn in views)
    assert len({tuple(drawn) for drawn in views}) > 1
    assert [drawn.tolist() for drawn in read if len(drawn) == 2] == [[60, 0]] * 6


@pytest.mark.parametrize("is_large", [False, True], ids=["files", "blocks"])
def test_bottlenecks_that_are_not_held_in_memory_are_each_shown_once_with_their_class(
    keep: Keep, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    features, targets = clouds(1, 500, views=2)
    held = list(keep(features, targets).epoch(np.random.default_rng(3), 8))
    monkeypatch.setattr(cached, "_MOST_BYTES_HELD", 0)
    monkeypatch.setattr(cached, "_BYTES_READ", 1000)
    monkeypatch.setattr(cached, "_BYTES_MIXED", 5000)
    if is_large:
        monkeypatch.setattr(cached, "_memory_bytes", lambda: 0)
    read = list(keep(features, targets).epoch(np.random.default_rng(3), 8))
    index = {row.tobytes(): picture for picture, views in enumerate(features) for row in views}
    shown = [index[row.tobytes()] for block, _ in read for row in block]
    assert sorted(shown) == list(range(500))
    assert targets[shown].tolist() == np.concatenate([part for _, part in read]).tolist()
    assert {len(block) for block, _ in read[:-1]} == {8}
    # Blocks are another order; otherwise it is the same as of bottlenecks in memory.
    same = all(np.array_equal(one, two) for (one, _), (two, _) in zip(held, read, strict=True))
    assert same != is_large


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system reads nothing ahead")
@pytest.mark.parametrize("is_large", [False, True], ids=["files", "blocks"])
def test_bottlenecks_are_read_ahead_in_the_order_of_the_files(
    keep: Keep, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    monkeypatch.setattr(cached, "_MOST_BYTES_HELD", 0)
    monkeypatch.setattr(cached, "_BYTES_MIXED", 3000)
    monkeypatch.setattr(cache_rows, "_AHEAD_BYTES", 500)
    if is_large:
        monkeypatch.setattr(cached, "_memory_bytes", lambda: 0)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *piece: told.append(piece[:2]))
    data = keep(*clouds(1, 500))
    epoch = data.epoch(np.random.default_rng(0), 10)
    next(epoch)
    size = 500 * FEATURES * 4
    ahead = sum(count for _, count in told)
    # By blocks: the part that comes first and the one after it, and each other before its turn.
    assert ahead < size if is_large else ahead == size
    assert is_large or told == sorted(told)
    assert max(count for _, count in told) <= 500
    for _ in epoch:
        pass
    assert sum(count for _, count in told) == size


def test_a_head_learns_from_blocks(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "_MOST_BYTES_HELD", 0)
    monkeypatch.setattr(cached, "_memory_bytes", lambda: 0)
    assert fit(keep).history[-1].val_accuracy > 0.95


def test_probabilities_are_in_the_order_of_the_pictures(keep: Keep) -> None:
    val = keep(*clouds(2, 700))
    answers = probabilities(fit(keep).model, val)
    assert answers.shape == (700, 3)
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    assert (answers.argmax(axis=1) == val.targets).mean() > 0.95


def test_tensorboard_events_hold_the_history(keep: Keep, tmp_path: Path) -> None:
    import tensorflow as tf

    trained = fit(keep, TrainingOptions(epochs=3, logs=tmp_path / "logs"))
    for kind, prefix in (("train", ""), ("validation", "val_")):
        (file,) = (tmp_path / "logs" / kind).iterdir()
        events = [
            tf.compat.v1.Event.FromString(record.numpy())
            for record in tf.data.TFRecordDataset(str(file))
        ]
        values = {
            (value.tag, event.step): float(tf.make_ndarray(value.tensor))
            for event in events
            for value in event.summary.value
        }
        assert values == {
            (f"epoch_{name}", figures.epoch): pytest.approx(getattr(figures, prefix + name))
            for figures in trained.history
            for name in ("loss", "accuracy")
        }
        plugins = {v.metadata.plugin_data.plugin_name for e in events for v in e.summary.value}
        assert plugins == {"scalars"}


def test_events_that_cannot_be_written_do_not_end_the_training(
    keep: Keep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    trained = fit(keep, TrainingOptions(epochs=3, logs=tmp_path / "file" / "logs"))
    assert len(trained.history) == 3
    assert "cannot be written any more" in caplog.text


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_learns(keep: Keep, optimizer: Optimizer) -> None:
    options = TrainingOptions(epochs=40, optimizer=optimizer, learning_rate=0.03)
    assert fit(keep, options).history[-1].val_accuracy > 0.95


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_weight_decay_makes_weights_smaller_and_spares_biases(
    keep: Keep, optimizer: Optimizer
) -> None:
    free, pulled = (
        fit(keep, TrainingOptions(epochs=20, optimizer=optimizer, learning_rate=0.05,
                                  weight_decay=decay, patience=0, monitor="accuracy"))
        .model.get_weights()
        for decay in (0.0, 1.0)
    )  # fmt: skip
    assert np.abs(pulled[0]).sum() < 0.7 * np.abs(free[0]).sum()
    assert np.abs(pulled[1]).max() > 1e-4


def test_monitoring_accuracy_keeps_the_most_accurate_epoch(keep: Keep) -> None:
    options = TrainingOptions(epochs=25, learning_rate=0.3, patience=0, monitor="accuracy")
    trained = fit(keep, options, noise=2)
    best = max(trained.history, key=lambda figures: (figures.val_accuracy, -figures.val_loss))
    assert trained.best_epoch == best.epoch


def test_balanced_weights_give_each_class_the_same_say(keep: Keep) -> None:
    features, _ = clouds(1, 9)
    train = keep(features, np.array([0, 0, 0, 0, 0, 0, 1, 1, 2]))
    weights = class_weights(train.dataset, TrainingOptions(class_weights="balanced"))
    np.testing.assert_allclose(weights * [6, 2, 1], 3)


def test_balanced_weights_help_a_rare_class(keep: Keep) -> None:
    """Ten of one class for each of the others, and the classes overlap."""
    features, labels = clouds(1, 300, noise=1.5)
    kept = np.flatnonzero((labels == 0) | (np.arange(300) % 10 == 0))
    train, val = keep(features[kept], labels[kept]), keep(*clouds(2, 300, noise=1.5))
    rare = val.targets != 0
    found = []
    for weights in get_args(ClassWeights):
        options = replace(QUICK, class_weights=weights)
        trained = train_from_nothing(train, val, options, Silence())
        answers = probabilities(trained.model, val).argmax(axis=1)
        found.append((answers == val.targets)[rare].mean())
    assert found[1] > found[0] + 0.1


def test_label_smoothing_makes_answers_less_certain(keep: Keep) -> None:
    val = keep(*clouds(2))
    sure, unsure = (
        probabilities(fit(keep, replace(QUICK, label_smoothing=share, weight_decay=0)).model, val)
        for share in (0.0, 0.3)
    )
    assert unsure.max(axis=1).mean() < sure.max(axis=1).mean() - 0.05


def test_no_epoch_leaves_the_head_as_it_is(keep: Keep) -> None:
    train = keep(*clouds(1))
    head = starting_head(train, UNUSED, TrainingOptions())
    before = head.get_weights()
    trained = train_head(head, train, train, TrainingOptions(epochs=0), Silence())
    assert (trained.history, trained.best_epoch) == ([], 0)
    for mine, other in zip(trained.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_losses_that_a_head_adds_itself_count(keep: Keep) -> None:
    train = keep(*clouds(1))
    sizes = []
    for strength in (0.0, 1.0):
        bottleneck = keras.Input((FEATURES,))
        pull = keras.regularizers.L2(strength)
        outputs = keras.layers.Dense(3, activation="softmax", kernel_regularizer=pull)(bottleneck)
        head = keras.Model(bottleneck, outputs)
        train_head(head, train, train, replace(QUICK, weight_decay=0), Silence())
        sizes.append(np.abs(head.get_weights()[0]).sum())
    assert sizes[1] < 0.5 * sizes[0]
