"""Memory of the mixers, in a process of its own: 100 000 tiles of 512 in 4 GB."""

import json
import subprocess
import sys

import pytest

TILES = 20_000
# What 100 000 tiles may take beyond queries, keys, values and what a head keeps besides
# (features of 1024, reduced and normalised tiles, projections before they are sorted: 2.0 GB)
# and beyond Python and torch: of 4 GB in all, measured for the whole head in docs/results.
LIMIT_MB = 2000
CODE = f"""
import json
from mil.bench.mix_measure import Job, peak_of
from mil.bench.mix import PAIRS
names = [name for name in PAIRS if name != "full"]
print(json.dumps({{name: peak_of(Job(name, ({TILES},), "fast", "cpu", 1)) for name in names}}))
"""


@pytest.mark.slow
def test_a_mixer_of_a_long_bag_takes_little_beyond_its_rows():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert len(peaks) == 7
    # Every mixer but `full` is linear in the tiles, up to blocks of a fixed size.
    too_much = {name: peak for name, peak in peaks.items() if peak > LIMIT_MB * TILES / 100_000}
    assert not too_much
    assert all(peak > 0 for peak in peaks.values())
