"""What `import fic_runtime` promises."""

import importlib.metadata
import inspect
import typing

import pytest

import fic_runtime
from fic_runtime import errors
from fic_runtime.classifier import ServedBase, ServingOptions
from fic_runtime.graphs import graph


def test_the_public_names_are_these():
    assert fic_runtime.__all__ == [
        "BundleError",
        "Classifier",
        "DeviceError",
        "Explanation",
        "FicError",
        "ImageError",
        "MultiClassifier",
        "Prediction",
        "Score",
    ]


@pytest.mark.parametrize("name", fic_runtime.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(fic_runtime, name))
    assert name in dir(fic_runtime)


def test_another_name_is_missing_as_in_every_module():
    with pytest.raises(AttributeError, match="module 'fic_runtime' has no attribute 'Model'"):
        _ = fic_runtime.Model


def test_the_version_is_that_of_the_distribution():
    assert fic_runtime.__version__ == importlib.metadata.version("fic-runtime")


@pytest.mark.parametrize("name", ["ImageError", "BundleError", "DeviceError"])
def test_every_error_that_a_user_can_fix_has_one_root(name):
    assert issubclass(getattr(fic_runtime, name), fic_runtime.FicError)
    assert getattr(fic_runtime, name).exit_code == 1


@pytest.mark.parametrize("name", [name for name, _ in inspect.getmembers(errors, inspect.isclass)])
def test_the_tree_of_errors_is_drawn_in_full(name):
    assert name in (errors.__doc__ or "")


OPTIONS = {
    "device": None,
    "providers": None,
    "allow_fallback": False,
    "threads": None,
    "channel_order": "rgb",
    "lean_memory": False,
    "graph_cache": True,
    "max_pixels": None,
    "public_key": None,
}


def test_the_arguments_of_a_classifier_are_keywords_after_the_bundle():
    first, head, options = inspect.signature(fic_runtime.Classifier).parameters.values()
    assert first.name == "bundle"
    assert (head.name, head.default, head.kind) == ("head", None, head.KEYWORD_ONLY)
    assert options.kind is inspect.Parameter.VAR_KEYWORD
    assert typing.get_type_hints(ServingOptions).keys() == OPTIONS.keys()


def test_the_options_of_a_classifier_have_these_defaults():
    owners = (ServedBase, graph._session_options)
    found = [each for owner in owners for each in inspect.signature(owner).parameters.values()]
    assert {each.name: each.default for each in found if each.name in OPTIONS} == OPTIONS


@pytest.mark.parametrize("kind", [fic_runtime.Classifier, fic_runtime.MultiClassifier])
def test_every_option_is_taken_and_no_other(kind, golden):
    kind(golden, **OPTIONS).close()
    with pytest.raises(TypeError, match="unexpected keyword argument 'devise'"):
        kind(golden, devise="cpu")
