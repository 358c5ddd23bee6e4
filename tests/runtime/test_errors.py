"""What users are told stands on one line, whatever others wrote into it."""

import pytest

from fic_runtime.errors import ImageError, one_line, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rose é 花 👩\u200d🌾 a b", "rose é 花 👩\u200d🌾 a b"),
        ("\x1b[2J\x07\x9b1m\x7f", r"\x1b[2J\x07\x9b1m\x7f"),
        ("a\nb\tc\r\x00", r"a\nb\tc\r\x00"),
        ("x\u202egnp.exe \u2066\u200f\u061c", r"x\u202egnp.exe \u2066\u200f\u061c"),
        ("a\u2028b\u2029c\udcff", r"a\u2028b\u2029c\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, expected):
    assert printable(text) == expected
    assert len(printable(text).splitlines()) == 1


def test_another_librarys_error_is_one_line_and_printable():
    assert one_line(ValueError("a\n  b\x1b[31m")) == r"a b\x1b[31m"
    assert one_line(ValueError()) == "ValueError"


def test_a_name_of_others_cannot_forge_a_line_in_an_error():
    assert str(ImageError("x\x1b[31m\nforged.png: is empty")) == r"x\x1b[31m\nforged.png: is empty"
