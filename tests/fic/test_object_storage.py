"""From the training to the bundle with pictures and cache in a bucket, and what stays secret."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import fic
from fic.cli import cli
from fic.data import Dataset, Source, remote
from fic.data.remote import RemotePath
from fic.data.source import read_dataset
from fic.errors import DataError
from fic.insight.decisions import apply_decisions
from fic.options import BaseOptions, CacheOptions, TrainingOptions
from fic.prediction import evaluate_run, predict_files
from fic.runs import Run
from tests.fic.object_store import PASSWORD, ObjectStore, running_object_store

PHOTOS = RemotePath("s3://photos/set")
CACHE = RemotePath("s3://cache/bottlenecks")
FEW = TrainingOptions(epochs=3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, shared_photos: Path) -> Iterator[ObjectStore]:
    with running_object_store(tmp_path_factory.mktemp("s3") / "log.txt") as store:
        files = remote.file_system(PHOTOS.url)
        for path in shared_photos.rglob("*.*"):
            name = f"{PHOTOS.url}/{path.relative_to(shared_photos)}"
            files.pipe_file(name, path.read_bytes(), ACL="public-read")
        yield store


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ObjectStore:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("FIC_CACHE_DIR", str(tmp_path / "machine"))
    server.reset()
    return server


def test_what_follows_a_training_on_a_bucket_reads_nothing_twice(
    store: ObjectStore, base: BaseOptions, tmp_path: Path
) -> None:
    def train(name: str) -> Run:
        return fic.train(
            Source(data=PHOTOS),
            out=tmp_path / name,
            base=base,
            cache=CacheOptions(bottleneck_dir=CACHE),
            options=FEW,
        )

    first = train("first")
    shown = len(first.validation())
    # Those for validation once more, as small pictures of the report.
    assert store.count("GET /photos/set/") == 24 + shown
    store.reset()
    again = train("again")
    assert (again.record["cache"]["extracted"], again.record["cache"]["hits"]) == (0, 24)
    assert again.record["source"]["data"] == PHOTOS.url
    assert evaluate_run(again, PHOTOS.url)["images"] == 24
    assert evaluate_run(again, PHOTOS, bottleneck_dir=CACHE.url)["images"] == 24
    result = CliRunner().invoke(cli, ["report", str(again.folder)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "data:image" in (again.folder / "report.html").read_text("utf-8")
    assert store.count("GET /photos/set/") == store.count("GET /cache/bottlenecks/") == 0
    manifest = fic.export_run(again, out=tmp_path / "bundle")
    assert manifest.labels == ("blue", "green", "red")


def test_a_picture_that_was_never_seen_is_measured_on_from_one_reading(
    store: ObjectStore, cold_run: Run, tmp_path: Path
) -> None:
    metrics = evaluate_run(cold_run, PHOTOS, bottleneck_dir=tmp_path / "cache")
    assert metrics["images"] == 24
    assert store.count("GET /photos/set/") == 24


def test_decisions_about_pictures_in_a_bucket_make_a_data_set_of_urls(
    store: ObjectStore, base: BaseOptions, empty: CacheOptions, tmp_path: Path
) -> None:
    fic.audit(PHOTOS.url, out=tmp_path / "audit", base=base, cache=empty, folds=2)
    # Each once for its bottleneck, and once for its small picture.
    assert max(Counter(store.requests).values()) <= 2
    cleaned = tmp_path / "cleaned.csv"
    assert apply_decisions(tmp_path / "audit/suspects.csv", cleaned).kept == 24
    data = read_dataset(cleaned)
    assert isinstance(data, Dataset)
    assert {str(path) for path in data.paths} == {
        f"s3:/{line.split(' ', 1)[1].split('?')[0]}"
        for line in store.requests
        if line.startswith("GET /photos/set/")
    }


def test_credentials_in_urls_are_used_and_written_nowhere(
    store: ObjectStore,
    shared_photos: Path,
    base: BaseOptions,
    empty: CacheOptions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG, logger="fic")
    query = "X-Amz-Credential=AKIDPRIVATE&X-Amz-Signature=0123456789abcdef&sig=HUSH"
    lines = [
        f"{store.url}/photos/set/{path.relative_to(shared_photos)}?{query},{path.parent.name}"
        for path in sorted(shared_photos.rglob("*.*"))
    ]
    missing = f"{store.url.replace('://', '://ada:LOVELACE@')}/photos/none.jpg?{query},red"
    listed = tmp_path / "pictures.csv"
    listed.write_text("\n".join(["path,label", *lines, missing]))
    out = tmp_path / "out"
    cache = CacheOptions(bottleneck_dir=empty.bottleneck_dir)
    run = fic.train(Source(data=listed), out=out / "run", base=base, cache=cache, options=FEW)
    (skipped,) = run.skipped
    assert str(skipped).startswith("http://***@127.0.0.1")
    assert any("sig=HUSH" in request for request in store.requests)
    fic.audit(listed, out=out / "audit", base=base, cache=cache, folds=2)
    with pytest.raises(DataError, match=r"lacks its credentials") as caught:
        apply_decisions(out / "audit/suspects.csv", out / "cleaned.csv")
    secrets = ("AKIDPRIVATE", "0123456789abcdef", "HUSH", "LOVELACE", PASSWORD)
    said = capsys.readouterr()
    texts = [caplog.text, said.out, said.err, str(caught.value)]
    texts += [
        path.read_bytes().decode("latin-1")
        for folder in (out, cache.bottleneck_dir, tmp_path / "machine")
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert len(texts) > 10
    for secret in secrets:
        assert not any(secret in text for text in texts)


def test_predictions_take_the_base_from_a_cache_at_a_url(
    store: ObjectStore, cold_run: Run, shared_photos: Path
) -> None:
    command = ["predict", str(cold_run.folder), str(shared_photos / "red/0.jpg")]
    result = CliRunner().invoke(cli, [*command, "--bottleneck-dir", CACHE.url])
    assert result.exit_code == 0, result.output
    ((path, _),) = predict_files(cold_run, shared_photos / "red/0.jpg", bottleneck_dir=CACHE.url)
    assert path == shared_photos / "red/0.jpg"


def test_a_list_of_urls_is_not_split_into_folders(tmp_path: Path) -> None:
    lines = [f"s3://photos/{label}/{number}.jpg,{label}" for label in "ab" for number in range(5)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]))
    command = ["split", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, command)
    assert isinstance(result.exception, DataError)
    assert "s3://photos/a/0.jpg: is at a URL" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["split", "s3://u:HUSH@b/set", "--out", "x"],
        ["predict", "run", "s3://u:HUSH@b/1.jpg"],
        ["train", "--data", "photos", "--out", "s3://u:HUSH@b/run"],
        ["cache", "info", "--bottleneck-dir", "s3://u:HUSH@b/cache"],
        ["export", "s3://u:HUSH@b/run"],
    ],
)
def test_a_url_where_only_a_path_will_do_is_refused_without_its_password(
    command: list[str],
) -> None:
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2
    assert "is a URL; a path on this machine is needed" in result.output
    assert "HUSH" not in result.output
