"""What an export takes, by keyword: every name that callers know, and no other."""

from pathlib import Path

import pytest

from fic_export import Bounds
from fic_export.bundle.export import FORMER_NAMES
from fic_export.options import BundleOptions, filled


def fill(options=None, **keywords):
    options = options or BundleOptions()
    return filled(options, keywords, function="export_bundle", former=FORMER_NAMES)


def test_keywords_fill_the_fields_of_their_names():
    options = fill(quantize="int8", single_graph=True, sign=Path("key.pem"))
    assert (options.quantize, options.single_graph, options.sign) == ("int8", True, Path("key.pem"))


def test_none_stands_for_what_the_options_say_already():
    options = BundleOptions(bounds=Bounds(min_accuracy=0.5), origin={"base": "mine"})
    assert fill(options, bounds=None, origin=None) == options


def test_an_unknown_keyword_is_refused_as_python_words_it():
    message = r"^export_bundle\(\) got an unexpected keyword argument 'quantise'$"
    with pytest.raises(TypeError, match=message):
        fill(quantise="int8")


@pytest.mark.parametrize(("former", "name"), FORMER_NAMES.items())
def test_former_names_are_taken_but_not_beside_the_new_ones(former, name):
    assert getattr(fill(**{former: [0, 1]}), name) == [0, 1]
    assert getattr(fill(**{name: None, former: [0, 1]}), name) == [0, 1]
    with pytest.raises(TypeError, match=f"multiple values for argument '{name}'"):
        fill(**{name: [0], former: [0, 1]})
