import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fic.bases.torch_files import read_arrays
from fic.errors import WeightsError

from .conftest import Storage, Tensor, WritePth

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3, 2, 5)).astype(np.float32)


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    return read_arrays(path.read_bytes(), path)


def test_arrays_come_back_by_name_in_the_order_of_the_file(
    tmp_path: Path, write_pth: WritePth
) -> None:
    state = {"z.weight": WEIGHTS, "a.bias": WEIGHTS[0, 0, 0], "count": np.array(7, np.int64)}
    found = read(write_pth(tmp_path / "net.pth", state))
    assert list(found) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_an_array_that_was_turned_round_comes_back_as_it_is_seen(
    tmp_path: Path, write_pth: WritePth
) -> None:
    turned = WEIGHTS.transpose(3, 2, 0, 1)
    found = read(write_pth(tmp_path / "net.pth", {"kernel": turned}))["kernel"]
    np.testing.assert_array_equal(found, turned)
    assert found.flags.c_contiguous


def test_arrays_may_share_a_storage(tmp_path: Path, write_pth: WritePth) -> None:
    storage = Storage("0", WEIGHTS.ravel(), WEIGHTS.size)
    state = {"rows": Tensor(storage, (2, 3), (3, 1), 6), "column": Tensor(storage, (2,), (3,), 7)}
    found = read(write_pth(tmp_path / "net.pth", state, keys=["0"]))
    np.testing.assert_array_equal(found["rows"], WEIGHTS.ravel()[6:12].reshape(2, 3))
    np.testing.assert_array_equal(found["column"], found["rows"][:, 1])


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/was-run",)


def test_a_name_that_no_file_of_weights_needs_is_refused_and_not_called(
    tmp_path: Path, write_pth: WritePth, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pth(tmp_path / "net.pth", {"weight": Command()})
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("it was called"))
    with pytest.raises(WeightsError, match=r"net\.pth: names \w+\.system, which") as caught:
        read(path)
    assert "\n" not in str(caught.value)


SHORT = Storage("0", np.zeros(4, np.float32), 4)
WRONG = {
    "reaches past the end": {"w": Tensor(SHORT, (5,), (1,))},
    "starts past the end": {"w": Tensor(SHORT, (1,), (1,), 4)},
    "starts before the beginning": {"w": Tensor(SHORT, (1,), (1,), -1)},
    "goes backwards": {"w": Tensor(SHORT, (4,), (-1,), 3)},
    "is larger than its storage": {"w": Tensor(SHORT, (1 << 40,), (0,))},
    "has other strides than sides": {"w": Tensor(SHORT, (2, 2), (2,))},
    "is announced otherwise": {"w": Tensor(Storage("0", np.zeros(4, np.float32), 5), (4,), (1,))},
    "is no array": {"w": 3},
    "is a dictionary": {"w": OrderedDict()},
}


@pytest.mark.parametrize("state", WRONG.values(), ids=WRONG.keys())
def test_an_array_that_makes_no_sense_is_refused(
    tmp_path: Path, write_pth: WritePth, state: dict[str, Any]
) -> None:
    with pytest.raises(WeightsError, match=r"net\.pth: not a file of weights"):
        read(write_pth(tmp_path / "net.pth", state))


@pytest.mark.parametrize(
    "header",
    [
        {"magic": 1},
        {"version": 1002},
        {"system": {"little_endian": False}},
        {"state": [1]},
        {"keys": 5},
        {"keys": ["another"]},
    ],
    ids=str,
)
def test_another_header_is_refused(
    tmp_path: Path, write_pth: WritePth, header: dict[str, Any]
) -> None:
    with pytest.raises(WeightsError, match="not a file of weights"):
        read(write_pth(tmp_path / "net.pth", {"w": WEIGHTS}, **header))


def test_a_file_that_ends_early_is_refused_wherever_it_ends(
    tmp_path: Path, write_pth: WritePth
) -> None:
    whole = write_pth(tmp_path / "net.pth", {"w": WEIGHTS, "b": WEIGHTS[0, 0, 0]}).read_bytes()
    for length in range(len(whole)):
        with pytest.raises(WeightsError, match="not a file of weights"):
            read_arrays(whole[:length], tmp_path / "net.pth")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 the format of today", b"\x89HDF\r\n" * 9])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(WeightsError, match="net: not a file of weights") as caught:
        read_arrays(data, Path("net"))
    assert "\n" not in str(caught.value)
