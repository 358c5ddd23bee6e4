"""Signatures of bundles, by OpenSSF's model-signing with keys of an elliptic curve, offline.

The signature is the file `model.sig` of the bundle and covers every other one, the manifest too.
It is made by that library and checked by `fic_runtime.bundle.signature`, which leaves out no file;
`model_signing verify key` checks it too, but for `.git` and its like, which it passes over.
"""

import os
from pathlib import Path
from typing import Any

from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.signature import SIGNATURE_FILE as SIGNATURE_FILE
from fic_runtime.bundle.signature import bad_key, verify_signature
from fic_runtime.reading import open_regular

from .errors import SignatureError, SigningError


def check_signing(private_key: Path) -> None:
    """Check that bundles can be signed here with this key.

    Raises:
        SigningError: model-signing is missing, or the file holds no such key.
    """
    _signer(private_key)


def sign_folder(folder: Path, private_key: Path) -> None:
    """Write `model.sig` over all files of a bundle's folder.

    Args:
        private_key: a PEM file with the key of an elliptic curve, P-256, P-384 or P-521, without a
            password.

    Raises:
        SigningError: see `check_signing`.
    """
    _signer(private_key).sign(folder, folder / SIGNATURE_FILE)


def verify_bundle(bundle: str | os.PathLike[str], public_key: str | os.PathLike[str]) -> None:
    """Verify the signature of a bundle, a folder or an archive, and the digests of its files.

    An archive is verified as it is: nothing of it is written anywhere.

    Raises:
        SignatureError: it has no signature, was signed with another key, or was changed; exit
            code 3.
        SigningError: the library is missing, or `public_key` holds no such key.
        BundleError: it is what was signed, but not a bundle that can be used.
    """
    bundle = Path(bundle)
    if not bundle.exists():
        raise SignatureError(f"{bundle}: no such bundle; check the path")
    verify_signature(bundle_files(bundle), public_key)
    open_bundle(bundle, public_key=public_key)


def _signer(private_key: Path) -> Any:
    library = _library()
    hashing = library.hashing.Config().set_ignored_paths(
        # The signature cannot sign itself; said in it, so that every verifier knows.
        paths=[SIGNATURE_FILE],
        ignore_git_paths=False,
    )
    try:
        open_regular(private_key).close()  # the library would wait at a pipe
        config = library.signing.Config().use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # OSError, and whatever the cryptography raises for a bad key
        raise bad_key(private_key, "private", error) from error
    return config.set_hashing_config(hashing)


def _library() -> Any:
    try:
        import model_signing
        import model_signing.hashing
        import model_signing.signing
    except ImportError as error:
        raise SigningError(
            f"signatures need a library that is not installed ({error}); run "
            "`pip install 'fast-image-classification[sign]'`"
        ) from error
    return model_signing
