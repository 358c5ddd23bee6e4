"""Arrays come out of `.npz` files as NumPy reads them, or the file is refused in one sentence."""

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from fic_runtime import BundleError, Classifier
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.arrays import read_arrays
from fic_runtime.bundle.head_only import files_of_the_head
from fic_runtime.diagnostics.selftest import run_selftest

ARRAYS = {
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.linspace(0, 1, 5).astype(np.float16),
    "number": np.float64(0.5),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "nothing": np.empty((0, 3), np.uint8),
}


def saved(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def zipped(*files, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return file.getvalue()


def one(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


WAYS = {
    "plain": saved(**ARRAYS),
    "compressed": saved(np.savez_compressed, **ARRAYS),
    "stored by zipfile": zipped(*((f"{name}.npy", one(each)) for name, each in ARRAYS.items())),
    "a comment at the end": saved(**ARRAYS)[:-2] + b"\x03\x00abc",
}


@pytest.mark.parametrize("way", WAYS)
def test_arrays_are_what_was_saved(way):
    found = read_arrays(WAYS[way])
    assert list(found) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found[name], expected)


def test_an_array_may_be_called_anything():
    assert list(read_arrays(zipped(("größe.npy", one(np.ones(2)))))) == ["größe"]


def test_no_files_are_no_arrays():
    assert read_arrays(saved()) == {}


REFUSED = {
    "nothing": b"",
    "no archive": b"PK" + bytes(100),
    "an end alone": b"PK\5\6" + b"\xff" * 18,
    "objects": saved(objects=np.array([{}], dtype=object)),
    "cut off": saved(**ARRAYS)[:-40],
    "a claim of more than there is": saved(**ARRAYS).replace(
        (3 * 4 * 4 + 128).to_bytes(4, "little"), b"\xf0\xff\xff\x7f"
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_file_of_arrays_is_refused_in_one_line(what):
    with pytest.raises(ValueError, match=r".+") as caught:
        read_arrays(REFUSED[what])
    assert "\n" not in str(caught.value)


def test_files_that_lie_over_each_other_fill_no_memory():
    """A thousand entries for the same megabyte; each alone looks as NumPy writes it."""
    whole = zipped(("a.npy", one(np.zeros(1 << 20, np.uint8))))
    start = whole.index(b"PK\1\2")
    entry = whole[start : whole.index(b"PK\5\6")]
    count = 2000
    entries = b"".join(
        entry.replace(b"a.npy", b"%d.npy" % place).replace(
            b"\x05\x00\x00\x00", len(b"%d.npy" % place).to_bytes(2, "little") + b"\0\0", 1
        )
        for place in range(1000, 1000 + count)
    )
    end = bytearray(whole[whole.index(b"PK\5\6") :])
    end[8:12] = count.to_bytes(2, "little") * 2
    end[12:16] = len(entries).to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"would grow to|[Oo]verlap|differ"):
        read_arrays(whole[:start] + entries + bytes(end))


def test_every_damaged_byte_is_an_array_or_a_sentence():
    whole = saved(matrix=ARRAYS["matrix"], number=ARRAYS["number"])
    random = np.random.default_rng(0)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= int(random.integers(1, 256))
        try:
            found = read_arrays(bytes(data))
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert all(isinstance(each, np.ndarray) for each in found.values())


def test_a_start_loads_neither_zipfile_nor_logging(golden):
    """They take 15 ms of the 220 in which a small bundle gives its first answer."""
    program = (
        "import sys; from fic_runtime import Classifier; import numpy as np\n"
        f"Classifier({str(golden)!r}).predict(np.zeros((9, 9, 3), 'u1'))\n"
        "print(*sorted({'zipfile', 'logging', 'tempfile', 'shutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize("name", ["kernel", "kernel.npy"])
def test_a_file_that_is_not_an_array_is_told(name):
    with pytest.raises(ValueError, match="kernel is not an array"):
        read_arrays(zipped((name, b"text"), compression=zipfile.ZIP_DEFLATED))


def with_known(values):
    score = {"method": "nearest_neighbour", "threshold": 0.5, "false_rejection": 0.05}
    values["known"] = {**score, "file": "known.npz"}


# Each would be read into a gigabyte at most, were it not for the manifest's own numbers.
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("file", "name"),
    [("golden.npz", "bottlenecks"), ("golden.npz", "picture"), ("known.npz", "neighbours")],
)
def test_the_manifest_says_how_much_the_arrays_of_a_bundle_may_be(
    bundle, edit, replace, monkeypatch, save, file, name
):
    monkeypatch.setattr("fic_runtime.bundle.arrays._GOLDEN_PICTURE_BYTES", 1 << 17)
    arrays = {name: np.zeros((1 << 16, 12), np.float32)}
    if file == "known.npz":
        arrays = {name: np.zeros((1 << 17, 12), np.float32)}
        edit(with_known)
    replace(file, saved(save, **arrays))
    with pytest.raises(BundleError, match=f"{file}: cannot be read .*(more than|would grow)"):
        if file == "known.npz":
            Classifier(bundle, device="cpu")
        else:
            run_selftest(bundle, device="cpu")
    if file == "golden.npz":
        with pytest.raises(BundleError, match="cannot be read"):
            files_of_the_head(open_bundle(bundle))


def test_arrays_that_fit_the_manifest_are_read(bundle, edit, replace):
    edit(with_known)
    replace("known.npz", saved(neighbours=np.eye(12, dtype=np.float32)))
    with Classifier(bundle, device="cpu") as classifier:
        assert classifier.predict(bundle / "large.png").known is not None
    assert run_selftest(bundle, device="cpu").probabilities < 1e-4
