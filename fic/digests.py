"""Digests of file contents."""

import hashlib
import os
from pathlib import Path

DIGEST_SIZE = 16
"""Bytes in a digest: with 2**64 different files two would be expected to collide."""

_BLOCK = 1 << 20


def digest_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """Return the 16 bytes that stand for this content everywhere in fic (BLAKE2b)."""
    return hashlib.blake2b(data, digest_size=DIGEST_SIZE).digest()


def digest_file(path: str | os.PathLike[str]) -> bytes:
    """Return `digest_bytes` of a file's content, read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
