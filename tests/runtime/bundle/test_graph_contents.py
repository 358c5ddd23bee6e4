"""A graph is looked into before it runs: nothing custom, unknown, or from elsewhere."""

import numpy as np
import pytest

from fic_runtime.bundle import open_bundle
from fic_runtime.bundle.graph_contents import contents_of_file, read_contents
from fic_runtime.errors import BundleError


def varint(number):
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def message(*fields):
    """Return a protobuf message of (number, value) pairs; text, bytes and whole numbers."""
    data = b""
    for number, value in fields:
        if isinstance(value, int):
            data += varint(number << 3) + varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            data += varint(number << 3 | 2) + varint(len(content)) + content
    return data


def in_graph(*fields):
    return message((7, message(*fields)))


def node(*fields):
    return in_graph((1, message((4, "Mystery"), *fields)))


def nested(depth, inner):
    for _ in range(depth):
        inner = message((1, message((4, "If"), (5, message((6, inner))))))
    return message((7, inner))


def outside(location):
    return message((1, 1), (2, 1), (13, message((1, "location"), (2, location))), (14, 1))


CUSTOM = message((1, message((4, "Mystery"), (7, "acme"))))


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (node((7, "acme")), "acme.Mystery"),
        (node((7, "com.microsoft")), "com.microsoft.Mystery"),
        # The last one would count; what is refused does not hang on such rules.
        (node((7, "acme"), (7, "")), "acme.Mystery"),
        (nested(3, CUSTOM), "acme.Mystery"),
        (message((7, message((1, message((5, message((11, CUSTOM)))))))), "acme.Mystery"),
        (message((25, message((1, "Relu")))), "a function of its own"),
        (message((20, b"")), "a training step"),
    ],
    ids=["domain", "microsoft", "twice", "nested", "list of graphs", "function", "training"],
)
def test_custom_operators_are_refused_wherever_they_are(more, name, bundle, replace):
    replace("base.onnx", (bundle / "base.onnx").read_bytes() + more)
    with pytest.raises(BundleError, match=r"base\.onnx: uses custom operators") as caught:
        open_bundle(bundle)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operator", ["Loop", "If", "Scan", "SequenceMap"])
@pytest.mark.parametrize("name", ["base.onnx", "head.onnx", "classifier.onnx"])
def test_loops_and_branches_are_refused_in_every_graph(name, operator, bundle, replace):
    graph = (bundle / ("head.onnx" if name == "classifier.onnx" else name)).read_bytes()
    replace(name, graph + in_graph((1, message((4, operator)))))
    with pytest.raises(BundleError, match=rf"{name}: holds loops or branches .*{operator}"):
        open_bundle(bundle)


def test_a_graph_within_a_node_is_refused_whatever_the_node_is_called(bundle, replace):
    more = nested(1, message((2, "inner"))).replace(b"If", b"Up")
    replace("base.onnx", (bundle / "base.onnx").read_bytes() + more)
    with pytest.raises(BundleError, match=r"holds loops or branches .*a graph within a node"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "more",
    [
        lambda: message((7, message((1, b"")) * 100_001)),
        lambda: message((7, message((5, b"")) * 100_001)),
        lambda: in_graph((1, message((1, b"")) * 1_000_001)),
        lambda: in_graph((13, bytes(5 << 20))),
        lambda: node((5, message((14, bytes(5 << 20))))),
        lambda: message((8, b"")) * 1_000_001,
    ],
    ids=["nodes", "constants", "inputs", "descriptions", "types", "fields"],
)
def test_a_graph_of_endless_parts_is_refused(more, golden):
    with pytest.raises(ValueError, match="it holds more parts than any classifier"):
        read_contents((golden / "base.onnx").read_bytes() + more())


@pytest.mark.parametrize("kind", [0, 8, 14, 99, 1 << 32 | 1])
@pytest.mark.parametrize("place", ["initializer", "attribute", "sparse"])
def test_constants_of_an_unknown_element_type_are_refused(kind, place, bundle, replace):
    tensor = message((2, kind))
    more = {
        "initializer": in_graph((5, tensor)),
        "attribute": node((5, message((5, tensor)))),
        "sparse": in_graph((15, message((1, tensor)))),
    }[place]
    replace("head.onnx", (bundle / "head.onnx").read_bytes() + more)
    with pytest.raises(BundleError, match=rf"head\.onnx: holds constants of element type {kind}"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "C:\\secret", "base.onnx.data", "", "a/b", "é" * 500]
)
def test_weights_that_are_no_file_of_the_bundle_are_refused(location, bundle, replace):
    (bundle / "base.onnx.data").write_bytes(b"not under a digest")
    more = in_graph((5, outside(location)))
    replace("base.onnx", (bundle / "base.onnx").read_bytes() + more)
    with pytest.raises(BundleError, match=r"base\.onnx: has weights in .* is not a file of the"):
        open_bundle(bundle)


def test_weights_said_to_be_outside_without_saying_where_are_refused(bundle, replace):
    more = in_graph((5, message((2, 1), (14, 1))))
    replace("base.onnx", (bundle / "base.onnx").read_bytes() + more)
    with pytest.raises(BundleError, match="is not a file of the"):
        open_bundle(bundle)


def test_weights_beside_the_graph_are_read_from_a_folder_and_not_from_an_archive(
    bundle, replace, tmp_path
):
    from zipfile import ZipFile

    replace("base.onnx.data", bytes(4))
    replace(
        "base.onnx", (bundle / "base.onnx").read_bytes() + in_graph((5, outside("base.onnx.data")))
    )
    open_bundle(bundle)
    with ZipFile(tmp_path / "b.zip", "w") as archive:
        for file in bundle.iterdir():
            archive.write(file, file.name)
    with pytest.raises(BundleError, match="unpack the archive and give the folder"):
        open_bundle(tmp_path / "b.zip")


@pytest.mark.parametrize("data", [b"", b"not a graph", bytes(100), b"\xff" * 20], ids=repr)
def test_a_file_that_is_no_graph_is_refused(data, bundle, replace):
    replace("head.onnx", data)
    with pytest.raises(BundleError, match=r"head\.onnx: is not an ONNX graph"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (b"\x0b\x0c", "damaged"),  # a group
        (varint(7 << 3 | 2 | 1 << 35) + b"\x00", "damaged"),  # field 7 to who cuts the tag
        (b"\x3a\x05ab", "cut off"),
        (b"\x3a" + b"\xff" * 10 + b"\x01", "damaged"),
        (message((7, 3)), "damaged"),
        (nested(40, CUSTOM), "nested too deeply"),
    ],
    ids=["group", "long tag", "cut off", "long number", "number for graph", "deep"],
)
def test_what_parsers_might_understand_differently_is_refused(more, reason, golden):
    with pytest.raises(ValueError, match=reason):
        read_contents((golden / "base.onnx").read_bytes() + more)


def test_graphs_of_the_exporter_hold_nothing_of_that(golden):
    for name in ("base.onnx", "head.onnx"):
        contents = contents_of_file(golden / name)
        assert (contents.custom, contents.locations) == (set(), set())
        assert contents.types <= {1, 7}


def test_no_changed_byte_is_more_than_an_error(golden):
    whole = (golden / "head.onnx").read_bytes()
    random = np.random.default_rng(0)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= int(random.integers(1, 256))
        try:
            read_contents(bytes(data))
        except ValueError:
            continue
