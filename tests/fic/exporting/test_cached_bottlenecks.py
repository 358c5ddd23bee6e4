"""The bottlenecks of a run's pictures, read from the cache as far as it has them."""

from pathlib import Path
from typing import Any

import pytest

from fic.exporting.cached_bottlenecks import RunBottlenecks, cached_bottlenecks
from fic.runs import Run


def test_of_many_pictures_a_sample_is_read(
    larger: Run, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fic.exporting.cached_bottlenecks._PICTURES", 40)
    found = cached_bottlenecks(larger, recorder)
    assert isinstance(found, RunBottlenecks)
    assert len(found.train) == len(found.val) == 40
    assert set(found.train.targets) == {0, 1, 2}
    assert sum(len(block) for block in found.train.blocks()) == 40
    found.close()


def test_the_targets_are_indices_into_the_labels_of_the_run(larger: Run, recorder: Any) -> None:
    found = cached_bottlenecks(larger, recorder)
    assert isinstance(found, RunBottlenecks)
    figures = larger.metrics["val"]["per_class"]
    counts = [int((found.val.targets == target).sum()) for target in range(len(larger.labels))]
    assert counts == [figures[label]["images"] for label in larger.labels]
    found.close()


def test_a_run_without_a_source_says_so(run: Run, recorder: Any) -> None:
    file: Path = run.folder / "run.json"
    file.write_text(file.read_text("utf-8").replace('"source"', '"sources"'), "utf-8")
    assert cached_bottlenecks(Run(run.folder), recorder) == (
        "run.json does not say what the run was trained on"
    )
