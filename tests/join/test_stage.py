"""Folders of bags in, a folder of joined bags out: nothing twice, and no slide stops another."""

import numpy as np
import pytest
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import DatasetError
from mil.io.bags import read_bag
from mil.io.provenance import read_provenance
from mil.io.tables import read_csv
from mil.io.tables.parts import WHOLE, parse_part, part_of
from mil.join.stage import jobs_of_part
from mil.why.stage import run as why
from tests.messages import one_line
from tests.synthetic import bag_file

SLIDES = ("a", "b", "c")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Bags of three slides at two resolutions, where a study has them."""
    monkeypatch.chdir(tmp_path)
    features = tmp_path / "results/toy/features"
    fine, coarse = features / "224px_0.5mpp/tiny", features / "224px_1mpp/tiny"
    for number, name in enumerate(SLIDES):
        bag_file(fine / f"{name}.h5", name, np.full((2, 1), number))
        bag_file(coarse / f"{name}.h5", name, np.full((1, 1), 10 * number), target_mpp=1.0)
    return [fine, coarse]


def join(*arguments):
    return CliRunner().invoke(app, ["bags", "join", *map(str, arguments)])


def test_bags_are_joined_once(folders, tmp_path):
    out = tmp_path / "results/toy/features/224px_0.5mpp/tiny@0.5+tiny@1"
    table = tmp_path / "table.csv"
    done = join(*folders, "--out", out, "--table", table)
    assert done.exit_code == 0, done.output
    assert "join b: 2 tiles of 2 numbers\n" in done.output
    assert read_bag(out / "c.h5").features.tolist() == [[2, 20], [2, 20]]
    assert [row["slide"] for row in read_csv(table)] == [*SLIDES]
    digests = {row["slide"]: row["made_from"] for row in read_csv(table)}
    assert read_provenance(out / "a.h5").digest == digests["a"]
    # A bag that was made again is joined again, and no other.
    bag_file(folders[1] / "b.h5", "b", np.full((1, 1), 7), target_mpp=1.0)
    done = join(*folders, "--out", out, "--table", table)
    assert done.output == "join b: 2 tiles of 2 numbers\njoin: 2 of 3 slides are current\n"
    assert read_bag(out / "b.h5").features.tolist() == [[1, 7], [1, 7]]
    after = {row["slide"]: row["made_from"] for row in read_csv(table)}
    assert {name for name in SLIDES if after[name] != digests[name]} == {"b"}


def test_why_names_the_bags_and_the_command(folders, tmp_path):
    out = tmp_path / "results/toy/features/224px_0.5mpp/tiny@0.5+tiny@1"
    join(*folders, "--out", out)
    answer = why(out / "a.h5")
    assert [part.state for part in answer.inputs] == ["the same"] * 3
    command = ["mil", "bags", "join", *map(str, folders), "--out", "again", "--dataset", "toy"]
    assert list(answer.command) == command
    bag_file(folders[0] / "a.h5", "a", np.full((2, 1), 9))
    (folders[1] / "a.h5").unlink()
    states = [part.state for part in why(out / "a.h5").inputs]
    assert states == ["the same", "changed since", "not here"]


def test_a_slide_that_cannot_be_joined_stops_no_other(folders, tmp_path):
    (folders[1] / "a.h5").unlink()
    bag_file(folders[1] / "b.h5", "other", np.ones((1, 1)), target_mpp=1.0)
    done = join(*folders, "--out", tmp_path / "out", "--table", tmp_path / "t.csv")
    assert done.exit_code == 1
    assert "a.h5: no such file, though another of the folders has a bag of a" in done.output
    assert "b.h5: is the bag of slide 'other'" in done.output
    assert "join c: 2 tiles of 2 numbers" in done.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.h5"]
    assert not (tmp_path / "t.csv").exists()


def test_a_file_that_is_no_bag_is_not_replaced(folders, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.h5").write_text("mine")
    done = join(*folders, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "a.h5: is already there as a file of another format" in done.output
    assert (tmp_path / "out/a.h5").read_text() == "mine"


def test_parts_hold_their_slides_alone(folders, tmp_path):
    part = parse_part("1/2")
    jobs = jobs_of_part(folders, tmp_path / "out", "", part)
    assert [job.slide for job in jobs] == [name for name in SLIDES if part_of(name, 2) == part]


def test_folders_that_cannot_be_are_one_line(folders, tmp_path):
    out = tmp_path / "out"
    with one_line(DatasetError, "1 folders of bags; give 2 to 8, from the finest tiles"):
        jobs_of_part(folders[:1], out, "", WHOLE)
    with one_line(DatasetError, "are the same; give another folder"):
        jobs_of_part([folders[0], folders[0]], out, "", WHOLE)
    with one_line(DatasetError, "are the same; give another folder"):
        jobs_of_part(folders, folders[1], "", WHOLE)
    with one_line(DatasetError, "nowhere: No such file"):
        jobs_of_part([folders[0], tmp_path / "nowhere"], out, "", WHOLE)
