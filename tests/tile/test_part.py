"""A part of a dataset is tiled with the settings of its rows."""

import re

import pytest
from typer.testing import CliRunner

from mil.cli import app
from mil.io.tiles import read_tiles
from tests.synthetic import tissue_slide

OPTIONS = ["--size-px", "128", "--target-mpp", "0.5"]


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/datasets/toy.yaml").write_text("classes: [normal, tumour]\n")
    rows = ["slide,path,label,mpp", "a,a.tif,normal,0.25", "b,b.tif,tumour,0.5", "c,c.tif,tumour,"]
    (tmp_path / "configs/datasets/toy.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "data/toy").mkdir(parents=True)
    for name in "ab":
        tissue_slide(tmp_path / f"data/toy/{name}.tif", (1024, 768), 0.25)
    (tmp_path / "data/toy/c.tif").write_text("no slide")
    return tmp_path


def tile(*options: str) -> str:
    done = CliRunner().invoke(app, ["tile", "--dataset", "toy", *OPTIONS, *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_slide_of_a_dataset_by_its_row(dataset):
    lines = tile("--out-dir", "out", "--table", "out/parts/1of1.csv").splitlines()
    states = [match[0] for line in lines if (match := re.match(r"tile \w: (ok|unreadable)", line))]
    assert states == ["tile a: ok", "tile b: ok", "tile c: unreadable"]
    a, b = (read_tiles(dataset / f"out/{name}.h5") for name in "ab")
    assert (a.geometry.mpp_level0, b.geometry.mpp_level0) == (0.25, 0.5)
    assert (dataset / "out/parts/1of1.csv").read_text().count("\n") == 4
    assert tile("--out-dir", "out") == "tile: 3 of 3 slides are current\n"
    (dataset / "out/a.geojson").unlink()
    assert "tile a: ok" in tile("--out-dir", "out")


def test_a_slide_that_is_gone_keeps_its_tiles(dataset):
    tile("--out-dir", "out")
    before = (dataset / "out/a.h5").read_bytes()
    (dataset / "data/toy/a.tif").unlink()
    assert tile("--out-dir", "out") == "tile: 3 of 3 slides are current\n"
    command = ["tile", "--dataset", "toy", *OPTIONS, "--out-dir", "out", "--min-tissue", "0.9"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "out/a.h5 holds its tiles of other settings; put the slide back" in done.output
    assert (dataset / "out/a.h5").read_bytes() == before


def test_a_slide_that_vanished_is_no_state_where_slides_are_required(dataset):
    (dataset / "data/toy/a.tif").rename(dataset / "a.tif")
    command = ["tile", "--dataset", "toy", *OPTIONS, "--out-dir", "out", "--require-slides"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "data/toy/a.tif: no such file; put it back, then run again" in str(done.exception)
    assert not (dataset / "out/a.h5").exists()
    (dataset / "a.tif").rename(dataset / "data/toy/a.tif")
    assert "tile a: ok" in tile("--out-dir", "out", "--require-slides")


@pytest.mark.slow
def test_parts_together_are_the_dataset(dataset):
    for part in ("1/2", "2/2"):
        tile("--out-dir", "out", "--part", part)
    assert {path.stem for path in (dataset / "out").glob("*.h5")} == set("abc")


def test_a_slide_and_a_dataset_do_not_mix(dataset):
    for options in (
        ["--dataset", "toy"],
        ["--dataset", "toy", "--out-dir", "out", "--slide", "a.tif", "--out", "a.h5"],
        ["--dataset", "toy", "--out-dir", "out", "--mpp", "0.5"],
        ["--slide", "a.tif"],
    ):
        done = CliRunner().invoke(app, ["tile", *options])
        assert done.exit_code != 0
        assert "\n" not in str(done.exception)
