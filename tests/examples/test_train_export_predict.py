from pathlib import Path

from tests.conftest import MakePhotos
from tests.examples.conftest import run


def test_the_program_goes_the_whole_way(make_photos: MakePhotos, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 6, labels=("blue", "green"))
    result = run("train_export_predict.py", photos, tmp_path / "out", "mobilenet_0.25", "none")
    assert result.returncode == 0, result.stderr
    assert "validation accuracy" in result.stdout
    assert (tmp_path / "out/bundle/base.onnx").is_file()
