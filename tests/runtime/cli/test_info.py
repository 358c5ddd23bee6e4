"""`fic-runtime info`: what is in a bundle."""

import json


def test_info_shows_what_is_in_a_bundle(run, golden):
    code, out, err = run("info", golden)
    assert (code, err) == (0, "")
    for part in ("3: daisy, Sonnenblume, groß", "40x32 RGB, crop", "tiny", "accuracy", "base.onnx"):
        assert part in out


def test_info_in_json_is_the_manifest(run, golden):
    _, out, _ = run("info", golden, "--json")
    written = json.loads((golden / "manifest.json").read_text("utf-8"))
    # What came later has its default.
    assert json.loads(out) == json.loads(out) | written
