"""Heads of strangers: Keras's safe mode holds, and fic's own reader of weights reads no other file.

The tricks are those that releases of Keras before the one that `pyproject.toml` asks for fell for.
"""

import base64
import io
import json
import marshal
import os
import resource
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fic.bases import find_base
from fic.bases.models import build_base
from fic.bases.weights import load_file
from fic.errors import HeadError, WeightsError
from fic.fingerprint import Fingerprint
from fic.heads.dense_files import read_dense
from fic.heads.keras_files import load_head, open_head
from fic.options import TrainingOptions
from fic.runs import Run

LABELS = ("blue", "green", "red")
SECRET = b"-----BEGIN PRIVATE KEY-----\n".ljust(256 * 3 * 4, b"x")


@pytest.fixture
def fingerprint(cold_run: Run) -> Fingerprint:
    """Return what the bottlenecks of the heads here are: 256 numbers."""
    found = cold_run.frozen_base().fingerprint
    assert found.shape == (256,)
    return found


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an honest head in both formats of Keras."""
    import keras

    folder = tmp_path_factory.mktemp("good")
    head = keras.Sequential(
        [keras.Input((256,)), keras.layers.Dense(3, activation="softmax", name="top")]
    )
    head.save(folder / "head.keras")
    head.save(folder / "head.h5")
    return folder


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Path]:
    """Return a file that only the code of a stranger makes; in the end there is none."""
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


def code(ran: Path) -> str:
    """Return a lambda as Keras writes it."""
    made = eval(f"lambda x: (open({str(ran)!r}, 'w').close(), x)[1]")
    return base64.b64encode(marshal.dumps(made.__code__)).decode()


def lambda_of(ran: Path) -> dict[str, Any]:
    return {
        "class_name": "__lambda__",
        "config": {"code": code(ran), "defaults": None, "closure": None},
    }


def layer(class_name: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": "trick", "trainable": True, "dtype": "float32", **config},
        "registered_name": None,
        **more,
    }


def function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


TRICKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "a Lambda layer": lambda ran: layer(
        "Lambda", {"function": lambda_of(ran), "arguments": {}, "output_shape": [256]}
    ),
    "a lambda as activation": lambda ran: layer(
        "Dense", {"units": 256, "activation": lambda_of(ran)}
    ),
    "a lambda as initializer": lambda ran: layer(
        "Dense", {"units": 256, "kernel_initializer": lambda_of(ran)}
    ),
    "a function of builtins": lambda ran: layer(
        "Dense", {"units": 256, "activation": function("builtins", "print")}
    ),
    "a function of os": lambda ran: layer(
        "Dense", {"units": 256, "activation": function("os", "system")}
    ),
    "a class of subprocess": lambda ran: layer(
        "Popen", {"args": ["touch", str(ran)]}, module="subprocess", registered_name="Popen"
    ),
    "a registered name": lambda ran: layer(
        "system", {"command": f"touch {ran}"}, module="os", registered_name="os>system"
    ),
    "a module within Keras that calls": lambda ran: layer(
        "Dense",
        {"units": 256, "activation": function("keras.src.utils.file_utils", "get_file")},
    ),
    "Keras's own switch of the safe mode": lambda ran: layer(
        "Dense",
        {
            "units": 256,
            "activation": function("keras.config", "enable_unsafe_deserialization"),
            "kernel_initializer": lambda_of(ran),
        },
    ),
    "a SavedModel": lambda ran: layer(
        "TFSMLayer", {"filepath": str(ran.parent / "saved"), "call_endpoint": "serve"}
    ),
    "a SavedModel by its module": lambda ran: layer(
        "TFSMLayer",
        {"filepath": str(ran.parent / "saved"), "call_endpoint": "serve"},
        module="keras.src.export.tfsm_layer",
    ),
    "the vocabulary in another file": lambda ran: layer(
        "StringLookup", {"vocabulary": str(ran.parent / "secret.txt"), "max_tokens": None}
    ),
}


def with_layer(archive: Path, out: Path, trick: dict[str, Any]) -> Path:
    """Write the head with one layer more in its configuration."""
    if out.suffix == ".h5":
        out.write_bytes(archive.read_bytes())
        with h5py.File(out, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"].insert(1, trick)
            file.attrs["model_config"] = json.dumps(config).encode()
        return out
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"].insert(1, trick)
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return out


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("trick", TRICKS)
def test_keras_runs_and_reads_nothing_that_a_head_names(
    good: Path, tmp_path: Path, ran: Path, fingerprint: Fingerprint, trick: str, suffix: str
) -> None:
    (tmp_path / "secret.txt").write_text("one\ntwo\n")
    head = with_layer(good / f"head{suffix}", tmp_path / f"head{suffix}", TRICKS[trick](ran))
    with pytest.raises(HeadError) as caught:
        load_head(head, fingerprint, LABELS).predict_on_batch(np.zeros((1, 256), np.float32))
    assert "two" not in str(caught.value)
    assert "\n" not in str(caught.value)
    import keras

    assert keras.config.floatx() == "float32"


def test_a_head_without_a_trick_loads(good: Path, fingerprint: Fingerprint) -> None:
    for suffix in (".keras", ".h5"):
        assert load_head(good / f"head{suffix}", fingerprint, LABELS).output_shape == (None, 3)


@pytest.mark.parametrize("name", ["../ran", "assets/../../ran", "/tmp/ran-by-fic-test", "..\\ran"])
def test_a_head_unpacks_nothing_outside_its_folder(
    good: Path, tmp_path: Path, ran: Path, fingerprint: Fingerprint, name: str
) -> None:
    head = tmp_path / "in" / "head.keras"
    head.parent.mkdir()
    head.write_bytes((good / "head.keras").read_bytes())
    with zipfile.ZipFile(head, "a") as archive:
        archive.writestr(name, b"slipped")
    try:
        load_head(head, fingerprint, LABELS)
    except HeadError as error:
        assert "\n" not in str(error)
    assert not Path("/tmp/ran-by-fic-test").exists()
    assert not list(tmp_path.glob("*ran*"))


# --- fic's own reader of .h5 weights --------------------------------------------------------------


@contextmanager
def little_memory() -> Iterator[None]:
    """Allow a gigabyte more than there is now, where the system can."""
    if not Path("/proc/self/statm").exists():
        yield
        return
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def external(group: h5py.Group, folder: Path) -> None:
    group.create_dataset("k", (256, 3), "f4", external=[(str(folder / "id_ecdsa"), 0, len(SECRET))])


def external_link(group: h5py.Group, folder: Path) -> None:
    group["k"] = h5py.ExternalLink(str(folder / "other.h5"), "x")


def soft_link(group: h5py.Group, folder: Path) -> None:
    group.file["elsewhere"] = np.zeros((256, 3), np.float32)
    group["k"] = h5py.SoftLink("/elsewhere")


def virtual(group: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout((256, 3), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (256, 3))
    group.create_virtual_dataset("k", layout)


def far_too_large(group: h5py.Group, folder: Path) -> None:
    group.create_dataset("k", (30_000, 30_000), "f4", chunks=(1000, 1000))


def text(group: h5py.Group, folder: Path) -> None:
    group.create_dataset("k", (256, 3), h5py.string_dtype())


def a_group(group: h5py.Group, folder: Path) -> None:
    group.create_group("k")


def nothing(group: h5py.Group, folder: Path) -> None:
    group["k"] = h5py.Empty("f4")


PUTS = (external, external_link, soft_link, virtual, far_too_large, text, a_group, nothing)


def weights(path: Path, put: Callable[[h5py.Group, Path], None]) -> Path:
    """Write the weights of a dense layer as Keras 2 did, the kernel in another way."""
    (path.parent / "id_ecdsa").write_bytes(SECRET)
    with h5py.File(path.parent / "other.h5", "w") as other:
        other["x"] = np.zeros((256, 3), np.float32)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = [b"k", b"b"]
        put(group, path.parent)
        group["b"] = np.zeros(3, np.float32)
    return path


@pytest.mark.parametrize("put", PUTS)
def test_weights_of_a_head_are_in_its_file_and_fit(
    tmp_path: Path, fingerprint: Fingerprint, put: Callable[[h5py.Group, Path], None]
) -> None:
    file = weights(tmp_path / "head.h5", put)
    with little_memory(), pytest.raises(HeadError) as caught:
        load_head(file, fingerprint, LABELS)
    assert "\n" not in str(caught.value)


def test_a_layer_behind_a_link_is_refused(tmp_path: Path, fingerprint: Fingerprint) -> None:
    weights(tmp_path / "other.h5", lambda group, _: group.create_dataset("k", (256, 3), "f4"))
    with h5py.File(tmp_path / "head.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file["dense"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "dense")
    with pytest.raises(HeadError, match="dense is a link"):
        load_head(tmp_path / "head.h5", fingerprint, LABELS)


def test_shapes_of_a_head_are_compared_before_its_weights_are_read(
    tmp_path: Path, fingerprint: Fingerprint
) -> None:
    file = weights(tmp_path / "head.h5", lambda group, _: group.create_dataset("k", (256, 3), "f4"))
    assert load_head(file, fingerprint, LABELS).output_shape == (None, 3)
    with pytest.raises(HeadError, match=r"takes bottlenecks of 256, but .* gives 64"):
        load_head(file, replace(fingerprint, shape=(64,)), LABELS)
    with pytest.raises(HeadError, match="gives 3 probabilities, but there are 2 labels"):
        load_head(file, fingerprint, LABELS[:2])


@pytest.mark.parametrize("put", PUTS)
def test_weights_of_a_base_are_in_its_file_and_fit(
    tmp_path: Path, put: Callable[[h5py.Group, Path], None]
) -> None:
    base = find_base("mobilenet_0.25")
    model = build_base(base, weights="none", size=32)
    with little_memory(), pytest.raises(WeightsError) as caught:
        load_file(model, base, weights(tmp_path / "base.h5", put))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_no_head(
    tmp_path: Path, fingerprint: Fingerprint, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "head.keras")
    with pytest.raises(HeadError, match="no such file"):
        load_head(tmp_path / "head.keras", fingerprint, LABELS)


def test_an_archive_of_nothing_is_one_sentence(tmp_path: Path, fingerprint: Fingerprint) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"")
    (tmp_path / "head.keras").write_bytes(packed.getvalue())
    with pytest.raises(HeadError) as caught:
        load_head(tmp_path / "head.keras", fingerprint, LABELS)
    assert "\n" not in str(caught.value)


# --- fic's own reader of dense heads --------------------------------------------------------------


@pytest.fixture
def dense(run: Run, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the run's head with other parts in its archive."""

    def write(**parts: bytes) -> Path:
        path = tmp_path / "dense.keras"
        with zipfile.ZipFile(run.folder / "head.keras") as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                data = parts.get(name.replace(".", "_"), old.read(name))
                new.writestr(name, data, zipfile.ZIP_DEFLATED)
        return path

    return write


def parts(head: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(head) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("put", PUTS)
def test_a_dense_head_has_its_weights_in_its_archive(
    run: Run,
    dense: Callable[..., Path],
    fingerprint: Fingerprint,
    tmp_path: Path,
    put: Callable[[h5py.Group, Path], None],
) -> None:
    weights(tmp_path / "beside.h5", put)  # makes what the links lead to
    (tmp_path / "own.h5").write_bytes(parts(run.folder / "head.keras")["model.weights.h5"])
    with h5py.File(tmp_path / "own.h5", "r+") as file:
        del file["layers/dense/vars/0"]
        put(file["layers/dense/vars"], tmp_path)
        if "k" in file["layers/dense/vars"]:
            file["layers/dense/vars"].move("k", "0")
    head = dense(model_weights_h5=(tmp_path / "own.h5").read_bytes())
    with little_memory(), pytest.raises(HeadError) as caught:
        open_head(head, fingerprint, LABELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config_json", "model_weights_h5"])
def test_a_part_that_unpacks_to_gigabytes_is_refused(
    dense: Callable[..., Path],
    fingerprint: Fingerprint,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fic.heads.dense_files._MOST_CONFIG", 1 << 20)
    monkeypatch.setattr("fic.heads.dense_files._MOST_WEIGHTS", 1 << 20)
    with pytest.raises(HeadError, match="has more than 1048576 bytes"):
        open_head(dense(**{name: bytes(1 << 24)}), fingerprint, LABELS)


def test_a_dense_head_is_read_as_it_was_trained(
    dense: Callable[..., Path], fingerprint: Fingerprint
) -> None:
    assert open_head(dense(), fingerprint, LABELS).output_shape == (None, 3)


@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("name", ["head.keras", "head.h5", "head.weights.h5"])
def test_weights_to_begin_with_are_a_plain_file(tmp_path: Path, name: str, target: str) -> None:
    from fic.training.starting_head import EarlierHead

    if target == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to(target)
    assert read_dense(tmp_path / name) is None
    with pytest.raises(HeadError, match="no such run folder or file"):
        EarlierHead.of(TrainingOptions(load_weights=tmp_path / name))
