"""The Open Inference Protocol: what clients of Triton and KServe send, and what they get."""

import base64
import json
import struct

import numpy as np
import pytest

from fic_runtime import Classifier

INFER = "/v2/models/bundle-v1/infer"
PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3]}


@pytest.fixture
def classifier(golden):
    with Classifier(golden, threads=1) as classifier:
        yield classifier


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8)


def request(*files, **more):
    data = [base64.b64encode(file).decode() for file in files]
    tensor = {"name": "file", "datatype": "BYTES", "shape": [len(files)], "data": data}
    return {"inputs": [tensor | more.pop("tensor", {})], **more}


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {each["name"]: each["data"] for each in answer.json()["outputs"]}


def test_what_is_served_is_described(client):
    assert client.get("/v2").json()["name"] == "fic-runtime"
    model = client.get("/v2/models/bundle-v1").json()
    assert [each["name"] for each in model["inputs"]] == ["file", "pixels"]
    assert model["outputs"][2] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    assert client.get("/v2/models/bundle-v1/versions/1/ready").json()["ready"] is True
    for path in ("/v2/models/other", "/v2/models/bundle-v1/versions/2"):
        assert client.get(path).status_code == 404


def test_an_id_of_any_text_comes_back(client, picture):
    text = json.dumps(request(picture, id="?")).replace('"?"', '"\\ud800\\u202e"')
    answer = client.post(INFER, content=text.encode())
    assert answer.status_code == 200
    assert answer.json()["id"] == "\ud800\u202e"


def test_pictures_in_a_tail_are_counted_before_they_are_taken_apart(client):
    tensor = {"name": "file", "datatype": "BYTES", "shape": [1]}
    tensor["parameters"] = {"binary_data_size": 40_000}
    header = json.dumps({"inputs": [tensor]}).encode()
    length = {"Inference-Header-Content-Length": str(len(header))}
    answer = client.post(INFER, content=header + bytes(40_000), headers=length)
    assert answer.status_code == 400
    assert "2 pictures come for the shape [1]" in answer.json()["error"]


def test_files_in_json_get_the_answers_of_the_classifier(client, classifier, picture, golden):
    files = [picture, (golden / "small.png").read_bytes()]
    answer = client.post(INFER, json=request(*files, id="7"))
    alone = classifier.predict_batch(files, 1)
    found = outputs(answer)
    assert answer.json()["id"] == "7"
    assert found["label"] == [each.label for each in alone]
    assert found["index"] == [each.index for each in alone]
    # Numbers of JSON are read back to the very float32.
    expected = np.concatenate([each.probabilities for each in alone])
    assert (np.array(found["probabilities"], np.float32) == expected).all()


@pytest.mark.parametrize("flat", [True, False])
def test_pixels_in_json_are_those_of_an_array(client, classifier, pixels, flat):
    data = (pixels.ravel() if flat else pixels).tolist()
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [2, 50, 60, 3], "data": data}
    found = outputs(client.post(INFER, json={"inputs": [tensor]}))
    assert found["label"] == [classifier.predict(each).label for each in pixels]


def test_binary_tensors_go_both_ways(client, classifier, pixels):
    tensor = {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": [2, 50, 60, 3],
        "parameters": {"binary_data_size": pixels.nbytes},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = client.post(
        INFER,
        content=text + pixels.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(text))},
    )
    assert answer.headers["Content-Type"] == "application/octet-stream"
    length = int(answer.headers["Inference-Header-Content-Length"])
    tail = answer.content[length:]
    values = {}
    for output in json.loads(answer.content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        values[output["name"]], tail = tail[:size], tail[size:]
    assert not tail
    alone = [classifier.predict(each) for each in pixels]
    assert values["probabilities"] == b"".join(each.probabilities.tobytes() for each in alone)
    assert values["label"] == b"".join(
        struct.pack("<I", len(each.label.encode())) + each.label.encode() for each in alone
    )


def test_only_what_is_asked_for_is_sent_and_classes_as_text(client, classifier, picture):
    wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
    found = outputs(client.post(INFER, json=request(picture, outputs=wanted)))
    best = classifier.predict(picture).top(2)
    assert found == {
        "probabilities": [f"{each.probability:f}:{each.index}:{each.label}" for each in best]
    }


def test_known_and_the_score_are_outputs_where_the_bundle_has_them(serve, doubting, picture):
    client = serve(doubting, name="model")
    found = outputs(client.post("/v2/models/model/infer", json=request(picture)))
    with Classifier(doubting, threads=1) as classifier:
        alone = classifier.predict(picture)
    assert (found["known"], found["ood_score"]) == ([False], [alone.ood_score])
    names = [each["name"] for each in client.get("/v2/models/model").json()["outputs"]]
    assert names[-2:] == ["known", "ood_score"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": []}, "one tensor"),
        ({"inputs": [1]}, "one tensor"),
        ({"id": 1}, "id is a text"),
        ({"parameters": []}, "parameters is an object"),
        ({"parameters": {"binary_data_output": 1}}, "true or false"),
        ({"outputs": {}}, "outputs is a list"),
        ({"outputs": [{}]}, "an output has a name"),
        ({"outputs": [{"name": "other"}]}, "no output 'other'"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "only prob"),
        ({"outputs": [{"name": "label", "parameters": {"classification": -1}}]}, "number of"),
        ({"tensor": {"name": "pixels"}}, "the input is"),
        ({"tensor": {"shape": "1"}}, "list of sizes"),
        ({"tensor": {"shape": [2]}}, "1 pictures come"),
        ({"tensor": {"shape": [1, 2]}}, "shape of file"),
        ({"tensor": {"shape": [17]}}, "at most 16 pictures"),
        ({"tensor": {"data": None}}, "neither a list"),
        ({"tensor": {"data": ["!"]}}, "not base64"),
        ({"tensor": {"data": ["aGFsbG8="]}}, "picture 0: not a picture"),
        ({"tensor": {"parameters": {"binary_data_size": 9}}}, "binary_data_size is 9"),
        ({"tensor": {**PIXELS, "data": [1]}}, "does not fit"),
        ({"tensor": {**PIXELS, "data": [1, 2, 256]}}, "0 to 255"),
        ({"tensor": {**PIXELS, "data": [1, 2, 0.5]}}, "0 to 255"),
        ({"tensor": {**PIXELS, "data": [[1], 2, 3]}}, "does not fit"),
        ({"tensor": {**PIXELS, "data": [], "shape": [1, 0, 1, 3]}}, "the shape of pixels"),
        ({"tensor": {**PIXELS, "data": [1], "shape": [1, 9999, 9999, 3]}}, "past the limit"),
    ],
)
def test_what_makes_no_sense_is_told(client, picture, change, says):
    answer = client.post(INFER, json=request(picture, **change))
    assert answer.status_code == 400
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("tail", "length", "says"),
    [
        (b"\x05\0\0\0abc", None, "ends within"),
        (b"\x05\0", None, "ends within"),
        (b"", "x", "not a number"),
        (b"", "99999", "for a body of"),
        (b"", "0", "for a body of"),
    ],
)
def test_binary_data_that_ends_early_is_told(client, tail, length, says):
    tensor = {"name": "file", "datatype": "BYTES", "shape": [1]}
    tensor["parameters"] = {"binary_data_size": len(tail)}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(text))}
    answer = client.post(INFER, content=text + tail, headers=headers)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_the_client_of_nvidia_gets_the_answers_to_the_bit(server, golden, classifier, pixels):
    http = pytest.importorskip("tritonclient.http", exc_type=ImportError)
    files = [file.read_bytes() for file in sorted(golden.glob("*.png"))]
    client = http.InferenceServerClient(f"127.0.0.1:{server(golden).port}")
    try:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("bundle-v1")
        for name, kind, pictures, array in (
            ("file", "BYTES", files, np.array(files, dtype=object)),
            ("pixels", "UINT8", list(pixels), pixels),
        ):
            alone = np.stack([classifier.predict(each).probabilities for each in pictures])
            for binary in (True, False):
                tensor = http.InferInput(name, list(array.shape), kind)
                if name == "file" and not binary:
                    array = np.array([base64.b64encode(file) for file in files], dtype=object)
                tensor.set_data_from_numpy(array, binary_data=binary)
                wanted = http.InferRequestedOutput("probabilities", binary_data=binary)
                for outputs in (None, [wanted]):
                    result = client.infer("bundle-v1", [tensor], outputs=outputs)
                    found = result.as_numpy("probabilities")
                    assert found.dtype == np.float32
                    assert found.tobytes() == alone.tobytes()
        with pytest.raises(http.InferenceServerException, match="no model is called"):
            client.get_model_metadata("other")
    finally:
        client.close()
