"""The model card of a bundle is Markdown, and names of others stay text in it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fic_export.bundle.model_card import model_card
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.manifest import Manifest
from fic_runtime.images import load_image
from fic_runtime.preprocessing import Geometry, Resize

BUNDLE = Path(__file__).parents[2] / "data/bundle-v1"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return open_bundle(BUNDLE).manifest


# Each with what must not stand in the card as it is.
@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("<script>alert(1)</script>", r"<script|</script"),
        ("<img src=x onerror=alert(1)>", r"<img"),
        ("![x](https://evil.example/pixel.png)", r"(?<!\\)!|(?<!\\)\[x(?<!\\)\]|https://"),
        ("[click](javascript:alert(1))", r"(?<!\\)\[click"),
        ("https://evil.example", r"https://"),
        ("a | b | c", r"a (?<!\\)\| b"),
        ("`code` and *bold*", r"(?<!\\)`code|(?<!\\)\*bold"),
        ("&lt;b&gt;", r"&lt;b"),
        ("back\\", r"back\\(?!\\)"),
        ("red\x1b[31m\u202e\u2028", r"[\x1b\u202e\u2028]"),
        ("two\nlines\n# title", r"(?m)^# title|^lines"),
    ],
)
@pytest.mark.parametrize("place", ["label", "origin", "class", "figure"])
def test_names_of_others_are_text_in_a_model_card(
    manifest: Manifest, place: str, text: str, never: str
) -> None:
    if place == "label":
        changed = replace(manifest, labels=(text, *manifest.labels[1:]))
    elif place == "origin":
        changed = replace(manifest, origin={**manifest.origin, "weights": text, text: 1})
    else:
        figures = {"images": 1, "precision": 1.0, "recall": text if place == "figure" else None}
        of_each = {"a" if place == "figure" else text: figures}
        changed = replace(manifest, metrics={**manifest.metrics, "per_class": of_each})
    plain, card = model_card(manifest), model_card(changed)
    assert re.search(never, card) is None
    # As many lines, and columns in each, as with a plain name.
    more = {"label": 0, "origin": 2, "class": 6, "figure": 6}[place]
    assert card.count("\n") <= plain.count("\n") + more
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (3, 5) for row in rows)


def test_the_base_of_a_head_is_text_in_its_model_card(manifest: Manifest) -> None:
    file = "a`<img src=x>.onnx"
    base = replace(manifest.base, file=file)
    files = {**manifest.files, file: "`<script>"}
    card = model_card(replace(manifest, base=base, files=files, head_only=True))
    assert "<img" not in card and "<script" not in card


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(50, 90), (90, 50), (10, 12), (33, 9)])
def test_the_code_for_one_graph_gives_it_the_pixels_of_the_runtime(
    manifest: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    resize: Resize,
    dtype: str,
) -> None:
    geometry = Geometry(height=24, width=32, resize=resize, crop_fraction=0.8)
    graph = {"file": "classifier.onnx", "input": {"dtype": dtype}}
    preprocessing = replace(manifest.preprocessing, geometry=geometry)
    card = model_card(replace(manifest, preprocessing=preprocessing, single_graph=graph))
    code = next(part for part in card.split("```") if "cv2.imread" in part)
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    _, png = cv2.imencode(".png", pixels)
    Path("photo.jpg").write_bytes(png.tobytes())
    opened = Opened()
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda _: opened)
    exec(code.removeprefix("python"))
    np.testing.assert_array_equal(opened.given, load_image("photo.jpg", geometry)[None])
    assert opened.given.dtype == dtype


class Opened:
    """A graph that keeps what it is given."""

    given: Any = None

    def run(self, _: Any, inputs: dict[str, Any]) -> tuple[Any]:
        self.given = inputs["image"]
        return (None,)
