"""A signed bundle: whoever has the public key can tell whether it is what was signed."""

import os
import pickle
import shutil
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import pytest

import fic_export
from fic_export.errors import SignatureError, SigningError
from fic_export.signing import SIGNATURE_FILE, check_signing, sign_folder, verify_bundle
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.errors import BundleError
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing


@pytest.fixture(scope="session")
def library():
    """Skip where the extra `sign` is not installed."""
    pytest.importorskip("OpenSSL")
    return pytest.importorskip("model_signing")


@pytest.fixture(scope="module")
def keys(library, tmp_path_factory):
    """Return a folder with the pairs `one` and `other`, and keys that will not do."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    folder = tmp_path_factory.mktemp("keys")

    def write(name, key, encryption=None):
        private = key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption or form.NoEncryption()
        )
        public = key.public_key().public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        )
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.public.pem").write_bytes(public)

    write("one", ec.generate_private_key(ec.SECP256R1()))
    write("other", ec.generate_private_key(ec.SECP384R1()))
    write("rsa", rsa.generate_private_key(65537, 2048))
    secret = form.BestAvailableEncryption(b"secret")
    write("encrypted", ec.generate_private_key(ec.SECP256R1()), secret)
    (folder / "text.pem").write_text("no key")
    return folder


@pytest.fixture
def bundle(keys, shared_bundle, tmp_path):
    """Return a copy of a signed bundle that a test may damage."""
    return shutil.copytree(shared_bundle, tmp_path / "bundle")


@pytest.fixture(scope="module")
def shared_bundle(keys, tmp_path_factory):
    import keras

    base = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D()])
    head = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    out = tmp_path_factory.mktemp("signed")
    for place in (out / "bundle", out / "bundle.zip"):
        fic_export.export_bundle(
            base,
            head,
            labels=("a", "b"),
            preprocessing=Preprocessing(
                geometry=Geometry(height=16, width=16), pixels=Pixels(scale=(0.01, 0.01, 0.01))
            ),
            out=place,
            sign=keys / "one.pem",
        )
    return out / "bundle"


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_what_was_signed_passes_in_both_forms(name, shared_bundle, keys):
    place = shared_bundle.with_name(name)
    verify_bundle(place, keys / "one.public.pem")
    assert run_selftest(place, device="cpu").passed


def test_nothing_is_left_of_an_archive_that_was_looked_into(
    shared_bundle, keys, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    verify_bundle(shared_bundle.with_name("bundle.zip"), keys / "one.public.pem")
    assert list(tmp_path.iterdir()) == []


def test_the_command_of_the_library_passes_it_too(bundle, keys):
    command = [sys.executable, "-m", "model_signing", "verify", "key", bundle]
    command += ["--signature", bundle / SIGNATURE_FILE, "--public_key", keys / "one.public.pem"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (bundle / "labels.txt").write_text("b\na\n")
    assert subprocess.run(command, capture_output=True).returncode == 1


def edit_manifest(bundle):
    """Exchange the labels and mend the digests, as somebody would who means it."""
    from fic_runtime.bundle.opening import file_digest

    before = file_digest(bundle / "labels.txt")
    (bundle / "labels.txt").write_text("b\na\n")
    file = bundle / "manifest.json"
    text = file.read_text("utf-8").replace(before, file_digest(bundle / "labels.txt"))
    file.write_text(text, encoding="utf-8")


def as_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (edit_manifest, r"labels\.txt, manifest\.json"),
        (lambda bundle: (bundle / "head.onnx").write_bytes(b""), r"head\.onnx"),
        (lambda bundle: (bundle / "golden.npz").unlink(), r"golden\.npz"),
        (lambda bundle: (bundle / "more.txt").touch(), r"more\.txt"),
        (lambda bundle: (bundle / ".git").mkdir(), r"\.git"),
        (lambda bundle: (bundle / ".gitignore").touch(), r"\.gitignore"),
        (lambda bundle: (bundle / ".gitattributes").touch(), r"\.gitattributes"),
        (lambda bundle: (bundle / ".github/x").mkdir(parents=True), r"\.github"),
        (lambda bundle: (bundle / "empty").mkdir(), "empty"),
        (lambda bundle: as_folder(bundle / "head.onnx"), r"head\.onnx"),
    ],
    ids=[
        *("manifest", "graph", "missing", "added", "git", "gitignore", "gitattributes", "github"),
        *("folder", "folder for a file"),
    ],
)
def test_a_changed_bundle_is_not_what_was_signed(tamper, named, bundle, keys):
    tamper(bundle)
    with pytest.raises(SignatureError, match=rf"is not what was signed \({named}\)") as caught:
        verify_bundle(bundle, keys / "one.public.pem")
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_a_changed_archive_is_not_what_was_signed(bundle, keys, tmp_path):
    edit_manifest(bundle)
    with ZipFile(tmp_path / "b.zip", "w") as archive:
        for file in bundle.iterdir():
            archive.write(file, file.name)
    with pytest.raises(SignatureError, match=r"b\.zip: is not what was signed \(labels\.txt"):
        verify_bundle(tmp_path / "b.zip", keys / "one.public.pem")


@pytest.mark.parametrize(
    "damage",
    [
        lambda names: names.update({"LABELS.TXT": b"evil"}),
        lambda names: names.update({"manifest.json.": b"{}"}),
        lambda names: names.update({"more.txt": b""}),
        lambda names: names.update({"labels.txt": b"b\na\n"}),
        lambda names: names.pop("README.md"),
    ],
    ids=["case", "dot", "added", "changed", "missing"],
)
def test_an_archive_is_verified_as_it_is(damage, bundle, keys, tmp_path):
    contents = {file.name: file.read_bytes() for file in bundle.iterdir()}
    damage(contents)
    with ZipFile(tmp_path / "b.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises((SignatureError, BundleError), match=r"b\.zip: (is not what was|holds)"):
        verify_bundle(tmp_path / "b.zip", keys / "one.public.pem")


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_classifier_with_a_public_key_runs_only_what_was_signed(form, bundle, keys, tmp_path):
    from fic_runtime import Classifier, MultiClassifier

    def place():
        if form == "folder":
            return bundle
        return shutil.make_archive(str(tmp_path / "packed"), "zip", bundle)

    picture = np.zeros((16, 16, 3), np.uint8)
    with Classifier(place(), public_key=keys / "one.public.pem") as classifier:
        again = pickle.loads(pickle.dumps(classifier))
        assert again.predict(picture).label == classifier.predict(picture).label
    with pytest.raises(SignatureError, match="another key"):
        Classifier(place(), public_key=keys / "other.public.pem")
    (bundle / ".gitignore").touch()
    with pytest.raises(SignatureError, match=r"is not what was signed \(\.gitignore\)"):
        MultiClassifier(place(), public_key=keys / "one.public.pem")
    (bundle / ".gitignore").unlink()
    edit_manifest(bundle)
    with pytest.raises(SignatureError, match=r"is not what was signed \(manifest\.json\)"):
        Classifier(place(), public_key=keys / "one.public.pem")
    with pytest.raises(SignatureError, match=r"is not what was signed \(manifest\.json\)"):
        again.swap_head(shutil.copytree(bundle, tmp_path / "other"))


@pytest.mark.parametrize("command", ["info", "selftest", "predict", "bench", "extract"])
def test_the_commands_of_the_runtime_take_a_public_key(command, bundle, keys, tmp_path, capfd):
    from fic_runtime import cli

    more = {
        "predict": [str(picture_in(tmp_path))],
        "extract": [str(picture_in(tmp_path)), "--out", str(tmp_path / "f.csv")],
        "bench": ["--seconds", "0", "--batch-sizes", "1", "--threads", "1"],
    }.get(command, [])
    for key, code in (("one", 0), ("other", 3)):
        given = [command, str(bundle), *more, "--public-key", str(keys / f"{key}.public.pem")]
        with pytest.raises(SystemExit) as end:
            cli.main(given)
        assert end.value.code == code, capfd.readouterr()
    assert "was signed with another key" in capfd.readouterr().err


def picture_in(folder):
    import cv2

    cv2.imwrite(str(folder / "a.png"), np.zeros((16, 16, 3), np.uint8))
    return folder / "a.png"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000], ids=len)
def test_a_damaged_signature_is_one_line(data, bundle, keys):
    (bundle / SIGNATURE_FILE).write_bytes(data)
    with pytest.raises(SignatureError, match="is not what was signed; take it from"):
        verify_bundle(bundle, keys / "one.public.pem")


def test_the_signature_of_somebody_else_is_told(bundle, keys):
    with pytest.raises(SignatureError, match=r"was signed with another key than that of .*other"):
        verify_bundle(bundle, keys / "other.public.pem")


def test_a_bundle_without_a_signature_does_not_pass(bundle, keys):
    (bundle / SIGNATURE_FILE).unlink()
    with pytest.raises(SignatureError, match=r"has no model\.sig"):
        verify_bundle(bundle, keys / "one.public.pem")
    with pytest.raises(SignatureError, match="no such bundle"):
        verify_bundle(bundle / "nowhere", keys / "one.public.pem")


def test_what_was_signed_and_is_no_bundle_does_not_pass_either(keys, tmp_path):
    (tmp_path / "notes.txt").touch()
    sign_folder(tmp_path, keys / "one.pem")
    with pytest.raises(BundleError, match=r"no manifest\.json there"):
        verify_bundle(tmp_path, keys / "one.public.pem")


@pytest.mark.parametrize("name", ["rsa", "encrypted", "text", "nowhere", "one.public"])
def test_a_key_that_will_not_do_is_one_line_before_anything_is_done(name, keys, tmp_path):
    with pytest.raises(
        SigningError, match=r"is not a private key that can be used \(.+\)"
    ) as caught:
        check_signing(keys / f"{name}.pem")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["rsa.public", "text", "nowhere", "one"])
def test_a_public_key_that_will_not_do_is_one_line(name, bundle, keys):
    with pytest.raises(SigningError, match="is not a public key that can be used"):
        verify_bundle(bundle, keys / f"{name}.pem")


def test_without_the_package_no_signature_is_taken_on_trust(bundle, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(SigningError, match=r"pip install 'fic-runtime\[sign\]'"):
        verify_bundle(bundle, keys / "one.public.pem")


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(SigningError, match=r"pip install 'fast-image-classification\[sign\]'"):
        check_signing(tmp_path / "key.pem")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_a_key_that_is_a_pipe_is_refused_and_not_waited_for(library, tmp_path):
    os.mkfifo(tmp_path / "key.pem")
    with pytest.raises(SigningError, match="not a regular file"):
        check_signing(tmp_path / "key.pem")
