import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import fic
from fic.data import Source
from fic.errors import DataError
from fic.insight.findings import Audit
from fic.options import BaseOptions, CacheOptions
from fic.runs.page import MOST_BYTES
from fic_export.errors import OutputError
from tests.conftest import MakePhotos
from tests.fic.runs.test_report import Tags


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory, make_photos: MakePhotos) -> Path:
    """Return a data set with two copies, and files that are not what they seem."""
    folder = make_photos(tmp_path_factory.mktemp("flawed") / "photos", 10)
    shutil.copy(folder / "red/0.jpg", folder / "red/copy.jpg")
    shutil.copy(folder / "red/2.jpg", folder / "blue/copy.jpg")
    (folder / "red/broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    shutil.copy(folder / "green/1.png", folder / "green/png.jpg")
    cv2.imwrite(str(folder / "green/flat.png"), np.full((60, 60, 3), 128, np.uint8))
    return folder


@pytest.fixture(scope="module")
def found(flawed: Path, base: BaseOptions) -> Audit:
    return fic.audit(
        Source(data=flawed),
        out=flawed.with_name("audit"),
        base=base,
        cache=CacheOptions(bottleneck_dir=flawed.with_name("cache")),
    )


def names(paths: Any, folder: Path) -> set[str]:
    return {Path(path).relative_to(folder).as_posix() for path in paths}


def test_all_pictures_are_ranked(found: Audit, flawed: Path) -> None:
    assert len(found.suspects) == sum(found.counts.values()) == 34
    scores = [suspect.score for suspect in found.suspects]
    assert scores == sorted(scores, reverse=True)


def test_a_notebook_shows_an_audit_in_a_line(found: Audit) -> None:
    assert repr(found).startswith("<Audit of 34 pictures of 3 classes; likely wrong: ")
    assert "duplicates: 3" in repr(found)


def test_copies_are_found_wherever_they_are(found: Audit, flawed: Path) -> None:
    groups = [names(group.paths, flawed) for group in found.duplicates]
    assert {"red/0.jpg", "red/copy.jpg"} in groups
    assert {"red/2.jpg", "blue/copy.jpg"} in groups
    assert {"green/1.png", "green/png.jpg"} in groups
    assert len(groups) == 3
    (other,) = [group for group in found.duplicates if group.disagrees]
    assert set(other.labels) == {"red", "blue"}


def test_files_that_are_not_what_they_seem_are_named(found: Audit, flawed: Path) -> None:
    problems = {(each.path.name, each.problem) for each in found.files}
    assert {
        ("broken.jpg", "unreadable"), ("png.jpg", "other format"), ("flat.png", "one color")
    } <= problems  # fmt: skip
    assert ("0.jpg", "tiny") in problems  # these pictures have 40 x 50 pixels
    assert found.files[0].path.name == "broken.jpg"


def test_the_findings_are_written_with_the_paths_as_given(found: Audit, flawed: Path) -> None:
    written = json.loads((flawed.with_name("audit") / "audit.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(found.to_dict()))
    first = written["suspects"][0]
    assert list(first) == ["path", "label", "suggested", "score"]
    assert first["path"].startswith(str(flawed))
    assert all(isinstance(path, str) for group in written["duplicates"] for path in group)


def test_the_page_shows_what_was_found(found: Audit, flawed: Path) -> None:
    page = (flawed.with_name("audit") / "report.html").read_text("utf-8")
    tags = Tags(page)
    assert len(page.encode()) <= MOST_BYTES
    shown = [group for group in found.duplicates for _ in group.paths]
    assert tags.names.count("img") >= len(shown)
    for text in ("broken.jpg", "exact; the labels differ", "png.jpg", "suspects.csv"):
        assert text in tags.text
    assert sum(cell[2] for cell in tags.charts["classes"]["cells"]) == len(found.suspects)


def test_a_second_audit_extracts_nothing_and_finds_the_same(
    found: Audit, flawed: Path, base: BaseOptions
) -> None:
    again = fic.audit(
        flawed, base=base, cache=CacheOptions(bottleneck_dir=flawed.with_name("cache"))
    )
    assert again.cache["extracted"] == 0
    assert again.suspects == found.suspects
    assert again.duplicates == found.duplicates


def test_copies_across_training_and_validation_come_first(
    photos: Path, base: BaseOptions, warm: CacheOptions, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "val")
    source = Source(train=photos, val=tmp_path / "val")
    shared = fic.audit(source, base=base, cache=warm)
    assert len(shared.leaks) == len(shared.duplicates) == 24


def test_decisions_are_not_replaced(
    photos: Path, base: BaseOptions, warm: CacheOptions, tmp_path: Path
) -> None:
    def run() -> None:
        fic.audit(photos, out=tmp_path / "audit", base=base, cache=warm)

    run()
    run()  # an audit without decisions is
    suspects = tmp_path / "audit/suspects.csv"
    decided = suspects.read_text("utf-8").replace(",\n", ",reject\n", 1)
    suspects.write_text(decided, encoding="utf-8")
    with pytest.raises(OutputError, match="holds decisions"):
        run()
    assert suspects.read_text("utf-8") == decided


def test_a_folder_of_something_else_is_not_replaced(
    photos: Path, base: BaseOptions, warm: CacheOptions, tmp_path: Path
) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/notes.txt").touch()
    with pytest.raises(OutputError, match=r"no audit\.json"):
        fic.audit(photos, out=tmp_path / "audit", base=base, cache=warm)


def test_an_audit_inside_the_pictures_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="lies inside the pictures"):
        fic.audit(photos, out=photos / "audit")
