"""What a stage writes, held against a file named after its version.

A change here means that the stage's output changed: raise its number in
mil/versions.py, so that the workflow makes its files anew, and write the new file with
`MIL_WRITE_GOLDEN=1 pytest tests/test_golden.py`.
"""

import json
import os
from pathlib import Path

import pytest

from mil.config import Config, TileConfig
from mil.demo.stage import make
from mil.io.tables import Slide
from mil.io.tiles import read_tiles
from mil.split.folds import make_folds
from mil.tile.stage import run
from mil.versions import STAGE_VERSION

ROOT = Path(__file__).parents[1]


def tile(folder):
    make("mini_05.tif", folder / "a.tif")
    run(
        folder / "a.tif",
        "a",
        folder / "a.h5",
        tile_px=224,
        target_mpp=0.5,
        mpp=None,
        config=TileConfig(),
    )
    tiles = read_tiles(folder / "a.h5")
    return {
        "coords": tiles.coords.tolist(),
        "side_level0_px": tiles.geometry.side_level0_px,
        "digest": tiles.digest,
    }


def split(folder):
    slides = [Slide(f"s{i}", f"p{i // 2}", ("normal", "tumour")[i // 2 % 2]) for i in range(40)]
    shares = {"val_share": 0.2, "test_share": 0.25, "seed": 0}
    return {"one": make_folds(slides, 1, **shares), "three": make_folds(slides, 3, **shares)}


@pytest.mark.parametrize("stage", [tile, split], ids=lambda stage: stage.__name__)
def test_a_stage_writes_what_its_version_says(stage, tmp_path):
    path = ROOT / "tests" / "golden" / f"{stage.__name__}_v{STAGE_VERSION[stage.__name__]}.json"
    found = stage(tmp_path)
    if os.environ.get("MIL_WRITE_GOLDEN"):
        path.write_text(json.dumps(found) + "\n")
    assert found == json.loads(path.read_text())


def test_the_schema_for_editors_is_that_of_the_configuration():
    path = ROOT / "workflow" / "schemas" / "config.schema.json"
    found = json.dumps(Config.model_json_schema(), indent=2) + "\n"
    if os.environ.get("MIL_WRITE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()
