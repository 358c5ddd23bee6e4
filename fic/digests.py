"""Digests of file contents."""

import hashlib
import os

from fic_runtime.reading import open_regular, too_large

DIGEST_SIZE = 16
"""Bytes in a digest: with 2**64 different files two would be expected to collide."""

_BLOCK = 1 << 20
_MOST_BYTES = 1 << 35  # of weights; a picture is refused long before


def digest_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """Return the 16 bytes that stand for this content everywhere in fic (BLAKE2b)."""
    return hashlib.blake2b(data, digest_size=DIGEST_SIZE).digest()


def digest_file(path: str | os.PathLike[str]) -> bytes:
    """Return `digest_bytes` of a file's content, read in pieces.

    A file that says that it is empty is not read: those of /proc do, and some never end.

    Raises:
        OSError: the file cannot be read, is no regular file, or is past every limit.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        read = 0
        while size and (block := file.read(_BLOCK)):
            digest.update(block)
            read += len(block)
            if max(read, size) > _MOST_BYTES:  # /proc/kcore, or a file that grows without an end
                raise too_large(path, _MOST_BYTES)
    return digest.digest()
