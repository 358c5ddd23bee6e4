import pytest

from fic.runs.csv_cells import escaped, unescaped


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "'=1"]
)
def test_a_text_that_would_be_a_formula_is_text_and_reads_back(text: str) -> None:
    assert escaped(text) == f"'{text}"
    assert unescaped(f"'{text}") == text


@pytest.mark.parametrize("value", ["roses", "/photos/-1.jpg", "'s Gravenhage", "", -1.5, 3])
def test_everything_else_stays_as_it_is(value: object) -> None:
    assert escaped(value) == value
    assert unescaped(str(value)) == str(value) or isinstance(value, float)
