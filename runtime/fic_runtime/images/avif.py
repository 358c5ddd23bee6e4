"""How large an AVIF is: what its boxes say, and what the AV1 frames in it say themselves.

Decoders believe the frames. Boxes: ISO/IEC 14496-12, 23008-12 (ispe, irot, imir) and the AV1 Image
File Format; frames: the AV1 Bitstream & Decoding Process Specification, 5.3 (OBUs), 5.5
(sequence headers) and 5.9 (frame headers).
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .formats import REMEDY, TRUNCATED, DamageError, ImageHeader

# (quarter turns against the clock, then -1 no mirror, 0 top-bottom, 1 left-right) → EXIF
_ORIENTATIONS = {
    **{(0, -1): 1, (1, -1): 8, (2, -1): 3, (3, -1): 6},
    **{(0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7},
    **{(0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5},
}
_MOST_SIZES = 1000  # a grid of 100 megapixels has some 400 tiles
_MOST_BOXES = 10_000
_MOST_UNITS = 10_000
_SEQUENCE_HEADER, _FRAMES = 1, (3, 6)  # of the types of OBUs
_KEY, _SWITCH = 0, 3  # of the types of frames


def read_avif(data: bytes) -> ImageHeader:
    """Return the header of an AVIF file."""
    meta, picture = b"", data
    film = 0
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta" and not meta:
            meta = data[start:end]
        elif kind == b"moov":
            film = start - 4 if data[start - 4 : start] == kind else start - 12
    if film:  # beside the picture, which a decoder might take instead of it
        end = int.from_bytes(data[:4], "big")
        brands = data[:end].replace(b"avis", b"avif")
        picture = brands + data[end:film] + b"free" + data[film + 4 :]
    sizes = []
    for at in re.finditer(b"ispe", meta):
        sizes.append(struct.unpack_from(">II", meta, at.end() + 4))
        if len(sizes) > _MOST_SIZES:
            raise DamageError(f"states over {_MOST_SIZES} sizes; {REMEDY}")
    if not sizes:
        raise DamageError(f"states no size; {REMEDY}")
    frames = list(_frames(data, meta))
    # The largest of all: a grid's tiles and an alpha plane state theirs as well.
    width, height = max([*sizes, *frames], key=lambda size: size[0] * size[1])
    # The picture, its transparency, its depth and small ones; or its tiles.
    if sum(wide * high for wide, high in frames) > 4 * width * height + (1 << 20):
        raise DamageError(f"holds far more pixels than it shows; {REMEDY}")
    turn, mirror = meta.find(b"irot"), meta.find(b"imir")
    turns = meta[turn + 4] & 3 if turn >= 0 else 0
    orientation = _ORIENTATIONS[turns, meta[mirror + 4] & 1 if mirror >= 0 else -1]
    return ImageHeader(
        format="AVIF", width=width, height=height, orientation=orientation, picture=picture
    )


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box."""
    for _ in range(_MOST_BOXES):
        if position >= end:
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        after = position + size if size else end
        if after > end or after < start:
            raise DamageError(TRUNCATED)
        yield kind, start, after
        position = after
    raise DamageError(f"is made of more parts than any picture; {REMEDY}")


def _frames(data: bytes, meta: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size that each frame states itself, at most."""
    parts = {kind: meta[start:end] for kind, start, end in _boxes(meta, 4, len(meta))}
    if b"iloc" not in parts or b"iinf" not in parts:
        return  # which no decoder takes for a picture
    coded = _coded_items(parts[b"iinf"])
    units = taken = 0
    for number, inside, extents in _places(parts[b"iloc"]):
        if number not in coded:
            continue
        source = parts.get(b"idat", b"") if inside else data
        taken += sum(length or len(source) for _, length in extents)
        if taken > 2 * len(data):
            raise DamageError(f"holds parts that lie over each other; {REMEDY}")
        content = b"".join(
            source[start : start + length if length else None] for start, length in extents
        )
        sizes, sequence = [(0, 0)], None
        for kind, unit in _units(content):
            units += 1
            if units > _MOST_UNITS:
                raise DamageError(f"is made of more parts than any picture; {REMEDY}")
            if kind == _SEQUENCE_HEADER:
                sequence = _sequence(unit)
                sizes.append(sequence.size)
            # What it states is not looked for: pictures do without.
            elif kind in _FRAMES and sequence is not None and _states_a_size(unit, sequence):
                sizes.append(sequence.largest)
        yield max(sizes, key=lambda size: size[0] * size[1])


def _coded_items(iinf: bytes) -> set[int]:
    """Return the numbers of the items that are AV1 frames."""
    found = set()
    for kind, start, _ in _boxes(iinf, 6 if iinf[0] == 0 else 8, len(iinf)):
        if kind == b"infe":
            wide = iinf[start] > 2  # version 3 has numbers of 32 bits
            number, _, item = struct.unpack_from(">IH4s" if wide else ">HH4s", iinf, start + 4)
            if item == b"av01":
                found.add(number)
    return found


def _places(iloc: bytes) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Yield each item's number, whether it lies in the box `idat`, and its (offset, length)s."""
    version, sizes = iloc[0], iloc[4:6]
    of_offset, of_length, of_base = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    of_index = sizes[1] & 15 if version else 0
    wide = 4 if version == 2 else 2
    position = 6

    def number(size: int) -> int:
        nonlocal position
        position += size
        if position > len(iloc):
            raise DamageError(TRUNCATED)
        return int.from_bytes(iloc[position - size : position], "big")

    seen = 0
    for _ in range(number(wide)):
        seen += 1
        item = number(wide)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(of_base)
        extents = []
        for _ in range(number(2)):
            seen += 1
            if seen > _MOST_BOXES:
                raise DamageError(f"is made of more parts than any picture; {REMEDY}")
            number(of_index)
            offset = base + number(of_offset)
            extents.append((offset, number(of_length)))
        yield item, method == 1, extents


def _units(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each OBU."""
    position = 0
    while position < len(content):
        head = content[position]
        position += 2 if head & 4 else 1  # an extension
        size = len(content) - position
        if head & 2:
            size = 0
            for shift in range(0, 56, 7):
                byte = content[position]
                position += 1
                size |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
        yield head >> 3 & 15, content[position : position + min(size, 1 << 10)]
        position += size


class _Bits:
    """A reader of numbers of any number of bits."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, bits: int) -> int:
        self._left -= bits
        if self._left < 0:
            raise DamageError(TRUNCATED)
        return self._number >> self._left & (1 << bits) - 1

    def skip_number(self) -> None:
        """Skip a number whose zeros in front say how long it is."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros)


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    """What a sequence header says that is needed to read the headers of its frames.

    Attributes:
        size: of its frames, where they state no other.
        largest: the most that a frame may state.
        is_reduced: it is of one still picture, which has this size.
        time_bits: of the time at which a frame is shown; 0 if it is not there.
        id_bits: of a frame's number; 0 if it is not there.
        screen_tools: whether frames use the tools for screens; 2 where each says it.
        whole_vectors: the same of motion by whole pixels.
    """

    size: tuple[int, int]
    largest: tuple[int, int]
    is_reduced: bool
    time_bits: int = 0
    id_bits: int = 0
    screen_tools: int = 2
    whole_vectors: int = 2


def _sequence(unit: bytes) -> _Sequence:
    bits = _Bits(unit)
    bits.read(4)  # profile, and whether it is a still picture
    time_bits = 0
    if is_reduced := bool(bits.read(1)):
        bits.read(5)
    else:
        time_bits = _skip_operating_points(bits)
    for_width, for_height = bits.read(4) + 1, bits.read(4) + 1
    size = bits.read(for_width) + 1, bits.read(for_height) + 1
    if is_reduced:
        return _Sequence(size=size, largest=size, is_reduced=True)
    id_bits = bits.read(4) + bits.read(3) + 3 if bits.read(1) else 0
    bits.read(7)  # tools of blocks and of motion
    has_order = bits.read(1)
    if has_order:
        bits.read(2)
    screen_tools = 2 if bits.read(1) else bits.read(1)
    whole_vectors = 2
    if screen_tools:
        whole_vectors = 2 if bits.read(1) else bits.read(1)
    return _Sequence(
        size=size,
        largest=(1 << for_width, 1 << for_height),
        is_reduced=False,
        time_bits=time_bits,
        id_bits=id_bits,
        screen_tools=screen_tools,
        whole_vectors=whole_vectors,
    )


def _states_a_size(unit: bytes, sequence: _Sequence) -> bool:
    """Return whether the header of a frame states a size of its own (5.9.2)."""
    bits = _Bits(unit)
    if sequence.is_reduced or bits.read(1):  # or a frame that was there is shown again
        return False
    kind, is_shown = bits.read(2), bits.read(1)
    if is_shown:
        bits.read(sequence.time_bits)
    else:
        bits.read(1)
    if kind == _SWITCH:
        return True
    if not (kind == _KEY and is_shown):
        bits.read(1)
    bits.read(1)
    screen_tools = bits.read(1) if sequence.screen_tools == 2 else sequence.screen_tools
    if screen_tools and sequence.whole_vectors == 2:
        bits.read(1)
    bits.read(sequence.id_bits)
    return bool(bits.read(1))


def _skip_operating_points(bits: _Bits) -> int:
    """Return how many bits the time has at which a frame is shown, if it is there."""
    of_delay = time_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        is_even = bits.read(1)
        if is_even:
            bits.skip_number()
        if bits.read(1):  # a model of the decoder
            of_delay = bits.read(5) + 1
            bits.read(37)
            time_bits = bits.read(5) + 1
            if is_even:
                time_bits = 0
    delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if of_delay and bits.read(1):
            bits.read(2 * of_delay + 1)
        if delays and bits.read(1):
            bits.read(4)
    return time_bits
