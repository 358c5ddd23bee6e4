"""Protobuf's wire format (protobuf.dev/programming-guides/encoding), as ONNX files have it."""

from collections.abc import Callable, Iterator

MOST_FIELDS = 1_000_000  # of a message; the largest base of Keras has 40 000 in all

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_fields(
    message: memoryview, count: Callable[..., object] = lambda fields: None
) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field: an int for a varint, the bytes of a longer one.

    Args:
        message: the bytes of one message.
        count: is told at the end how many `fields` there were, `MOST_FIELDS` and one at most.

    Raises:
        ValueError: it is not a message of ONNX.
    """
    position, end, seen = 0, len(message), 0
    while position < end:
        seen += 1
        if seen > MOST_FIELDS:
            break
        # Here where a varint has one byte, as nearly all have: every start waits for this.
        tag = message[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(message, position - 1)
        number, kind = tag >> 3, tag & 7
        # Parsers cut a tag to 32 bits; a longer one would be another field for them than for us.
        if not number or tag >> 32:
            raise ValueError("it is damaged")
        if kind == _BYTES:
            if position < end and message[position] < 0x80:
                size = message[position]
                position += 1
            else:
                size, position = _varint(message, position)
        elif kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:  # groups, which ONNX has none of
            raise ValueError("it is damaged")
        if end - position < size:
            raise ValueError("it is cut off")
        yield number, message[position : position + size]
        position += size
    count(fields=seen)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number that begins at a position, and the position after it."""
    number = shift = 0
    while shift < 64:
        if position >= len(message):
            raise ValueError("it is cut off")
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("it is damaged")
