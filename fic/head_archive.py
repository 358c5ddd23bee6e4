"""Write `head.keras` so that the same head gives the same bytes.

Keras puts the time of saving and addresses in memory into the archive; both say nothing about the
head, and would make each run of one training look like another result.
"""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold
_SHARED = re.compile(rb'"shared_object_id": (\d+)')


def save_head(head: "keras.Model", path: Path) -> None:
    """Save a head in Keras's own format; same head and release of Keras, same bytes."""
    head.save(path)
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as saved, zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(saved.namelist()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), _timeless(name, saved.read(name)))
    path.write_bytes(packed.getvalue())


def _timeless(name: str, data: bytes) -> bytes:
    if name == "metadata.json":
        return json.dumps({**json.loads(data), "date_saved": "1980-01-01@00:00:00"}).encode()
    if name == "config.json":
        # Objects that several layers share are told by their addresses; their order does as well.
        seen: dict[bytes, int] = {}
        return _SHARED.sub(
            lambda found: b'"shared_object_id": %d' % seen.setdefault(found[1], len(seen)), data
        )
    return data
