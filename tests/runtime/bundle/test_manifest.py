"""What the reader of a manifest refuses, and what it lets pass."""

import json
from dataclasses import replace

import pytest

from fic_runtime.bundle.files import bundle_files
from fic_runtime.bundle.manifest import FORMAT, Manifest, read_manifest
from fic_runtime.errors import BundleError

REFUSED = {
    "newer format": (
        lambda m: m.update(format=FORMAT + 1),
        rf"format {FORMAT + 1} is newer than this runtime reads \({FORMAT}\); upgrade fic-runtime",
    ),
    "format zero": (lambda m: m.update(format=0), "format 0 is not a format number"),
    "format as text": (lambda m: m.update(format="1"), "format '1' is not a format number"),
    "format true": (lambda m: m.update(format=True), "format True is not a format number"),
    "no format": (lambda m: m.pop("format"), "the field 'format' is missing"),
    "no labels": (lambda m: m.pop("labels"), "the field 'labels' is missing"),
    "labels as text": (lambda m: m.update(labels="abc"), "'abc' should be a list"),
    "a label as number": (lambda m: m["labels"].__setitem__(0, 7), "7 should be text"),
    "a label too few": (lambda m: m["labels"].pop(), r"the head's output is float32 \(n, 3\)"),
    "a label twice": (
        lambda m: m.update(labels=["a", "b", "a"]),
        "the label 'a' stands there 2 times",
    ),
    "no files": (lambda m: m.pop("files"), "the field 'files' is missing"),
    "files as list": (lambda m: m.update(files=["base.onnx"]), "should be an object"),
    "a digest as number": (lambda m: m["files"].update({"base.onnx": 5}), "5 should be text"),
    "a graph without digest": (
        lambda m: m["files"].pop("head.onnx"),
        "head.onnx has no checksum",
    ),
    "parent folder": (
        lambda m: m["base"].update(file="../base.onnx"),
        "'../base.onnx' is not the name of a file inside the bundle",
    ),
    "absolute path": (lambda m: m["base"].update(file="/etc/passwd"), "not the name of a file"),
    "drive": (lambda m: m["head"].update(file="C:head.onnx"), "not the name of a file"),
    "backslash": (lambda m: m["head"].update(file="..\\head.onnx"), "not the name of a file"),
    "parent itself": (lambda m: m["files"].update({"..": ""}), "'..' is not the name of a file"),
    "path among the files": (
        lambda m: m["files"].update({"../../secret": "00"}),
        "'../../secret' is not the name of a file",
    ),
    "null byte": (lambda m: m["files"].update({"a\0b": "00"}), "not the name of a file"),
    "no file name": (lambda m: m["base"].update(file=""), "'' is not the name of a file"),
    "base as text": (lambda m: m.update(base="base.onnx"), "'base.onnx' should be an object"),
    "no head": (lambda m: m.pop("head"), "the field 'head' is missing"),
    "tensor without name": (lambda m: m["head"]["input"].pop("name"), "field 'name' is missing"),
    "no shape": (lambda m: m["head"]["input"].update(shape=[]), r"the shape \[\] is not a batch"),
    "fixed batch": (
        lambda m: m["head"]["input"].update(shape=[1, 12]),
        r"the shape \[1, 12\] is not a batch of items",
    ),
    "free item size": (
        lambda m: m["head"]["input"].update(shape=[None, None]),
        "is not a batch of items",
    ),
    "size zero": (lambda m: m["base"]["output"].update(shape=[None, 0]), "is not a batch of items"),
    "size as text": (
        lambda m: m["base"]["output"].update(shape=[None, "12"]),
        "is not a batch of items",
    ),
    "other bottleneck": (
        lambda m: m["head"]["input"].update(shape=[None, 13]),
        r"the head's input is float32 \(n, 13\).*ask for float32 \(n, 12\)",
    ),
    "half precision bottleneck": (
        lambda m: m["base"]["output"].update(dtype="float16"),
        "the base's output is float16",
    ),
    "other picture size": (
        lambda m: m["preprocessing"]["geometry"].update(height=33),
        r"the base's input is uint8 \(n, 32, 40, 3\).*ask for uint8 \(n, 33, 40, 3\)",
    ),
    "float pictures": (
        lambda m: m["base"]["input"].update(dtype="float32"),
        "the base's input is float32",
    ),
    "unknown preprocessing": (
        lambda m: m["preprocessing"]["geometry"].update(resize="seam"),
        "resize 'seam' is unknown to this runtime .*upgrade fic-runtime",
    ),
    "names alike": (
        lambda m: m["files"].update({"LABELS.TXT": "00"}),
        "'labels.txt' and 'LABELS.TXT' are one file to some systems",
    ),
    "a second manifest": (
        lambda m: m["files"].update({"Manifest.JSON": "00"}),
        "are one file to some systems",
    ),
    "a dot at the end": (lambda m: m["files"].update({"a.": "00"}), "not the name of a file"),
    "a terminal's command": (
        lambda m: m["files"].update({"a\x1b[2J": "00"}),
        "not the name of a file",
    ),
    "a huge input": (
        lambda m: m["preprocessing"]["geometry"].update(height=2**31, width=2**31),
        "an input of 2147483648x2147483648 pixels is past the limit",
    ),
    "a huge bottleneck": (
        lambda m: m["base"]["output"].update(shape=[None, 5000, 5000]),
        "has more features than any base",
    ),
    "a size past all numbers": (
        lambda m: m["base"]["output"].update(shape=[None, 10**400]),
        "is not a batch of items",
    ),
    "endless axes": (
        lambda m: m["base"]["output"].update(shape=[None, *[1] * 100]),
        "is not a batch of items",
    ),
    "lists within lists": (
        lambda m: m.update(origin={"a": json.loads("[" * 30 + "1" + "]" * 30)}),
        "nested too deeply",
    ),
    "a single graph elsewhere": (
        lambda m: m.update(single_graph={"file": ["classifier.onnx"]}),
        "not the name of a file",
    ),
    "a difference past all numbers": (
        lambda m: m.update(
            known={"method": "energy", "file": None, "false_rejection": 0.1, "threshold": 10**400}
        ),
        "int too large to convert to float",
    ),
    "origin as text": (lambda m: m.update(origin="x"), "'x' should be an object"),
    "metrics null": (lambda m: m.update(metrics=None), "None should be an object"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_reader_refuses(fault, bundle, edit):
    change, message = REFUSED[fault]
    edit(change)
    with pytest.raises(BundleError, match=message) as caught:
        read_manifest(bundle_files(bundle))
    text = str(caught.value)
    assert text.startswith(f"{bundle / 'manifest.json'}: ")
    assert text.endswith(("; export the bundle again", "; upgrade fic-runtime"))
    assert "\n" not in text


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"format": 1, "labels": ["da', "[" * 100_000, "\x00\x01", "1" * 5000],
    ids=["empty", "brace", "truncated", "deep", "binary", "long number"],
)
def test_what_is_not_json_is_refused(text, bundle):
    (bundle / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"manifest\.json: not JSON .*export the bundle again"):
        read_manifest(bundle_files(bundle))


@pytest.mark.parametrize("value", ["null", "[]", "1", '"text"'])
def test_json_that_is_no_object_is_refused(value, bundle):
    (bundle / "manifest.json").write_text(value)
    with pytest.raises(BundleError, match="should be an object; export the bundle again"):
        read_manifest(bundle_files(bundle))


def test_every_truncated_manifest_is_refused(golden):
    text = (golden / "manifest.json").read_text("utf-8").rstrip()
    for end in range(len(text)):
        with pytest.raises(BundleError):
            Manifest.from_json(text[:end])


def test_long_nonsense_is_not_repeated_in_the_error(bundle, edit):
    edit(lambda m: m.update(labels="x" * 10**6))
    with pytest.raises(BundleError) as caught:
        read_manifest(bundle_files(bundle))
    assert len(str(caught.value)) < 500


def test_bytes_that_are_no_text_are_refused(bundle):
    (bundle / "manifest.json").write_bytes(b'{"format": 1, "\xff\xfe"}')
    with pytest.raises(BundleError, match="is not UTF-8 text"):
        read_manifest(bundle_files(bundle))


@pytest.mark.parametrize("value", ["[],", "{},", "0,"])
def test_a_manifest_of_endless_values_is_refused_before_it_is_parsed(value, golden):
    text = (golden / "manifest.json").read_text("utf-8").rstrip().removesuffix("}")
    with pytest.raises(BundleError, match="it holds more values than any manifest"):
        Manifest.from_json(f'{text}, "z": [{value * 3_000_001}0]}}')


def test_huge_manifest_is_refused_before_it_is_read(bundle):
    with (bundle / "manifest.json").open("r+b") as file:
        file.truncate(2**40)  # a sparse file: reading it would take a terabyte
    with pytest.raises(BundleError, match="larger than any manifest"):
        read_manifest(bundle_files(bundle))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "nowhere",
            "no such file or folder, so no manifest.json there; give what",
        ),
        ("empty", "no manifest.json there"),
        ("bundle/base.onnx", "is neither a folder nor a zip archive"),
        ("bundle/manifest.json", "is neither a folder nor a zip archive"),
        ("a" * 300, "cannot be read"),
    ],
)
def test_a_place_without_bundle_is_named(place, message, bundle):
    (bundle.parent / "empty").mkdir()
    with pytest.raises(BundleError, match=message) as caught:
        read_manifest(bundle_files(bundle.parent / place))
    assert place in str(caught.value)


def test_a_folder_called_manifest_is_refused(bundle):
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        read_manifest(bundle_files(bundle))


def test_writing_what_was_read_gives_the_same_text(golden):
    text = (golden / "manifest.json").read_text("utf-8")
    assert Manifest.from_json(text).to_json() == text


def test_fields_of_later_versions_are_ignored(bundle, edit):
    before = read_manifest(bundle_files(bundle))
    edit(lambda m: m.update(something_later={"temperature": 2}))
    edit(lambda m: m["base"].update(quantized="int8"))
    assert read_manifest(bundle_files(bundle)) == before


@pytest.mark.parametrize("field", ["origin", "parity", "metrics", "versions"])
def test_what_is_only_shown_may_be_missing(field, bundle, edit):
    edit(lambda m: m.pop(field))
    assert getattr(read_manifest(bundle_files(bundle)), field) == {}


def test_a_figure_that_is_no_number_cannot_be_written(golden):
    manifest = Manifest.from_json((golden / "manifest.json").read_text("utf-8"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(manifest, metrics={"accuracy": float("nan")}).to_json()


@pytest.mark.parametrize("figure", ["NaN", "-Infinity", "1e999", "-1e999"])
def test_a_figure_that_is_no_number_is_not_read(figure, golden):
    text = (golden / "manifest.json").read_text("utf-8")
    with pytest.raises(BundleError, match=r"is none of its values|is past the largest number"):
        Manifest.from_json(text.replace('"metrics": {', f'"metrics": {{"a": {figure}, ', 1))


def test_a_run_is_told_from_a_bundle(tmp_path):
    (tmp_path / "run.json").touch()
    with pytest.raises(BundleError, match="is a run, not a bundle; make one of it"):
        read_manifest(bundle_files(tmp_path))
