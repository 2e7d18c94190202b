"""Memory of the mixers, in a process of its own.

Of whole heads over 100 000 tiles of 512 columns: docs/results/speed.md.
"""

import json
import subprocess
import sys

import pytest

TILES = 20_000
# Peak beyond queries, keys and values with the gradient, MB, and a quarter more. One row of all
# tiles is 39 MB.
LIMITS_MB = {
    "uniform": 140,
    "nystrom": 570,
    "landmark": 680,
    "neighbourhood": 240,
    "agent": 320,
    "dynamic_mask": 280,
    "hyper": 1050,
}
CODE = f"""
import json
from mil.bench.mix_measure import Job, peak_of
names = {list(LIMITS_MB)}
print(json.dumps({{name: peak_of(Job(name, ({TILES},), "fast", "cpu", 1)) for name in names}}))
"""


@pytest.mark.slow
def test_a_mixer_of_a_long_bag_takes_little_beyond_its_rows():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    too_much = {name: peak for name, peak in peaks.items() if peak > LIMITS_MB[name]}
    assert not too_much
    assert all(peak > 0 for peak in peaks.values())
