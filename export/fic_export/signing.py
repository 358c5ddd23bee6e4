"""Signatures of bundles, by OpenSSF's model-signing with keys of an elliptic curve, offline.

The signature is the file `model.sig` of the bundle and covers every other one, the manifest too.
`model_signing verify key` checks it as well as `verify_bundle` does.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.places import SIGNATURE_FILE

from .errors import SignatureError, SigningError, one_line


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


def verify_bundle(bundle: str | Path, public_key: str | Path) -> None:
    """Verify the signature of a bundle, a folder or an archive, and the digests of its files.

    Raises:
        SignatureError: it has no signature, was signed with another key, or was changed; exit
            code 3.
        SigningError: model-signing is missing, or `public_key` holds no such key.
        BundleError: it is what was signed, but not a bundle that can be used.
    """
    bundle, public_key = Path(bundle), Path(public_key)
    with _unpacked(bundle) as folder:
        if not (folder / SIGNATURE_FILE).is_file():
            raise SignatureError(
                f"{bundle}: has no {SIGNATURE_FILE}; export it with --sign, or take it from its "
                "origin again"
            )
        verifier = _verifier(public_key)
        try:
            verifier.verify(folder, folder / SIGNATURE_FILE)
        # Of several libraries, which raise what they like for a file that anybody may have written.
        except Exception as error:
            raise SignatureError(f"{bundle}: {_complaint(error, public_key)}") from error
    open_bundle(bundle)


@contextmanager
def _unpacked(bundle: Path) -> Iterator[Path]:
    """Give the folder of a bundle; an archive is unpacked while the block runs."""
    if not bundle.exists():
        raise SignatureError(f"{bundle}: no such bundle; check the path")
    if bundle.is_dir():
        yield bundle
        return
    files = bundle_files(bundle)  # refuses what must not be unpacked
    with TemporaryDirectory(prefix="fic-verify-") as folder:
        with ZipFile(bundle) as archive:
            names = archive.namelist()
        for name in names:
            (Path(folder) / name).write_bytes(files.read(name))
        yield Path(folder)


def _signer(private_key: Path) -> Any:
    library = _library()
    hashing = library.hashing.Config().set_ignored_paths(
        # The signature cannot sign itself; said in it, so that every verifier knows.
        paths=[SIGNATURE_FILE],
        ignore_git_paths=False,
    )
    try:
        config = library.signing.Config().use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # OSError, and whatever the cryptography raises for a bad key
        raise _bad_key(private_key, "private", error) from error
    return config.set_hashing_config(hashing)


def _verifier(public_key: Path) -> Any:
    library = _library()
    try:
        return library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:  # as above
        raise _bad_key(public_key, "public", error) from error


def _library() -> Any:
    try:
        import model_signing
        import model_signing.hashing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise SigningError(
            f"signatures need a library that is not installed ({error}); run "
            "`pip install 'fast-image-classification[sign]'`"
        ) from error
    return model_signing


def _bad_key(file: Path, kind: str, error: Exception) -> SigningError:
    reason = getattr(error, "strerror", None) or one_line(error)
    return SigningError(
        f"{file}: is not a {kind} key that can be used ({reason[:120]}); give a PEM file of an "
        "elliptic curve without a password, made by `openssl ecparam -name prime256v1 -genkey`"
    )


def _complaint(error: Exception, public_key: Path) -> str:
    text = str(error)
    if "Key mismatch" in text:
        return f"was signed with another key than that of {public_key}; ask who signed it"
    # The library's list of differences is printed as Python has it, quotes escaped.
    changed = re.findall(r"Hash mismatch for \\?'(.+?)\\?':", text)
    changed += re.findall(r"(?:Extra files found|Missing files) in model .+?: (.+?)[\"']", text)
    named = f" ({', '.join(changed)[:200]})" if changed else ""
    return f"is not what was signed{named}; take it from its origin again"
