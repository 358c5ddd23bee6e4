"""What may be the name of a class: one line of printable text, wherever it comes from."""

import sys
import unicodedata

import pytest

from fic_runtime import Classifier
from fic_runtime.bundle.labels import is_label


@pytest.mark.parametrize(
    "label", ["daisy", "Löwenzahn", "two words", "向日葵", "a,b", "🌻", "नमस्\u200dते", "a/b"]
)
def test_one_line_of_printable_text_is_a_label(label):
    assert is_label(label)


@pytest.mark.parametrize("label", ["", "a\tb", "a\nb", "a\rb", "\x00", "\x1b[31m", "\x7f", "a\x85"])
def test_what_would_break_a_line_or_a_column_is_none(label):
    assert not is_label(label)


def test_the_rule_is_that_of_unicode():
    forbidden = {"Cc", "Cs", "Zl", "Zp"}
    for character in map(chr, range(sys.maxunicode + 1)):
        assert is_label(character) == (unicodedata.category(character) not in forbidden)


def test_whatever_python_takes_for_the_end_of_a_line_is_refused():
    for character in map(chr, range(sys.maxunicode + 1)):
        assert is_label(character) <= (len(f"a{character}b".splitlines()) == 1)


def test_a_bundle_from_before_the_rule_still_opens(bundle, edit):
    edit(lambda values: values.update(labels=["a\tb", *values["labels"][1:]]))
    with Classifier(bundle) as classifier:
        assert classifier.labels[0] == "a\tb"
        assert classifier.predict(bundle / "large.png").labels == classifier.labels
