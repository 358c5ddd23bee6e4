"""Heads that come while the server runs."""

import io
import logging
import shutil
import tempfile
import zipfile

import pytest

from fic_runtime import Classifier, MultiClassifier
from fic_runtime.server.models import HeadsFolder, Models, model_name
from fic_runtime.server.service import HeadUpdates

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
def archive(make_head, tmp_path):
    """Return the archive of a head that always says `neu`."""
    return make_head(tmp_path / "new.zip", bias=9, labels=("neu", "b", "c")).read_bytes()


def label(client, picture):
    return client.post("/predict", content=picture).json()["predictions"][0]["label"]


def test_a_head_that_is_sent_answers_from_then_on(serve, golden, archive, picture):
    client = serve(golden, updates=HeadUpdates(token="secret"))
    answer = client.post("/v2/models/bundle-v1/heads", content=archive, headers=TOKEN)
    assert answer.json() == {"name": "bundle-v1", "labels": ["neu", "b", "c"]}
    assert label(client, picture) == "neu"
    assert client.get("/v2/models/bundle-v1").json()["labels"] == ["neu", "b", "c"]
    assert "/v2/models/{name}/heads" in client.get("/openapi.json").json()["paths"]


def test_nobody_can_send_a_head_unless_that_is_wanted(serve, golden, archive):
    client = serve(golden)
    answer = client.post("/v2/models/bundle-v1/heads", content=archive, headers=TOKEN)
    assert answer.status_code == 404
    assert "/v2/models/{name}/heads" not in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "ß"}])
def test_a_head_without_the_token_is_refused(serve, golden, archive, headers, picture):
    client = serve(golden, updates=HeadUpdates(token="secret"))
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = client.post("/v2/models/bundle-v1/heads", content=archive, headers=encoded)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert label(client, picture) != "neu"


def test_what_is_no_head_for_this_base_changes_nothing(
    serve, golden, archive, picture, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = serve(golden, updates=HeadUpdates(token="secret"))
    before = label(client, picture)
    other = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data.replace(b"1", b"2") if name == "manifest.json" else data)
    for content in (b"", b"no archive", other.getvalue()):
        answer = client.post("/v2/models/bundle-v1/heads", content=content, headers=TOKEN)
        assert answer.status_code == 400
        assert "\n" not in answer.json()["error"]
    assert label(client, picture) == before
    assert not list(tmp_path.glob("fic-head-*"))


def test_the_newest_head_of_a_folder_is_served(golden, make_head, tmp_path, picture, caplog):
    folder = tmp_path / "heads"
    folder.mkdir()
    with Classifier(golden, threads=1) as classifier:
        heads = HeadsFolder(folder, Models(classifier, "model"))
        heads.take_new()
        assert classifier.labels[0] == "daisy"
        make_head(folder / "first", labels=("eins", "b", "c"))
        heads.take_new()
        assert classifier.labels[0] == "eins"
        make_head(folder / "second.zip", labels=("zwei", "b", "c"))
        heads.take_new()
        assert classifier.labels[0] == "zwei"
        (folder / "third.zip").write_bytes(b"half of an archi")
        caplog.set_level(logging.WARNING)
        heads.take_new()
        heads.take_new()
        assert classifier.labels[0] == "zwei"
        assert len(caplog.messages) == 1
        assert "third.zip" in caplog.messages[0]


def test_a_head_that_is_copied_file_by_file_is_served_once_it_is_whole(golden, make_head, tmp_path):
    whole, folder = make_head(tmp_path / "whole", labels=("neu", "b", "c")), tmp_path / "heads"
    (folder / "new").mkdir(parents=True)
    with Classifier(golden, threads=1) as classifier:
        heads = HeadsFolder(folder, Models(classifier, "model"))
        shutil.copy2(whole / "manifest.json", folder / "new")
        heads.take_new()
        assert classifier.labels[0] == "daisy"
        for file in whole.iterdir():
            shutil.copy2(file, folder / "new")
        (folder / "new" / "head.onnx").touch()
        heads.take_new()
        assert classifier.labels[0] == "neu"


def test_each_head_of_a_folder_goes_by_its_name_where_several_are_served(
    golden, make_head, tmp_path
):
    folder = tmp_path / "heads"
    folder.mkdir()
    heads = {"one": make_head(tmp_path / "a", bias=9)}
    with MultiClassifier(golden, heads, threads=1) as classifier:
        make_head(folder / "one", labels=("neu", "b", "c"))
        make_head(folder / "two", labels=("noch", "b", "c"))
        HeadsFolder(folder, Models(classifier, "model")).take_new()
        assert [labels[0] for labels in classifier.labels.values()] == ["neu", "noch"]


def test_a_model_is_called_after_its_bundle_in_letters_that_an_address_may_have(tmp_path):
    assert model_name(tmp_path / "flowers.zip") == "flowers"
    assert model_name(tmp_path / "my flowers/2") == "2"
    assert model_name(tmp_path / "my flowers?") == "my-flowers-"


def test_a_classifier_without_heads_is_not_served(golden):
    with MultiClassifier(golden, threads=1) as classifier, pytest.raises(ValueError, match="head"):
        Models(classifier, "model")
