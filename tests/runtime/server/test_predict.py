"""`POST /predict` and the pages beside it, asked without a network."""

import base64
import gc
import json
import logging
import re
import struct
import zlib

import cv2
import numpy as np
import pytest

from fic_runtime import Classifier, MultiClassifier
from fic_runtime.server import Limits
from fic_runtime.server.workers import Picture


def png(width, height):
    """Return a black picture as PNG: small, whatever its size in pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(bytes((width + 1) * height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def as_json(*files):
    return {"images": [base64.b64encode(file).decode() for file in files]}


def test_the_answer_is_that_of_the_classifier_to_the_bit(client, golden, picture):
    with Classifier(golden, threads=1) as classifier:
        alone = classifier.predict(picture)
    answer = client.post("/predict?top=2", content=picture)
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "bundle-v1",
        "predictions": [
            {
                "file": "image",
                "label": alone.label,
                "index": alone.index,
                "probability": alone.probability,
                "known": None,
                "ood_score": None,
                "top": [
                    {"label": each.label, "probability": each.probability} for each in alone.top(2)
                ],
            }
        ],
    }


def test_every_form_of_a_body_gets_the_same_answers(client, picture, golden):
    small = (golden / "small.png").read_bytes()
    alone = [
        client.post("/predict", content=each).json()["predictions"][0] for each in (picture, small)
    ]
    files = [("file", ("a.png", picture)), ("other", ("b.png", small))]
    form = client.post("/predict", files=files, data={"text": "left out"}).json()["predictions"]
    several = client.post("/predict", json=as_json(picture, small)).json()["predictions"]
    one = client.post("/predict", json={"image": as_json(small)["images"][0]}).json()["predictions"]
    assert [each.pop("file") for each in form] == ["a.png", "b.png"]
    for each in (*alone, *several, *one):
        each.pop("file")
    assert form == several == alone
    assert one == alone[1:]


def test_known_and_the_score_are_in_the_answer(serve, doubting, picture):
    (found,) = serve(doubting).post("/predict", content=picture).json()["predictions"]
    with Classifier(doubting, threads=1) as classifier:
        alone = classifier.predict(picture)
    assert found["known"] is False
    assert found["ood_score"] == alone.ood_score


def test_several_heads_answer_by_name(serve, golden, make_head, tmp_path, picture):
    heads = {"one": make_head(tmp_path / "a", bias=9), "two": make_head(tmp_path / "b", bias=-9)}
    with MultiClassifier(golden, heads, threads=1) as classifier:
        client = serve(classifier)
        (found,) = client.post("/predict", content=picture).json()["predictions"]
        alone = classifier.predict(picture)
        assert client.get("/v2/models/two").json()["labels"] == ["eins", "zwei", "drei"]
    assert {name: each["probability"] for name, each in found["heads"].items()} == {
        name: each.probability for name, each in alone.items()
    }


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "says"),
    [
        ("/predict", b"no picture", {}, 400, "not a picture"),
        ("/predict", b"", {}, 400, "empty"),
        ("/predict?top=none", b"x", {}, 400, "top is a whole number"),
        ("/predict?top=0", b"x", {}, 400, "top is a whole number"),
        ("/predict", b"{", {"Content-Type": "application/json"}, 400, "not JSON"),
        ("/predict", b"[" * 99_999, {"Content-Type": "application/json"}, 400, "not JSON"),
        ("/predict", b"[]", {"Content-Type": "application/json"}, 400, "not a JSON object"),
        ("/predict", b"{}", {"Content-Type": "application/json"}, 400, "image"),
        ("/predict", b'{"image": 1}', {"Content-Type": "application/json"}, 400, "not base64"),
        ("/predict", b'{"image": "?"}', {"Content-Type": "application/json"}, 400, "not base64"),
        ("/predict", b'{"images": []}', {"Content-Type": "application/json"}, 400, "no picture"),
        ("/predict", b'{"\\ud800\\u202e": 1}', {"Content-Type": "application/json"}, 400, "ud800"),
        ("/predict", b"x", {"Content-Type": "multipart/form-data"}, 400, "multipart"),
        ("/predict", b"x", {"Content-Length": "abc"}, 400, "not a number of bytes"),
        ("/predict", b"x", {"Content-Encoding": "gzip"}, 415, "not compressed"),
        ("/elsewhere", b"x", {}, 404, "Not Found"),
        ("/metrics", b"x", {}, 405, "Method Not Allowed"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why_in_json(
    client, path, content, headers, status, says
):
    answer = client.post(path, content=content, headers=headers)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


# More of them than a body has room for would be taken apart before they are counted.
@pytest.mark.parametrize(
    ("path", "start", "item", "end"),
    [
        ("/predict", b'{"images": [', b'"",', b'""]}'),
        (
            "/v2/models/bundle-v1/infer",
            b'{"inputs": [{"name": "file", "datatype": "BYTES", "shape": [1], "data": [',
            b'"",',
            b'""]}]}',
        ),
    ],
)
def test_pictures_are_counted_before_they_are_taken_apart(
    client, monkeypatch, path, start, item, end
):
    monkeypatch.setattr("base64.b64decode", lambda *_, **__: pytest.fail("it was taken apart"))
    content = start + item * 10_000 + end
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "at most 16 pictures" in answer.json()["error"]


def test_a_picture_among_several_that_cannot_be_read_is_named(client, picture):
    files = [("file", ("good.png", picture)), ("file", ("bad.png", picture[:900]))]
    answer = client.post("/predict", files=files)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("bad.png: ")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(serve, golden, monkeypatch):
    client = serve(golden)
    assert client.post("/predict", content=png(5000, 5000)).status_code == 200
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    answer = client.post("/predict", content=png(6000, 6000))
    assert answer.status_code == 400
    assert "past the limit of 33554432 pixels" in answer.json()["error"]


@pytest.mark.parametrize(("given", "limit"), [({}, 100), ({"max_pixels": 120}, 120)])
def test_the_limit_of_pixels_is_that_of_the_environment_unless_one_is_given(
    serve, golden, monkeypatch, given, limit
):
    monkeypatch.setenv("FIC_MAX_PIXELS", "100")
    client = serve(golden, limits=Limits(**given))
    answer = client.post("/predict", content=png(11, 11))
    assert answer.status_code == 400
    assert f"past the limit of {limit} pixels" in answer.json()["error"]


def test_the_limits_of_bytes_and_pictures_hold(serve, golden, picture):
    client = serve(golden, limits=Limits(max_bytes=5 * len(picture), max_pictures=2))
    assert client.post("/predict", content=bytes(5 * len(picture) + 1)).status_code == 413
    for form in ({"json": as_json(*[picture] * 3)}, {"files": [("f", picture)] * 3}):
        answer = client.post("/predict", **form)
        assert answer.status_code == 400
        assert "at most 2 pictures" in answer.json()["error"]


def test_bodies_in_memory_are_limited_together(serve, golden, picture):
    client = serve(golden, limits=Limits(max_held_bytes=len(picture) - 1))
    answer = client.post("/predict", content=picture)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "fic_held_bytes 0.0" in client.get("/metrics").text


def test_a_form_with_endless_fields_is_refused(client):
    answer = client.post("/predict", files=[(f"f{n}", (None, "x")) for n in range(100)])
    assert answer.status_code == 400
    assert "fields" in answer.json()["error"]


def test_head_and_options_are_answered(client):
    assert client.head("/v2/health/ready").status_code == 200
    answer = client.options("/predict")
    assert (answer.status_code, answer.headers["Allow"]) == (204, "POST, OPTIONS")
    assert client.options("/nowhere").status_code == 404


def test_pages_of_other_origins_may_ask_where_that_is_wanted(serve, golden, picture):
    headers = {"Origin": "https://example.org"}
    plain, open = serve(golden), serve(golden, cors=["https://example.org"])
    asked = {**headers, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in plain.post("/predict", headers=headers).headers
    assert open.options("/predict", headers=asked).headers["access-control-allow-origin"]
    answer = open.post("/predict", content=picture, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://example.org"


def test_a_request_keeps_its_id_or_gets_one(client):
    given = client.get("/v2", headers={"X-Request-ID": "abc-1"})
    assert given.headers["X-Request-ID"] == "abc-1"
    for strange in ({}, {"X-Request-ID": 'a"} b'}, {"X-Request-ID": "a" * 200}):
        assert re.fullmatch(
            "[0-9a-f]{32}", client.get("/v2", headers=strange).headers["X-Request-ID"]
        )


def test_the_log_has_an_object_for_each_request(client, picture, caplog):
    caplog.set_level(logging.INFO, "fic_runtime.server.access")
    client.post("/predict", content=picture, headers={"X-Request-ID": "abc"})
    line = json.loads(caplog.messages[-1])
    assert line.pop("milliseconds") > 0
    assert line.pop("sent") > 100
    assert line == {
        "id": "abc",
        "client": "testclient",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "pictures": 1,
    }


def test_prometheus_finds_requests_latencies_queue_and_refusals(client, picture):
    client.post("/predict", content=picture)
    client.post("/predict", content=b"no picture")
    client.request("STRANGE", "/nowhere/1")
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in (
        'fic_requests_total{method="POST",route="/predict",status="200"} 1.0',
        'fic_requests_total{method="POST",route="/predict",status="400"} 1.0',
        'fic_requests_total{method="other",route="other",status="404"} 1.0',
        'fic_request_seconds_count{route="/predict"} 2.0',
        'fic_rejected_total{reason="picture"} 1.0',
        "fic_pictures_total 1.0",
        "fic_queue_pictures 0.0",
        "fic_ready 1.0",
    ):
        assert line in answer.text.splitlines()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_ask_nothing_of_other_servers(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", answer.text)


def test_every_address_is_in_the_document_and_on_its_page(client):
    paths = client.get("/openapi.json").json()["paths"]
    page = client.get("/docs").text
    assert {"/predict", "/v2/models/{name}/infer", "/metrics"} <= paths.keys()
    assert all(path in page for path in paths)


def test_another_page_is_served_where_it_is_installed(serve, golden, tmp_path, picture):
    (tmp_path / "index.html").write_text("<title>drop here</title>")
    (tmp_path / "page.js").write_text("go()")
    client = serve(golden, page=tmp_path)
    assert "drop here" in client.get("/").text
    assert client.get("/page.js").text == "go()"
    assert client.get("/none.js").json() == {"error": "Not Found"}
    assert client.post("/predict", content=picture).status_code == 200


def test_with_another_page_every_address_still_has_its_methods(serve, golden, tmp_path):
    (tmp_path / "index.html").write_text("<title>drop here</title>")
    client = serve(golden, page=tmp_path)
    assert client.options("/predict").headers["Allow"] == "POST, OPTIONS"
    assert client.get("/predict").status_code == 405
    assert client.options("/index.html").headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("batch_size", [1, 4])
def test_pictures_go_with_their_answer_or_error(serve, golden, picture, batch_size):
    client = serve(golden, limits=Limits(batch_size=batch_size))
    gc.collect()
    gc.disable()  # without it, a server of large pictures would have many that are done with
    try:
        client.post("/predict", content=b"no picture")
        client.post("/predict", files=[("f", picture), ("f", b"none"), ("f", b"none")])
        client.post("/predict", files=[("f", picture)])
        client.portal.call(client.app.state.service.close)  # the threads have let go, too
        kept = [each for each in gc.get_objects() if isinstance(each, Picture)]
    finally:
        gc.enable()
    assert not kept


def test_after_its_end_it_refuses_instead_of_waiting(serve, golden, picture):
    client = serve(golden)
    client.portal.call(client.app.state.service.close)
    answer = client.post("/predict", content=picture)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert client.get("/v2/health/ready").status_code == 503


def test_it_is_not_ready_before_the_check_has_passed(serve, golden, picture):
    import threading

    go_on = threading.Event()
    client = serve(golden, ready=False, check=go_on.wait)
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").status_code == 503
    answer = client.post("/predict", content=picture)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    go_on.set()
    while client.get("/v2/health/ready").status_code == 503:
        pass
    assert client.post("/predict", content=picture).status_code == 200


def test_whatever_keeps_it_from_being_ready_is_told(serve, golden, caplog):
    client = serve(golden, ready=False, check=lambda: [][0])
    while (failure := client.app.state.service.failure) is None:
        client.get("/v2/health/live")
    assert "list index out of range" in str(failure)
    assert caplog.messages == [str(failure)]
    assert client.get("/v2/health/ready").status_code == 503


def test_a_classifier_of_other_channels_is_not_served(serve, golden):
    with (
        Classifier(golden, channel_order="bgr") as classifier,
        pytest.raises(ValueError, match="'rgb'"),
    ):
        serve(classifier)


def test_a_mistake_of_the_server_is_500_with_its_id(serve, golden, picture, monkeypatch, caplog):
    client = serve(golden)
    monkeypatch.setattr(Classifier, "predict", lambda *_: np.zeros(1)[2])
    answer = client.post("/predict", content=picture, headers={"X-Request-ID": "abc"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (500, "abc")
    assert "IndexError" in caplog.text
