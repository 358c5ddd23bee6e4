from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fic.errors import HeadError
from fic.heads.custom import custom_head

Write = Callable[[str], Path]

IMPORTS = "import keras\nfrom keras import layers, ops\n"
GOOD = """
def transfer_model(bottleneck, num_classes):
    hidden = layers.Dense(5, activation="gelu")(bottleneck)
    return layers.Dense(num_classes, activation="softmax")(hidden)
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file with these functions."""

    def to_file(text: str) -> Path:
        file = tmp_path / "my head.py"
        file.write_text(IMPORTS + text, encoding="utf-8")
        return file

    return to_file


def test_the_function_is_given_the_bottleneck_and_the_number_of_classes(write: Write) -> None:
    head = custom_head(write(GOOD), "transfer_model", (4,), 3)
    assert (head.input_shape, head.output_shape) == ((None, 4), (None, 3))
    answers = head.predict_on_batch(np.ones((2, 4), np.float32))
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


def test_a_head_may_take_feature_maps(write: Write) -> None:
    text = """
def head(bottleneck, num_classes):
    pooled = layers.GlobalMaxPooling2D()(layers.Conv2D(3, 1)(bottleneck))
    return ops.softmax(layers.Dense(num_classes)(pooled))
"""
    assert custom_head(write(text), "head", (4, 4, 2), 3).input_shape == (None, 4, 4, 2)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "returned a NoneType and not the tensor"),
        ("return layers.Dense(7)(bottleneck)", r"shape \(None, 7\) and not \(None, 3\)"),
        ("return layers.Dense(num_classes)(bottleneck)", "add up to 1; end with Dense"),
        ("return keras.Input((num_classes,))", "does not come from `bottleneck`"),
        ("return missing", "line 4: NameError: name 'missing' is not defined"),
        ("return layers.Dense(0)(bottleneck)", "line 4: ValueError"),
        (
            "return layers.Lambda(lambda x: ops.softmax(x))(layers.Dense(num_classes)(bottleneck))",
            "cannot be loaded once it is saved",
        ),
        (
            "return ops.softmax(ops.fft((layers.Dense(num_classes)(bottleneck),"
            " layers.Dense(num_classes)(bottleneck)))[0])",
            "cannot be exported; .* no ONNX form for",
        ),
    ],
)
def test_a_head_that_would_fail_later_is_refused_at_once(
    write: Write, body: str, says: str
) -> None:
    file = write(f"def head(bottleneck, num_classes):\n    {body}\n")
    with pytest.raises(HeadError, match=says) as caught:
        custom_head(file, "head", (4,), 3)
    assert "my head.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_of_the_users_own_is_refused(write: Write) -> None:
    text = """
class Mine(layers.Layer):
    def call(self, inputs):
        return inputs

def head(bottleneck, num_classes):
    inner = keras.Sequential([Mine(), layers.Dense(num_classes, activation="softmax")])
    return inner(bottleneck)
"""
    with pytest.raises(HeadError, match="is a Mine, which could not be loaded without this file"):
        custom_head(write(text), "head", (4,), 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def other(a, b): pass\n", "has no function head; it has other"),
        ("head = 3\n", "has no function head; it has none at all"),
        ("def head(:\n", "line 3: SyntaxError"),
        ("import nowhere\n", "line 3: ModuleNotFoundError"),
    ],
)
def test_a_file_without_the_function_is_one_sentence(write: Write, text: str, says: str) -> None:
    with pytest.raises(HeadError, match=says):
        custom_head(write(text), "head", (4,), 3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"none\.py: no such file; give --head FILE.py:FUNCTION"):
        custom_head(tmp_path / "none.py", "head", (4,), 3)
