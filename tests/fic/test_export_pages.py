"""`fic export --html` and `--web`: a page beside the bundle, or a word before anything is done."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from fic.cli import cli
from fic.runs import Run
from fic_runtime.errors import FicError


def export(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli, ["export", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_page_is_written_beside_the_bundle(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fic_runtime.bundle.pages._asset", lambda _: b"<title>{{title}}</title>")
    page = tmp_path / "page.html"
    said = export(run.folder, "--out", tmp_path / "bundle", "--html", page)
    assert f"page written to {page} (" in said
    assert run.labels[0] in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "reason"),
    [((), "pip install 'fic-runtime"), (("--head-only",), "a page needs the base")],
)
def test_a_page_that_cannot_be_written_is_told_before_the_export(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], reason: str
) -> None:
    monkeypatch.setattr("fic_runtime.bundle.pages._ASSETS", "a_package_that_is_not_there")
    with pytest.raises(FicError, match=reason):
        export(run.folder, "--out", tmp_path / "out", "--web", tmp_path / "site", *options)
    assert not (tmp_path / "out").exists()
