"""The directory of tags that a TIFF file and an EXIF block begin with, so that both turn upright.

TIFF 6.0, section 2; BigTIFF: awaresystems.be/imaging/tiff/bigtiff.html; EXIF: CIPA DC-008, 4.6.2.
"""

import struct

ORIENTATION = 274

_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the field types that hold whole numbers
_MOST_ENTRIES = 1 << 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 18: 8}


class TiffDirectory:
    """The first directory of a file, by tag.

    `end` is the end of all that it points to, pixels apart. What lies past the end of the data
    raises struct.error, or OverflowError, when it is read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = order = "<" if data[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        pointer, entry, self._room = ("Q", "HHQ", 8) if big else ("I", "HHI", 4)
        self._pointer = order + pointer
        (start,) = struct.unpack_from(self._pointer, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        if count > _MOST_ENTRIES:
            raise struct.error("the directory is larger than any picture's")
        start, step = start + (8 if big else 2), struct.calcsize(order + entry) + self._room
        self.end: int = start + count * step + self._room
        if start + count * step > len(data):
            raise struct.error("the directory lies outside the file")
        self._entries: dict[int, tuple[int, int, int]] = {}
        for position in range(start, start + count * step, step):
            tag, kind, number = struct.unpack_from(order + entry, data, position)
            at = position + step - self._room
            self._entries.setdefault(tag, (kind, number, at))
            if number * _SIZES.get(kind, 0) > self._room:
                (at,) = struct.unpack_from(self._pointer, data, at)
                self.end = max(self.end, at + number * _SIZES[kind])

    def number(self, tag: int) -> int:
        """Return how many values a tag states; 0 where it is absent."""
        return self._entries.get(tag, (0, 0, 0))[1]

    def values(self, tag: int, default: tuple[int, ...] = (), *, most: int = 1) -> tuple[int, ...]:
        """Return the numbers of a tag, or `default` where it is absent or holds no numbers.

        Not more than `most` of them, whatever their number is said to be.
        """
        kind, number, position = self._entries.get(tag, (0, 0, 0))
        if kind not in _NUMBERS or not number:
            return default
        layout = f"{self._order}{min(number, most)}{_NUMBERS[kind]}"
        if number * _SIZES[kind] > self._room:  # by all that are stated: then they lie elsewhere
            (position,) = struct.unpack_from(self._pointer, self._data, position)
        return struct.unpack_from(layout, self._data, position)

    def orientation(self) -> int:
        """Return the EXIF orientation, 1..8; 1, upright, for any other number."""
        orientation = self.values(ORIENTATION, (1,))[0]
        return orientation if 1 <= orientation <= 8 else 1

    def with_value(self, data: bytes, tag: int, value: int) -> bytes:
        """Return a copy of the file in which a tag that holds one number has this value."""
        kind, _, position = self._entries[tag]
        number = struct.pack(self._order + _NUMBERS[kind], value)
        return data[:position] + number + data[position + len(number) :]


def read_exif_orientation(block: bytes) -> int:
    """Return the orientation, 1..8; a damaged EXIF block must not cost the picture."""
    try:
        return TiffDirectory(block.removeprefix(b"Exif\x00\x00")).orientation()
    except (struct.error, OverflowError):
        return 1
