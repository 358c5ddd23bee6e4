from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fic.data import Source
from fic.errors import HeadError
from fic.options import BaseOptions, TrainingOptions
from fic.runs import Run
from tests.conftest import MakePhotos
from tests.fic.conftest import Fit

ONLY_LOOK = TrainingOptions(epochs=0)


@pytest.fixture
def fit(fit: Fit, photos: Path, base: BaseOptions, tmp_path: Path) -> Fit:
    """Return a function that trains on `photos` for no epoch unless told otherwise."""

    def run(data: Path = photos, *, on: BaseOptions = base, **options: Any) -> Run:
        return fit(
            source=Source(data=data, val_split=0.25),
            out=tmp_path / "again",
            base=on,
            options=replace(ONLY_LOOK, **options),
        )

    return run


@pytest.fixture
def more_photos(photos: Path, make_photos: MakePhotos) -> Path:
    """Return `photos` with a class between the others, and without the first."""
    make_photos(photos, labels=("cyan",))
    for file in sorted((photos / "blue").iterdir()):
        file.unlink()
    (photos / "blue").rmdir()
    return photos


def dense(run: Run) -> list[np.ndarray[Any, Any]]:
    weights: list[np.ndarray[Any, Any]] = run.head().get_layer("probabilities").get_weights()
    return weights


@pytest.mark.parametrize("name", ["", "head.keras"])
def test_a_head_goes_on_from_where_it_was(fit: Any, cold_run: Run, name: str) -> None:
    again = fit(load_weights=cold_run.folder / name)
    assert again.metrics == cold_run.metrics
    assert dense(again)[0].tolist() == dense(cold_run)[0].tolist()


def test_training_from_a_run_changes_its_head(fit: Any, cold_run: Run) -> None:
    again = fit(load_weights=cold_run.folder, epochs=2)
    assert dense(again)[0].tolist() != dense(cold_run)[0].tolist()
    assert again.metrics["val"]["loss"] < 1.01 * cold_run.metrics["val"]["loss"]


def test_weights_alone_are_put_into_the_head_that_is_named(
    fit: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlp = fit(head="mlp:5", epochs=2, seed=3)
    file = tmp_path / "only.weights.h5"
    mlp.head().save_weights(file)
    assert fit(head="mlp:5", load_weights=file).metrics == mlp.metrics
    assert "holds no statistics of the bottlenecks; those of these pictures" in caplog.text
    with pytest.raises(HeadError, match="does not hold the weights of this head"):
        fit(head="mlp:6", load_weights=file)


def test_added_classes_leave_what_was_known_as_it_was(
    fit: Any, cold_run: Run, more_photos: Path
) -> None:
    again = fit(more_photos, load_weights=cold_run.folder, extend_classes=True)
    assert again.labels == ("blue", "cyan", "green", "red")
    (old, old_bias), (new, new_bias) = dense(cold_run), dense(again)
    np.testing.assert_array_equal(new[:, [0, 2, 3]], old)
    np.testing.assert_array_equal(new_bias[[0, 2, 3]], old_bias)
    assert not new[:, 1].any()


def test_added_classes_are_learned(fit: Any, cold_run: Run, more_photos: Path) -> None:
    options = {"epochs": 30, "learning_rate": 0.01}
    again = fit(more_photos, load_weights=cold_run.folder, extend_classes=True, **options)
    assert again.metrics["val"]["per_class"]["cyan"]["images"] == 2
    assert again.metrics["val"]["accuracy"] >= 0.6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"load_weights": Path("nowhere")}, "nowhere: no such run folder or file"),
        ({"extend_classes": True}, "needs --load-weights"),
        ({"head": "mlp", "load_weights": "RUN"}, "--head mlp: the head comes whole from"),
        ({"extend_classes": True, "load_weights": "FILE"}, "needs --load-weights with the run"),
        ({"head": "rest"}, "say with --bottleneck-tensorname where the rest begins"),
        ({"head": "unknown"}, "head 'unknown' is not known"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_work(
    fit: Any, cold_run: Run, options: dict[str, Any], says: str
) -> None:
    places = {"RUN": cold_run.folder, "FILE": cold_run.folder / "head.keras"}
    given = {name: places.get(str(value), value) for name, value in options.items()}
    with pytest.raises(HeadError, match=says):
        fit(Path("not even looked at"), **given)


def test_a_run_on_other_classes_is_refused(fit: Any, cold_run: Run, more_photos: Path) -> None:
    with pytest.raises(HeadError, match="does not know cyan; the data set lacks blue; give --ext"):
        fit(more_photos, load_weights=cold_run.folder)


def test_a_file_for_another_number_of_classes_is_refused(
    fit: Any, cold_run: Run, photos: Path, make_photos: MakePhotos
) -> None:
    make_photos(photos, labels=("cyan",))
    with pytest.raises(HeadError, match="gives 3 probabilities, but there are 4 labels"):
        fit(photos, load_weights=cold_run.folder / "head.keras")


@pytest.mark.parametrize(
    ("name", "says"),
    [("", "another base: its pooling is avg and here it is none"), ("head.keras", "takes bottle")],
)
def test_a_head_for_other_bottlenecks_is_refused(
    fit: Any, cold_run: Run, base: BaseOptions, name: str, says: str
) -> None:
    with pytest.raises(HeadError, match=says):
        fit(on=replace(base, pooling="none"), load_weights=cold_run.folder / name)


def test_a_file_that_is_no_head_is_refused(fit: Any, tmp_path: Path) -> None:
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(HeadError, match="Keras cannot load it"):
        fit(load_weights=tmp_path / "text.keras")


def test_a_head_without_a_last_dense_layer_cannot_be_extended(
    fit: Any, run: Run, more_photos: Path
) -> None:
    inputs = keras.Input(run.head().input_shape[1:])
    units = keras.layers.Dense(9, activation="relu")(inputs)
    outputs = keras.layers.Softmax()(keras.layers.Reshape((3, 3))(units)[:, 0])
    keras.Model(inputs, outputs).save(run.folder / "head.keras")
    with pytest.raises(HeadError, match="does not end in a dense layer of 3 units"):
        fit(more_photos, load_weights=run.folder, extend_classes=True)


REST = {"head": "rest", "epochs": 2}


def cut(base: BaseOptions) -> BaseOptions:
    return replace(base, layer="conv_pw_11_relu")


def test_the_rest_of_a_base_is_trained_as_a_copy(fit: Any, base: BaseOptions) -> None:
    untrained = fit(on=cut(base), head="rest").head()
    run = fit(on=cut(base), **REST)
    before, after = (
        head.get_layer("conv_pw_13").get_weights()[0] for head in (untrained, run.head())
    )
    assert np.abs(after - before).max() > 0
    # The frozen base has not changed: the same bottlenecks are found again.
    assert run.record["cache"]["extracted"] == 0


def test_normalisation_in_the_rest_keeps_what_the_base_knows(fit: Any, base: BaseOptions) -> None:
    untrained = fit(on=cut(base), head="rest").head().get_layer("conv_pw_13_bn").get_weights()
    trained = fit(on=cut(base), **REST).head().get_layer("conv_pw_13_bn").get_weights()
    for mine, other in zip(trained, untrained, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_rest_gives_what_the_whole_base_gives(fit: Any, base: BaseOptions) -> None:
    """Untrained, so its pooled features are those of the base itself."""
    from fic.bases import find_base
    from fic.bases.models import build_base

    head = fit(on=cut(base), head="rest").head()
    whole = build_base(find_base(base.base_model), weights="none", size=32)
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    bottleneck = keras.Model(whole.input, whole.get_layer("conv_pw_11_relu").output)(pixels)
    features = keras.Model(head.input, head.get_layer("unit").input)(bottleneck)
    np.testing.assert_allclose(features, whole(pixels), rtol=1e-5, atol=1e-12)


def test_a_run_with_a_custom_head_is_loaded_without_its_file(fit: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import keras\n"
        "def transfer_model(bottleneck, num_classes):\n"
        "    return keras.layers.Dense(num_classes, activation='softmax')(bottleneck)\n"
    )
    run = fit(head=f"{file}:transfer_model", epochs=1)
    file.unlink()
    assert run.head().output_shape == (None, 3)
    assert run.record["training"]["head"] == f"{file}:transfer_model"
