import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

PROGRAM = Path(__file__).parents[2] / "examples/train_export_predict.py"


def test_the_program_goes_the_whole_way(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            picture = random.integers(0, 90, (40, 40, 3), dtype=np.uint8)
            picture[..., label] += 150
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), picture)
    arguments = [tmp_path / "photos", tmp_path / "out", "mobilenet_0.25", "none"]
    result = subprocess.run(
        [sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "validation accuracy" in result.stdout
    assert (tmp_path / "out/bundle/base.onnx").is_file()
