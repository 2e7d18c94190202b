"""Benchmarks of reading and tiling, their results table, and synthetic slides."""

import json
from io import StringIO

import numpy as np
import openslide
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mil.bench import read, tile
from mil.bench.results_table import BenchmarkTable, show
from mil.bench.slides import LEVELS, MPP, synthetic_slide
from mil.cli import app
from mil.errors import NoTissueError
from mil.io.slides import SlideReader
from mil.io.slides.tiff import TiffBlocks
from tests.synthetic import tissue_slide


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_a_synthetic_slide_is_a_slide_to_everyone(tmp_path, codec):
    path = synthetic_slide(tmp_path, codec, 4096)
    assert path.stat().st_size < 4e6
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (4096, 4096)
        assert [round(down) for down in slide.level_downsamples] == list(LEVELS)
        middle = np.asarray(slide.read_region((2048, 2048), 0, (256, 256)).convert("RGB")).astype(
            int
        )
        corner = np.asarray(slide.read_region((0, 0), 0, (256, 256)).convert("RGB"))
    assert middle.std() > 10
    assert corner.min() > 230
    with SlideReader(path) as reader:
        assert reader.resolution().mpp == MPP
        assert all(isinstance(reader.blocks(level), TiffBlocks) for level in range(len(LEVELS)))
        assert np.abs(reader.read(2048.0, 2048.0, 256.0, 256).astype(int) - middle).max() <= 1


def test_the_same_seed_makes_the_same_slide(tmp_path):
    assert (
        synthetic_slide(tmp_path / "a", "jpeg", 1024).read_bytes()
        == synthetic_slide(tmp_path / "b", "jpeg", 1024).read_bytes()
    )


def test_read_counts_the_same_tiles_for_loop_and_stream(tmp_path, monkeypatch):
    path = synthetic_slide(tmp_path, "jpeg", 4096)
    seen = []
    for name in ("plain_loop", "read_stream"):
        real = getattr(read, name)
        monkeypatch.setattr(
            read,
            name,
            lambda request, *rest, n=name, r=real: (seen.append((n, request)), r(request, *rest)),
        )
    outcome = read.run([path], threads=2, tiles=40, tile_px=128, target_mpp=0.5, repeats=1)
    assert [row["scale"] for row in outcome.rows] == ["as stored", "0.5 µm/px"]
    assert [(name, request.side_level0_px) for name, request in seen] == [
        ("plain_loop", 128),
        ("read_stream", 128),
        ("plain_loop", 256),
        ("read_stream", 256),
    ]
    assert seen[0][1] is seen[1][1]
    for row in outcome.rows:
        assert 40 <= row["tiles"] < 40 + 32
        assert row["format"] == "aperio JPEG, direct"
        assert row["ours/loop"] == pytest.approx(row["ours_tiles/s"] / row["loop_tiles/s"])
        assert min(row[f"{stage}_ms"] for stage in ("read", "decode", "assemble", "resample")) > 0
    assert (
        outcome.rows[0]["resample_ms"] < outcome.rows[1]["resample_ms"]
    )  # nothing to resample as stored


def test_a_slide_without_a_tile_is_one_line(tmp_path):
    tissue_slide(tmp_path / "a.tif", (100, 80), 0.5)
    with pytest.raises(NoTissueError, match=r"smaller than one tile \(256 px\)"):
        read.run([tmp_path / "a.tif"], threads=1, tiles=10, tile_px=256, target_mpp=0.5, repeats=1)


def test_tile_times_every_stage(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    (row,) = tile.run([tmp_path / "a.tif"], tile_px=128, target_mpp=0.5).rows
    assert (row["slide"], row["px"], row["tiles"]) == ("a.tif", "1024 x 768", 16)
    stages = sum(row[f"{stage}_s"] for stage in ("open", "picture", "mask", "grid", "quality"))
    assert stages > 0
    assert row["all_s"] > row["mask_s"]


def test_table_and_json_hold_the_same(tmp_path):
    rows = [{"slide": "[b]x[/b]", "rate_tiles/s": 1234.5}, {"slide": "y", "rate_tiles/s": 0.01234}]
    written = (tmp_path / "out.txt").open("w", encoding="utf-8")
    console = Console(width=200, record=True, file=written)
    show(BenchmarkTable("title", rows, "the note"), tmp_path / "o.json", console)
    written.close()
    text = (tmp_path / "out.txt").read_text(encoding="utf-8")
    for word in ("title", "rate tiles/s", "[b]x[/b]", "1234", "0.0123", "the note", "cores"):
        assert word in text
    written = json.loads((tmp_path / "o.json").read_text())
    assert (written["format"], written["version"], written["rows"]) == ("mil.bench", 1, rows)
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["openslide-python"] == openslide.__version__


@pytest.mark.parametrize(("rows", "lines"), [(2, 15), (30, 31)])
def test_many_values_stand_upright_unless_there_are_many_rows(rows, lines):
    """Fourteen values: as lines for two rows, as columns for thirty."""
    console = Console(file=StringIO(), width=200)
    table = [{f"v{i}": row for i in range(14)} | {"name": "x"} for row in range(rows)]
    show(BenchmarkTable("title", table), None, console)
    printed = console.file.getvalue().splitlines()[1:-1]
    assert len(printed) == lines


def test_from_the_command_line(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    for command in (
        ["read", "--tiles", "10", "--repeats", "1", "--tile-px", "128"],
        ["tile", "--tile-px", "128"],
    ):
        result = CliRunner().invoke(
            app, ["bench", *command, str(tmp_path / "a.tif"), "--json", str(tmp_path / "o.json")]
        )
        assert result.exit_code == 0, result.output
        assert f"mil bench {command[0]}" in result.output
        assert json.loads((tmp_path / "o.json").read_text())["rows"][0]["slide"] == "a.tif"
