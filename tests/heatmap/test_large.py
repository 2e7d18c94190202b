"""The bundle of a large slide: memory of a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path

import numpy as np

from tests.heatmap.bundles import DrawnSlide, scores_of

side = 224 * 0.5 / 0.243
columns, rows = 400, 250
x, y = np.meshgrid(np.arange(columns), np.arange(rows))
coords = np.rint(np.stack([x, y], 2).reshape(-1, 2) * side)
extent = int(columns * side) + 9, int(rows * side) + 9
random = np.random.default_rng(0)
attention = random.random(len(coords)) ** 4
scores = scores_of(attention / attention.sum(), effect=random.normal(size=len(coords)))
slide = DrawnSlide(coords, side, 0.243, extent=extent, overview_scale=extent[0] / 1500)
slide.draw(Path(sys.argv[1]), scores)
# Not ru_maxrss, which begins with that of the process that started this one.
status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
print(int(status.split()[0]))
"""


@pytest.mark.slow
def test_memory_of_a_hundred_thousand_tiles(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000  # kilobytes
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert set(sizes) == {"s1.png", "s1.effect.png", "s1.csv", "s1.geojson.gz", "s1.ome.tiff"}
    assert sizes["s1.ome.tiff"] < 3e6
    assert sizes["s1.geojson.gz"] < 15e6
