"""`fic verify`: signatures of bundles."""

from pathlib import Path

import pytest

from fic.runs import Run
from tests.fic.cli.conftest import Fic, assert_one_line


def test_a_signed_bundle_is_verified_and_a_changed_one_has_exit_code_3(
    fic: Fic, run: Run, shared_photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("OpenSSL")
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "public.pem").write_bytes(public)
    assert fic("export", run.folder, "--out", "bundle", "--sign", "key.pem").code == 0
    passed = fic("verify", "bundle", "--public-key", "public.pem")
    assert (passed.code, passed.out) == (
        0,
        "bundle: is what was signed with the key of public.pem\n",
    )
    (tmp_path / "bundle/labels.txt").write_text("tampered")
    changed = fic("verify", "bundle", "--public-key", "public.pem")
    assert_one_line(changed, 3, r"is not what was signed (labels.txt)")
    unusable = fic("export", run.folder, "--out", "bundle", "--sign", "public.pem")
    assert_one_line(unusable, 1, "public.pem: is not a private key that can be used")
