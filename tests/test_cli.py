"""The command line: what is printed, and how it fails."""

import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from mil.cli import app
from mil.versions import TOOL_VERSION
from tests.synthetic import bag_file

STAGES = [
    "fetch",
    "tile",
    "features",
    "split",
    "train",
    "score",
    "evaluate",
    "compare",
    "heatmap",
    "report",
    "summary",
    "view",
    "predict",
    "doctor",
]


def mil(*arguments):
    command = [sys.executable, "-m", "mil.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"mil {TOOL_VERSION}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_explains_itself(stage):
    shown = CliRunner().invoke(app, [stage, "--help"])
    assert shown.exit_code == 0
    assert "Usage" in shown.output


def test_what_a_user_can_mend_is_one_line_and_exit_code_1(tmp_path):
    done = mil(
        "tile", "--slide", tmp_path / "a.tif", "--out", tmp_path / "a.h5", "--encoder", "resnt18"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("mil: no encoder named 'resnt18'; did you mean 'resnet18'?")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_ready_bags_need_no_tiles(tmp_path):
    rows = "".join(f"s{n},{('normal', 'tumour')[n % 2]}\n" for n in range(12))
    (tmp_path / "d.csv").write_text("slide,label\n" + rows)
    (tmp_path / "d.yaml").write_text("classes: [normal, tumour]\n")
    for n in range(13):
        bag_file(tmp_path / "bags" / f"s{n}.h5", f"s{n}", np.full((1, 4), n))
    on = ["--dataset", tmp_path / "d.yaml", "--bags", tmp_path / "bags"]
    done = mil("split", *on, "--out", tmp_path / "folds.csv")
    assert done.stdout == "12 in, 12 out\n", done.stderr
    assert len((tmp_path / "folds.csv").read_text().splitlines()) == 13
    done = mil("summary", *on)
    note = (
        f"precomputed bags of tiny, 224px_0.5mpp, in {tmp_path / 'bags'}; 1 bags there are of no "
        "slide in the table"
    )
    assert done.stdout.splitlines() == ["12 in, 12 out", note]


def test_tile_of_a_text_file_is_a_named_state(tmp_path):
    (tmp_path / "a.tif").write_text("not a slide")
    done = mil("tile", "--slide", tmp_path / "a.tif", "--out", tmp_path / "a.h5")
    assert done.returncode == 0, done.stderr
    assert "a: unreadable, 0 tiles" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.geojson",
        "a.h5",
        "a.jpg",
        "a.tif",
        "grid",
    ]


def test_each_encoder_has_a_file_of_its_own(tmp_path):
    one = tmp_path / "a.h5"
    two = tmp_path / "x/../a.h5"
    asked = [
        "--slide",
        "a.tif",
        "--tiles",
        "t.h5",
        "--encoder",
        "resnet18",
        "--encoder",
        "resnet50",
    ]
    shown = CliRunner().invoke(app, ["features", *asked, "--out", str(one), "--out", str(two)])
    assert (
        str(shown.exception)
        == "mil features: two --out name the same file; each encoder's bag needs its own"
    )
    shown = CliRunner().invoke(app, ["features", *asked, "--out", str(one), "--out", str(tmp_path)])
    assert str(shown.exception).startswith(
        f"mil features: --out {tmp_path} is a folder; give the file of the bag"
    )


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "a.tif").write_text("not a slide")
    done = mil("tile", "--slide", tmp_path / "a.tif", "--out", tmp_path / "a.tif/a.h5")
    assert done.returncode == 1
    assert done.stderr.startswith("mil: ")
    assert done.stderr.endswith("; choose another path\n")
    assert done.stderr.count("\n") == 1
