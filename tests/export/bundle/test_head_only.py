"""A head without its base: the same answers, for that very base only, and nothing lost."""

import numpy as np
import pytest

from fic_export import Bounds, ParityError, export_bundle, export_head
from fic_export.conversion import convert_base
from fic_export.errors import OutputError
from fic_runtime import BundleError, Classifier
from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.opening import file_digest
from fic_runtime.diagnostics.selftest import run_selftest
from fic_runtime.preprocessing import Geometry, Pixels, Preprocessing
from tests.export.conftest import draw_pictures, make_base, make_head

PIXELS = Pixels(scale=(0.004, 0.005, 0.006), offset=(-0.5, 0.0, 0.5))
PREPROCESSING = Preprocessing(geometry=Geometry(height=32, width=32), pixels=PIXELS)
PADDED = Preprocessing(geometry=Geometry(height=32, width=32, resize="pad"), pixels=PIXELS)


@pytest.fixture(scope="module")
def base():
    return make_base()


@pytest.fixture(scope="module")
def base_graph(base):
    return convert_base(base, PREPROCESSING).SerializeToString(deterministic=True)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"), 6)


@pytest.fixture(scope="module")
def export(base, base_graph, pictures):
    """Return a function that exports a head with these labels, or with `whole` a bundle."""

    def write(out, labels=("a", "b"), *, whole=False, **changes):
        arguments = {
            "base": base,
            "head": make_head(classes=len(labels), seed=len(labels)),
            "labels": labels,
            "preprocessing": PREPROCESSING,
            "pictures": pictures,
            "out": out,
            "base_graph": None if "base" in changes else base_graph,
        } | changes
        write = export_bundle if whole else export_head
        return write(arguments.pop("base"), arguments.pop("head"), **arguments)

    return write


@pytest.fixture(scope="module")
def deployed(export, tmp_path_factory):
    out = tmp_path_factory.mktemp("deployed") / "bundle"
    export(out, ("x", "y", "z"), whole=True)
    return out


@pytest.mark.parametrize("name", ["head", "head.zip"])
def test_a_head_gives_what_its_whole_bundle_gives(name, export, deployed, pictures, tmp_path):
    export(tmp_path / "whole", whole=True)
    manifest = export(tmp_path / name)
    assert manifest == open_bundle(tmp_path / name).manifest
    with (
        Classifier(tmp_path / "whole") as whole,
        Classifier(deployed, head=tmp_path / name) as apart,
    ):
        assert apart.labels == ("a", "b")
        for one, other in zip(
            whole.predict_batch(pictures), apart.predict_batch(pictures), strict=True
        ):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert run_selftest(deployed, head=tmp_path / name, device="cpu").passed


def test_bases_are_the_same_to_the_byte_whatever_the_head(export, deployed, tmp_path):
    export(tmp_path / "whole", whole=True, base_graph=None)
    assert file_digest(tmp_path / "whole/base.onnx") == file_digest(deployed / "base.onnx")


def test_a_head_is_all_but_the_base_and_says_which_that_is(export, deployed, tmp_path):
    manifest = export(tmp_path / "head")
    assert {path.name for path in (tmp_path / "head").iterdir()} == {
        *("README.md", "golden.npz", "head.onnx", "labels.txt", "manifest.json"),
    }
    digest = file_digest(deployed / "base.onnx")
    assert manifest.base_files == {"base.onnx": digest}
    card = (tmp_path / "head/README.md").read_text("utf-8")
    assert digest in card
    assert 'head="this-folder"' in card


def test_a_head_for_a_deployed_base_needs_no_conversion(
    export, deployed, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr("fic_export.bundle.export.convert_base", None)
    manifest = export(tmp_path / "head", deployed=deployed)
    assert manifest.base_files == open_bundle(deployed).manifest.base_files
    assert manifest.parity["pictures"] == len(pictures)


@pytest.mark.parametrize(
    "given", [lambda path: path, str, open_bundle], ids=["path", "str", "open"]
)
def test_a_whole_bundle_may_take_over_a_deployed_base(given, export, deployed, tmp_path):
    export(tmp_path / "whole", whole=True, base_graph=None, deployed=given(deployed))
    assert file_digest(tmp_path / "whole/base.onnx") == file_digest(deployed / "base.onnx")


def test_the_gate_runs_on_the_deployed_base(export, pictures, tmp_path):
    export(tmp_path / "other", whole=True, base=make_base(seed=5))
    with pytest.raises(ParityError, match=r"on the base of .*other: .* differ from Keras"):
        export(tmp_path / "head", deployed=tmp_path / "other")
    assert not (tmp_path / "head").exists()
    loose = Bounds(max_difference=1.0, min_agreement=0.0)
    export(tmp_path / "head", deployed=tmp_path / "other", bounds=loose)
    Classifier(tmp_path / "other", head=tmp_path / "head").close()


def test_a_deployed_base_of_another_kind_is_refused(export, deployed, tmp_path):
    with pytest.raises(BundleError, match="in the size or resizing of pictures; train the head on"):
        export(tmp_path / "head", deployed=deployed, preprocessing=PADDED)


def test_a_head_is_no_deployed_base(export, tmp_path):
    export(tmp_path / "head")
    with pytest.raises(BundleError, match="is a head without its base; give the bundle"):
        export(tmp_path / "again", deployed=tmp_path / "head")


def test_a_head_never_takes_the_place_of_a_whole_bundle(export, deployed):
    before = sorted(path.name for path in deployed.iterdir())
    with pytest.raises(OutputError, match="holds a whole bundle; give the head a place of its own"):
        export(deployed, deployed=deployed)
    assert sorted(path.name for path in deployed.iterdir()) == before


def test_an_earlier_head_is_replaced(export, tmp_path):
    export(tmp_path / "head")
    export(tmp_path / "head", ("p", "q", "r", "s"))
    assert open_bundle(tmp_path / "head").manifest.labels == ("p", "q", "r", "s")


@pytest.mark.parametrize("name", ["single_graph", "quantize", "calibration_files", "no_such"])
def test_an_option_of_the_base_is_none_of_a_head(name, export, tmp_path):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        export(tmp_path / "head", **{name: None})


def test_a_large_base_is_no_obstacle_to_an_archive_of_the_head(export, tmp_path, monkeypatch):
    monkeypatch.setattr("fic_export.graphs.files.LARGEST", 500)
    monkeypatch.setattr("fic_export.graphs.files._SMALLEST_OUTSIDE", 500)
    manifest = export(tmp_path / "head.zip", base_graph=None)
    assert set(manifest.base_files) == {"base.onnx", "base.onnx.data"}
    assert "base.onnx.data" not in manifest.own_files
