"""The notebook of examples/, executed as Jupyter does it."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.examples.conftest import ROOT

NOTEBOOK = ROOT / "examples/photos_to_bundle.ipynb"
nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")
nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")

# What Jupyter's own packages say of themselves on some platforms.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def outputs(notebook: Any, stream: str) -> str:
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream" and output.name == stream
    )


def test_the_notebook_goes_from_pictures_to_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's notices do not reach it; bars and epochs do."""
    paths = [str(ROOT), str(ROOT / "export"), str(ROOT / "runtime"), os.environ.get("PYTHONPATH")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    shutil.copy(NOTEBOOK, tmp_path / NOTEBOOK.name)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    # The kernel of this environment, whatever others are installed.
    client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
    client.execute()
    printed, told = outputs(notebook, "stdout"), outputs(notebook, "stderr")
    assert "accuracy 1.00 on" in printed
    assert "Score(label=" in printed
    assert "epoch   1/20" in told
    assert "I0000" not in told
    assert "oneDNN" not in told
    assert (tmp_path / "bundle/manifest.json").is_file()


def test_the_notebook_is_kept_without_its_results() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
