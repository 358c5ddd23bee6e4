"""`fic extract`: the bottlenecks alone."""

import json
from pathlib import Path

from fic.options import CacheOptions
from tests.fic.cli.conftest import Fic


def test_extraction_alone_can_be_shared_out(fic: Fic, photos: Path, empty: CacheOptions) -> None:
    uses = []
    for part in ("1/2", "2/2"):
        result = fic(
            *("extract", "--data", photos, "--base-model", "mobilenet_0.25", "--weights", "none"),
            *("--image-size", "32", "--bottleneck-dir", empty.bottleneck_dir),
            *("--shard", part, "--json"),
        )
        assert result.code == 0
        uses.append(json.loads(result.out))
    assert sum(use["extracted"] for use in uses) == 24
    assert [use["hits"] for use in uses] == [0, 0]
