"""The page of an audit, opened from disk."""

from pathlib import Path

import pytest

from fic.data.thumbnails import read_thumbnails
from fic.digests import digest_file
from fic.insight.audit_page import render_audit
from fic.insight.duplicates import DuplicateGroup
from fic.insight.file_checks import FileProblem
from fic.insight.findings import Audit, Suspect
from fic.insight.label_errors import Confusion
from fic.insight.outliers import Outlier
from fic.runs.page import MOST_BYTES

from .picture_files import encoded
from .readable import EVIL, assert_readable, open_page


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Return the page of an audit that found something of each kind."""
    folder = tmp_path_factory.mktemp("audit")
    paths = [folder / f"{number}.png" for number in range(2)]
    for path in paths:
        path.write_bytes(encoded("PNG"))
    suspect = Suspect(
        path=paths[0], label=EVIL, suggested="dog", score=0.9, likely_wrong=True, side="train"
    )
    groups = [
        DuplicateGroup(paths=tuple(paths), labels=(EVIL, "dog"), sides=sides, kind="mirrored")
        for sides in (("train", "val"), ("train", "train"))
    ]
    audit = Audit(
        base="mobilenet",
        counts={EVIL: 100, "dog": 3},
        images={"train": 90, "val": 13},
        suspects=[suspect],
        duplicates=groups,
        outliers=[Outlier(path=paths[1], label="dog", score=4.0)],
        confusions=[Confusion(classes=(EVIL, "dog"), count=30, share=0.3, merge=True)],
        files=[FileProblem(path=folder / "a.jpg", problem="unreadable", reason="a.jpg: is empty")],
        agreement=0.9,
        cache={"hits": 103, "extracted": 0},
        seconds=1.0,
    )
    thumbnails = read_thumbnails(paths, {path: digest_file(path) for path in paths}, None)
    file = folder / "report.html"
    text = render_audit(audit, thumbnails, [[0, 0, 70], [0, 1, 30], [1, 1, 3]])
    file.write_text(text, encoding="utf-8")
    assert file.stat().st_size <= MOST_BYTES
    return file


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_an_audit_is_whole_and_readable(browser, page, dark, width):
    open_page(browser, page, width=width, dark=dark, charts=1)
    assert_readable(
        browser, page, ["h1", "h3", ".gallery p", ".tiles dt", "caption", "figcaption"], width=width
    )
    shown = browser.text("body")
    for text in (EVIL, "mirrored; the labels differ", "suggested: dog", "a.jpg: is empty"):
        assert text in shown
    assert f"{EVIL} and dog may be one class: 30%" in shown
