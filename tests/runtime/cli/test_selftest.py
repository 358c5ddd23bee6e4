"""`fic-runtime selftest`: whether this device gives the results of the export."""

import json

import pytest


def test_a_self_test_that_passes_is_code_0(run, golden):
    code, out, err = run("selftest", golden, "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.startswith("3 pictures on CPUExecutionProvider\n")
    assert out.endswith("\npassed\n")


@pytest.fixture
def tampered(bundle, replace):
    data = (bundle / "head.onnx").read_bytes()
    replace("head.onnx", data[:-400] + data[-400:].replace(b"\x3f", b"\xbf"))
    return bundle


def test_a_self_test_that_fails_is_code_3(run, tampered):
    code, out, err = run("selftest", tampered)
    assert (code, err) == (3, "")
    assert out.endswith("\nFAILED: this device gives other results\n")


def test_a_self_test_in_json_says_whether_it_passed(run, golden, tampered):
    for folder, passed, expected in ((golden, True, 0), (tampered, False, 3)):
        code, out, _ = run("selftest", folder, "--json")
        result = json.loads(out)
        assert (code, result.pop("passed")) == (expected, passed)
        assert result.keys() == {
            "provider",
            "pictures",
            "pixels",
            "bottlenecks",
            "probabilities",
            "bottlenecks_tolerance",
            "probabilities_tolerance",
        }
