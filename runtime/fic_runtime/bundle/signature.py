"""Signatures of bundles: the holder of a private key has signed these files and no others.

The form is that of OpenSSF's model-signing (github.com/sigstore/model-transparency): an in-toto
statement with the SHA-256 of each file, in a DSSE envelope signed by ECDSA. To check it needs the
package `cryptography` alone, the extra `sign`, which is imported where a key is given.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import SignatureError, SigningError, one_line
from ..reading import read_regular
from .files import BundleFiles
from .names import MOST_WEIGHTS, alike, is_file_name

SIGNATURE_FILE = "model.sig"

_MOST_BYTES = 1 << 20  # of a signature, or of a key
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_SHOWN = 200  # characters of the names of changed files


def signed_digests(files: BundleFiles, public_key: str | os.PathLike[str]) -> dict[str, str]:
    """Return the SHA-256 of each file that was signed, in hex and by name.

    What is there is exactly that, by its names; whether the contents are is for the reader to see.

    Raises:
        SignatureError: there is no signature, it is by another key, or a file is missing or was
            added, hidden ones and folders included.
        SigningError: the package `cryptography` is missing, or `public_key` holds no such key.
    """
    key = _public_key(Path(public_key))
    path = files.path("")
    try:
        names = {*files.names()}
        if SIGNATURE_FILE not in names:
            raise SignatureError(
                f"{path}: has no {SIGNATURE_FILE}; export it with --sign, or take it from its "
                "origin again"
            )
        envelope = files.read(SIGNATURE_FILE, _MOST_BYTES)
    except OSError as error:
        raise SignatureError(
            f"{path}: cannot be read ({error.strerror}); take it from its origin again"
        ) from error
    try:
        signed = _digests(_signed_statement(envelope, key))
    except _OtherKeyError:
        raise SignatureError(
            f"{path}: was signed with another key than that of {public_key}; ask who signed it"
        ) from None
    # Of JSON, base64 and the cryptography, for a file that anybody may have written.
    except Exception as error:
        raise not_signed(path, ()) from error
    if changed := {*signed, SIGNATURE_FILE} ^ names:
        raise not_signed(path, changed)
    return signed


def verify_signature(files: BundleFiles, public_key: str | os.PathLike[str]) -> None:
    """Make sure that all files are what was signed, and that there are no others.

    Raises:
        SignatureError, SigningError: see `signed_digests`; or a file was changed.
    """
    changed = []
    for name, digest in signed_digests(files, public_key).items():
        try:
            found = files.digest(name, MOST_WEIGHTS)
        except OSError:  # a folder, or something else that is no file
            found = ""
        if found != digest:
            changed.append(name)
    if changed:
        raise not_signed(files.path(""), changed)


def not_signed(path: Path, changed: Iterable[str]) -> SignatureError:
    """Return the error of a bundle in which these files are not what was signed."""
    named = ", ".join(sorted(changed))[:_SHOWN]
    return SignatureError(
        f"{path}: is not what was signed{f' ({named})' if named else ''}; take it from its origin "
        "again"
    )


class _OtherKeyError(Exception):
    """The signature says that it was made with another key."""


def _public_key(file: Path) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise SigningError(
            f"signatures need a package that is not installed ({error}); run "
            "`pip install 'fic-runtime[sign]'`"
        ) from error
    try:
        key = load_pem_public_key(read_regular(file, _MOST_BYTES))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("it is not the key of an elliptic curve")
        _hash_for(key)
    except Exception as error:  # OSError, and whatever the cryptography raises for a bad key
        raise bad_key(file, "public", error) from error
    return key


def bad_key(file: Path, kind: str, error: Exception) -> SigningError:
    """Return the error of a file that holds no key that can be used."""
    reason = getattr(error, "strerror", None) or one_line(error)
    return SigningError(
        f"{file}: is not a {kind} key that can be used ({reason[:120]}); give a PEM file of an "
        "elliptic curve without a password, made by `openssl ecparam -name prime256v1 -genkey`"
    )


def _hash_for(key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes

    by_size: dict[int, Any] = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
    if key.curve.key_size not in by_size:
        raise ValueError(f"its curve has {key.curve.key_size} bits")
    return by_size[key.curve.key_size]()


def _signed_statement(data: bytes, key: Any) -> Mapping[str, Any]:
    """Return what was signed, as JSON values.

    Raises:
        Exception: it was not signed, or not in this form.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    bundle = json.loads(data)
    hint = bundle["verificationMaterial"].get("publicKey", {}).get("hint")
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if hint and hint != hashlib.sha256(pem).hexdigest():
        raise _OtherKeyError
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    # The encoding of DSSE, with which a signature of one kind of content cannot pass for another's.
    signed = b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
    key.verify(signature, signed, ec.ECDSA(_hash_for(key)))
    statement: Mapping[str, Any] = json.loads(payload)
    if envelope["payloadType"] != _PAYLOAD or statement["_type"] != _STATEMENT:
        raise ValueError("it is another kind of statement")
    return statement


def _digests(statement: Mapping[str, Any]) -> dict[str, str]:
    predicate = statement["predicate"]
    how = predicate["serialization"]
    if statement["predicateType"] != _PREDICATE or how["method"] != "files":
        raise ValueError("it says something other than the digests of files")
    digests: dict[str, str] = {}
    for resource in predicate["resources"]:
        name, digest = resource["name"], resource["digest"]
        if resource["algorithm"] != "sha256" or not is_file_name(name) or name in digests:
            raise ValueError("it names files in a way that no bundle has")
        digests[name] = str(digest)
    if SIGNATURE_FILE in digests or alike([SIGNATURE_FILE, *digests]):
        raise ValueError("it names files that some systems take for one")
    return digests
