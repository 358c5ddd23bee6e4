"""The self-test passes where the results are the recorded ones, and only there."""

import io
import struct

import numpy as np
import pytest

from fic_runtime.diagnostics.selftest import PIXEL_TOLERANCE, TOLERANCE, run_selftest
from fic_runtime.errors import BundleError

BIAS = struct.pack("<f", 0.1234567)  # of the head's first label; see make_bundle.py


@pytest.fixture
def change_golden(bundle, replace):
    """Return a function that writes the golden results with some of them replaced."""

    def write(**changes):
        with np.load(bundle / "golden.npz") as arrays:
            values = {name: arrays[name] for name in arrays.files}
        for name, change in changes.items():
            values[name] = change(values[name])
        file = io.BytesIO()
        np.savez(file, **{name: array for name, array in values.items() if array is not None})
        replace("golden.npz", file.getvalue())

    return write


def shifted(by):
    def change(array):
        array = array.copy()
        array.flat[-1] += by
        return array

    return change


def test_it_passes_where_the_results_are_the_recorded_ones(golden):
    result = run_selftest(golden, device="cpu")
    assert result.passed
    assert (result.provider, result.pictures) == ("CPUExecutionProvider", 3)
    assert result.bottlenecks < 1e-5
    assert result.probabilities < 1e-5


def test_results_within_the_tolerance_pass(bundle, change_golden):
    change_golden(probabilities=shifted(TOLERANCE / 2))
    result = run_selftest(bundle)
    assert result.passed
    assert result.probabilities == pytest.approx(TOLERANCE / 2, rel=0.01)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("probabilities", shifted(2 * TOLERANCE)),
        ("bottlenecks", shifted(0.1)),
        ("images", lambda array: array[::-1]),
        ("probabilities", lambda array: np.full_like(array, np.nan)),
        ("bottlenecks", lambda array: np.full_like(array, np.inf)),
    ],
)
def test_other_results_fail(name, change, bundle, change_golden):
    change_golden(**{name: change})
    assert not run_selftest(bundle).passed


def test_a_changed_weight_fails(bundle, replace):
    data = (bundle / "head.onnx").read_bytes()
    assert data.count(BIAS) == 1
    replace("head.onnx", data.replace(BIAS, struct.pack("<f", 0.2)))
    result = run_selftest(bundle)
    assert not result.passed
    assert result.bottlenecks < 1e-5
    assert result.probabilities > TOLERANCE


def test_a_weight_that_is_no_number_fails(bundle, replace):
    data = (bundle / "head.onnx").read_bytes()
    replace("head.onnx", data.replace(BIAS, struct.pack("<f", float("nan"))))
    assert not run_selftest(bundle).passed


def test_other_pixels_fail(bundle, change_golden):
    change_golden(images=lambda array: np.clip(array, 2 * PIXEL_TOLERANCE + 20, 255))
    result = run_selftest(bundle)
    assert not result.passed
    assert result.pixels > PIXEL_TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"picture": lambda _: None},
        {"images": lambda _: None},
        {"probabilities": lambda _: None},
        {"picture": lambda array: array[:50]},
        {"images": lambda array: array[:, :-1]},
        {"images": lambda array: array[:0]},
        {"images": lambda array: array.astype(np.float32)},
        {"images": lambda _: np.uint8(3)},
        {"bottlenecks": lambda array: array[:2]},
        {"bottlenecks": lambda array: array.astype(np.float64)},
        {"probabilities": lambda array: array[:, :2]},
        {"images": lambda _: np.array([{}], object)},
    ],
)
def test_golden_results_that_make_no_sense_are_refused(changes, bundle, change_golden):
    change_golden(**changes)
    with pytest.raises(BundleError, match=r"golden\.npz: .*; export the bundle again"):
        run_selftest(bundle)


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04 torn"], ids=repr)
def test_golden_results_that_are_no_archive_are_refused(data, bundle, replace):
    replace("golden.npz", data)
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        run_selftest(bundle)


def test_golden_results_in_an_archive_of_another_kind_are_refused(bundle, replace):
    """A version or a way of packing that zipfile does not know, which it says with other errors."""
    data = (bundle / "golden.npz").read_bytes()
    entry = data.index(b"PK\x01\x02")
    for place, value in ((6, 255), (8, 32), (10, 77)):
        damaged = bytearray(data)
        damaged[entry + place] = value
        replace("golden.npz", bytes(damaged))
        with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
            run_selftest(bundle, device="cpu")


def test_golden_results_of_damaged_packing_are_refused(bundle, replace):
    data = bytearray((bundle / "golden.npz").read_bytes())
    middle = data.index(b"images.npy") + 60
    data[middle : middle + 9] = b"\xff" * 9
    replace("golden.npz", bytes(data))
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        run_selftest(bundle, device="cpu")


def test_golden_results_that_would_fill_the_memory_are_refused(bundle, replace, monkeypatch):
    monkeypatch.setattr("fic_runtime.bundle.arrays._MOST_BYTES", 1000)
    with pytest.raises(BundleError, match="it would grow to"):
        run_selftest(bundle, device="cpu")


def test_torn_golden_results_are_refused(bundle, replace):
    data = bytearray((bundle / "golden.npz").read_bytes())
    data[2000:2100] = bytes(100)
    replace("golden.npz", bytes(data))
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        run_selftest(bundle)


def test_one_array_in_place_of_an_archive_is_refused(bundle, replace):
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    replace("golden.npz", file.getvalue())
    with pytest.raises(BundleError, match=r"golden\.npz: cannot be read"):
        run_selftest(bundle)


def test_a_bundle_without_golden_results_says_so(bundle, edit):
    edit(lambda values: values["files"].pop("golden.npz"))
    with pytest.raises(BundleError, match=r"has no golden\.npz to compare with"):
        run_selftest(bundle)


@pytest.mark.parametrize("tolerance", [[1], "0.1", 3, {"bottlenecks": [1]}])
def test_a_tolerance_that_makes_no_sense_is_refused(bundle, edit, tolerance):
    edit(lambda values: values.update(quantization={"tolerance": tolerance}))
    with pytest.raises(BundleError, match=r"tolerance\.bottlenecks is .* not a number"):
        run_selftest(bundle, device="cpu")
