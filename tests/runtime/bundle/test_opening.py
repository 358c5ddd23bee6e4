"""Bundles on disk: their files are what was exported, and old ones stay readable."""

import json
import os
import struct
import tracemalloc
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile

import numpy as np
import pytest

from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.manifest import FORMAT
from fic_runtime.bundle.opening import file_digest
from fic_runtime.classifier import Classifier
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import BundleError

GOLDEN = sorted((Path(__file__).parents[2] / "data").glob("bundle-v*"))
FILES = ("README.md", "base.onnx", "golden.npz", "head.onnx", "labels.txt")


def test_there_is_a_golden_bundle_of_every_format():
    assert [each.name for each in GOLDEN] == [f"bundle-v{n}" for n in range(1, FORMAT + 1)]


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
def test_a_bundle_of_every_format_gives_what_it_gave_when_it_was_made(folder):
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    with Classifier(folder, device="cpu") as classifier:
        for name, figures in expected.items():
            near = {"rtol": 0, "atol": figures["tolerance"]}
            (bottleneck,) = classifier.extract([folder / name])
            prediction = classifier.predict(folder / name)
            np.testing.assert_allclose(bottleneck, figures["bottleneck"], **near)
            np.testing.assert_allclose(prediction.probabilities, figures["probabilities"], **near)


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
def test_a_bundle_of_every_format_passes_its_self_test(folder):
    assert run_selftest(folder, device="cpu").passed


def test_the_golden_answers_tell_mistakes_apart(golden):
    """Were they alike, wrong channels or a wrong resize could pass."""
    expected = json.loads((golden / "expected.json").read_text("utf-8"))
    rows = np.array([figures["bottleneck"] for figures in expected.values()])
    apart = np.abs(rows[:, None] - rows[None]).max(axis=2)
    assert apart[~np.eye(len(rows), dtype=bool)].min() > 0.03


def test_labels_stand_in_their_order_one_a_line(golden):
    lines = (golden / "labels.txt").read_text("utf-8").splitlines()
    assert tuple(lines) == open_bundle(golden).manifest.labels


def test_every_file_is_under_a_digest(golden):
    assert tuple(sorted(open_bundle(golden).manifest.files)) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found(name, bundle):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: does not match its checksum .*copy the"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, bundle):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: cannot be read \(No such file.*copy the"):
        open_bundle(bundle)


def test_a_folder_in_place_of_a_file_is_refused(bundle):
    (bundle / "head.onnx").unlink()
    (bundle / "head.onnx").mkdir()
    with pytest.raises(BundleError, match=r"head\.onnx: cannot be read"):
        open_bundle(bundle)


def test_files_that_the_manifest_does_not_name_are_left_alone(bundle):
    (bundle / "notes.txt").write_text("mine")
    open_bundle(bundle)


def test_a_bundle_may_be_moved_and_linked(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle)
    assert open_bundle(str(tmp_path / "current")).files.path("base.onnx").is_file()


def test_the_digest_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_digest(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["manifest.json", *FILES])
def test_what_never_ends_is_refused_at_once(kind, name, bundle):
    (bundle / name).unlink()
    if kind == "pipe":
        os.mkfifo(bundle / name)
    else:
        (bundle / name).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=rf"{name}: cannot be read \(it is not a regular file\)"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["base.onnx", "golden.npz", "labels.txt"])
def test_a_file_past_the_limit_is_not_read(name, bundle):
    with (bundle / name).open("r+b") as file:
        file.truncate(2**40)  # a sparse file
    with pytest.raises(BundleError, match=rf"{name}: cannot be read \(it has more than"):
        open_bundle(bundle)


def test_what_was_checked_is_what_is_opened(bundle):
    """Whoever can write the folder may exchange a file at any moment."""
    opened = open_bundle(bundle)
    graph = (bundle / "base.onnx").read_bytes()
    (bundle / "base.onnx").write_bytes(b"another")
    assert opened.model("base.onnx") == graph
    with pytest.raises(BundleError, match=r"base\.onnx: does not match its checksum"):
        opened.released().model("base.onnx")
    (bundle / "golden.npz").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"golden\.npz: does not match its checksum"):
        opened.files.read("golden.npz")


def test_every_graph_that_the_manifest_names_is_looked_into(bundle, replace):
    replace("classifier.onnx", b"no graph")
    with pytest.raises(BundleError, match=r"classifier\.onnx: is not an ONNX graph"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["base.ort", "base.onnx.ort", "base"])
def test_a_graph_is_called_onnx(name, bundle, edit):
    (bundle / "base.onnx").rename(bundle / name)

    def rename(values):
        values["files"][name] = values["files"].pop("base.onnx")
        values["base"]["file"] = name

    edit(rename)
    with pytest.raises(BundleError, match=r"is not the name of a graph, which ends in \.onnx"):
        open_bundle(bundle)


def test_onnx_runtime_is_told_to_take_onnx_alone(golden, monkeypatch):
    import onnxruntime

    formats = []
    real = onnxruntime.InferenceSession

    def session(model, options, **rest):
        formats.append(options.get_session_config_entry("session.load_model_format"))
        return real(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    Classifier(golden, device="cpu").close()
    assert formats == ["ONNX", "ONNX"]


# --- archives -------------------------------------------------------------------------------------


@pytest.fixture
def pack(bundle, tmp_path):
    """Return a function that zips the bundle, with `extra` entries or without some files."""

    def write(*, compression=ZIP_STORED, extra=(), without=()):
        with ZipFile(tmp_path / "b.zip", "w", compression) as archive:
            for name in (*FILES, "manifest.json"):
                if name not in without:
                    archive.write(bundle / name, name)
            for name, data in extra:
                archive.writestr(name, data)
        return tmp_path / "b.zip"

    return write


@pytest.mark.parametrize("compression", [ZIP_STORED, ZIP_DEFLATED])
def test_an_archive_gives_what_the_folder_gives(compression, golden, pack):
    archive = pack(compression=compression)
    with Classifier(golden, device="cpu") as one, Classifier(archive, device="cpu") as other:
        for name in ("small.png", "large.png"):
            np.testing.assert_array_equal(
                one.predict(golden / name).probabilities, other.predict(golden / name).probabilities
            )
    assert run_selftest(archive, device="cpu").passed


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_of_an_archive_is_found(name, bundle, pack):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    archive = pack(without=[name], extra=[(name, bytes(data))])
    with pytest.raises(BundleError, match=rf"b\.zip.{name}: does not match its checksum"):
        open_bundle(archive)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_of_an_archive_is_named(name, pack):
    with pytest.raises(BundleError, match=rf"b\.zip.{name}: cannot be read \(No such file"):
        open_bundle(pack(without=[name]))


def test_an_archive_without_a_manifest_is_no_bundle(pack):
    with pytest.raises(BundleError, match=r"b\.zip: no manifest\.json there"):
        open_bundle(pack(without=["manifest.json"]))


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/base.onnx", "c:evil", "folder/"])
def test_a_path_in_an_archive_is_refused(name, pack):
    with pytest.raises(BundleError, match="zip the files of the bundle themselves"):
        open_bundle(pack(extra=[(name, b"")]))


@pytest.mark.parametrize(
    "name", ["BASE.ONNX", "Manifest.json", "labels.txt.", "labels.txt ", "..", ".", "ﬁ\n"]
)
def test_a_name_that_some_system_takes_for_another_is_refused(name, pack):
    with pytest.raises(BundleError, match=r"take for one file|no name of a file"):
        open_bundle(pack(extra=[(name, b"")]))


def test_two_forms_of_one_accent_are_refused(pack):
    extra = [("caf\u00e9", b"1"), ("cafe\u0301", b"2")]
    with pytest.raises(BundleError, match="some systems take for one file"):
        open_bundle(pack(extra=extra))


def test_an_archive_of_endless_entries_is_refused_before_they_are_read(tmp_path):
    entry = b"PK\1\2" + bytes(42)
    number = 700_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(entry) * number, 0, 0)
    (tmp_path / "b.zip").write_bytes(entry * number + end)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="its directory is larger than that of any bundle"):
            open_bundle(tmp_path / "b.zip")
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [ZIP_BZIP2, ZIP_LZMA])
def test_what_unpacks_without_bound_is_refused(compression, pack):
    with pytest.raises(BundleError, match="by a method other than deflate"):
        open_bundle(pack(compression=compression))


def test_a_small_archive_may_not_grow_much_either(pack):
    archive = pack(compression=ZIP_DEFLATED, extra=[("bomb", bytes(17 << 20))])
    with pytest.raises(BundleError, match=r"would grow from .* as no bundle does"):
        open_bundle(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(pack):
    with pytest.raises(BundleError, match="holds two files of one name"):
        open_bundle(pack(extra=[("labels.txt", b"other")]))


def test_an_archive_that_would_fill_the_memory_is_refused_before_it_is_read(pack, monkeypatch):
    archive = pack(compression=ZIP_DEFLATED, extra=[("bomb", bytes(100 << 20))])
    assert archive.stat().st_size < 1 << 20
    monkeypatch.setattr(ZipFile, "open", None)
    with pytest.raises(BundleError, match=r"would grow from .* as no bundle does"):
        open_bundle(archive)


def test_an_archive_that_states_too_small_a_size_gives_no_more_than_that(pack):
    """The size is what was looked at, so nothing past it may be unpacked."""
    archive = pack(
        compression=ZIP_DEFLATED, without=["labels.txt"], extra=[("labels.txt", b"a" * 999)]
    )
    data = archive.read_bytes()
    stated = (999).to_bytes(4, "little")
    assert data.count(stated) == 2  # in the header of the file and in the directory
    archive.write_bytes(data.replace(stated, (9).to_bytes(4, "little")))
    with pytest.raises(BundleError, match=r"is not a readable zip archive|does not match"):
        open_bundle(archive)


@pytest.mark.parametrize("cut", [1, 30, 500])
def test_a_truncated_archive_is_refused(cut, pack):
    """It may look like the archive of arrays in its end, golden.npz, which holds no manifest."""
    archive = pack()
    archive.write_bytes(archive.read_bytes()[:-cut])
    with pytest.raises(
        BundleError, match=r"b\.zip: (is not a readable zip|is neither|no manifest)"
    ):
        open_bundle(archive)


def test_no_changed_byte_of_an_archive_is_more_than_an_error(pack):
    """Each is found, or changes nothing that the bundle depends on, such as a time."""
    archive = pack(compression=ZIP_DEFLATED)
    whole = archive.read_bytes()
    directory = np.arange(whole.index(b"PK\x01\x02"), len(whole))
    random = np.random.default_rng(0)
    refused = 0
    for place in (*directory, *random.integers(len(whole), size=300)):
        data = bytearray(whole)
        data[place] ^= int(random.integers(1, 256))
        archive.write_bytes(data)
        try:
            assert open_bundle(archive).manifest.labels
        except BundleError:
            refused += 1
    assert refused > 400


def test_an_archive_that_claims_to_span_disks_is_refused(pack):
    """Such a claim makes zipfile raise where it is only asked whether this is an archive."""
    archive = pack()
    end = b"PK\x05\x06"
    second_of_nine = struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 9)
    archive.write_bytes(archive.read_bytes().replace(end, second_of_nine + end))
    with pytest.raises(BundleError, match="is not a readable zip archive"):
        open_bundle(archive)


def test_a_name_in_an_archive_that_is_no_utf_8_is_refused(pack):
    archive = pack(extra=[("ü", b"")])
    # Where the file begins; in the directory it stays.
    damaged = archive.read_bytes().replace("ü".encode(), b"\xff\xff", 1)
    archive.write_bytes(damaged)
    files = bundle_files(archive)
    with pytest.raises(BundleError, match="is not a readable zip archive"):
        files.digest("ü")


@pytest.mark.parametrize("compression", [ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
def test_damage_in_packed_files_is_one_sentence_whatever_packed_them(compression, pack):
    archive = pack(compression=compression)
    whole = archive.read_bytes()
    at = whole.index(b"labels.txt") + len("labels.txt")
    refused = 0
    for place in range(at, at + 30):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            open_bundle(archive)  # a few bytes mean nothing, such as the version of LZMA
        except BundleError as error:
            refused += 1
            assert "b.zip" in str(error)
    assert refused > 20
