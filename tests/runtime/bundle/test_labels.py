"""What may be the name of a class: one line of printable text, wherever it comes from."""

import sys
import unicodedata

import pytest

from fic_runtime import Classifier
from fic_runtime.bundle.labels import is_label
from fic_runtime.errors import BundleError


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


@pytest.mark.parametrize("label", ["a\tb", "a\nforged.jpg\tb", "\x1b]0;owned\x07", "", "a" * 1001])
def test_a_bundle_with_another_label_is_refused(label, bundle, edit):
    edit(lambda values: values.update(labels=[label, *values["labels"][1:]]))
    with pytest.raises(BundleError, match=r"not one line of printable text|should be text"):
        Classifier(bundle)


@pytest.mark.parametrize(
    "text", ["zwei\neins\ndrei\n", "", "eins\n", "eins\nzwei\ndrei\nvier\n", "\xff"]
)
def test_labels_txt_holds_the_labels_of_the_manifest(text, bundle, replace):
    replace("labels.txt", text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"labels\.txt: holds other labels than the manifest"):
        Classifier(bundle)


def test_labels_txt_may_have_the_line_ends_of_windows(bundle, replace):
    replace("labels.txt", (bundle / "labels.txt").read_bytes().replace(b"\n", b"\r\n"))
    Classifier(bundle)
