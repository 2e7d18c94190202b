"""Answers state what is known, and text of strangers cannot end a line or a word."""

import json
import pickle
import shlex
from pathlib import Path

import h5py
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mil.errors import DatasetError, FormatError
from mil.io.digests import Digest, statements
from mil.io.provenance import digest_of, file_digest, read_provenance
from mil.io.tables.parts import parse_part
from mil.io.tiles import write_tiles
from mil.why.answer import Answer, Input
from mil.why.heatmaps import _options
from mil.why.stage import run
from mil.why.study import _part_alone, study_of
from tests.messages import one_line
from tests.synthetic import make_tiles


@pytest.mark.parametrize(
    ("stated", "now", "state"),
    [
        ("a", "a", "the same"),
        ("a", "b", "changed since"),
        ("a", "", "not here"),
        ("", "b", "not stated by the file"),
        ("", "", "not here"),
    ],
)
def test_an_input_is_the_same_only_where_both_digests_are_there(stated, now, state):
    assert Input("bag", "b.h5", stated, now).state == state


def promise(*inputs):
    return Answer("t", {}, list(inputs), ["mil", "x"], "again/y").lines()[-1]


def test_the_same_bytes_are_promised_only_of_the_same_inputs():
    same = Input("bag", "b", "1", "1")
    assert promise(same) == "It writes the same bytes to again/y."
    assert "is not what this file is of: tiles." in promise(same, Input("tiles", "t", "1", "2"))
    assert promise(Input("tiles", "t", "1", "")) == "It cannot run here: tiles not here."
    assert "does not state all" in promise(same, Input("tiles", "t", "", "2"))


def test_text_of_strangers_stays_on_its_line_and_in_its_word():
    hostile = "a\n$(rm -rf .)\x1b[2J;'"
    answer = Answer("t", {"slide": hostile}, [Input("bag", hostile, "1", "2")], ["mil", hostile])
    lines = answer.lines()
    assert not any("\x1b" in line for line in lines[:3])
    assert len(lines[1].splitlines()) == 1
    assert shlex.split("\n".join(lines[lines.index("make it again:") + 1 : -1])) == ["mil", hostile]


def test_the_file_states_the_facts_of_its_digest(tmp_path):
    digest = digest_of("tile", slide="s1", tile_px=64).and_of("of-slide")
    # As it comes back from another process.
    digest = pickle.loads(pickle.dumps(digest))
    write_tiles(tmp_path / "s1.h5", make_tiles(), made_from=digest)
    provenance = read_provenance(tmp_path / "s1.h5")
    assert provenance.digest == digest
    assert provenance.facts == {"slide": "s1", "tile_px": 64}
    assert provenance.stage == "tile"
    assert "numpy " in provenance.made_with
    # Without a path, so that the bytes are the same in every folder.
    write_tiles(tmp_path / "there" / "s1.h5", make_tiles(), made_from=digest)
    assert file_digest(tmp_path / "there" / "s1.h5", None) == file_digest(tmp_path / "s1.h5", None)


def test_facts_that_are_too_long_for_an_attribute_are_left_out():
    long = digest_of("score", heads=["0" * 64] * 2000)
    assert statements(long).keys() == {"made_from"}
    assert statements(Digest("d", "[]")).keys() == {"made_from", "made_from_facts", "made_with"}
    assert statements("") == {}


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '["tile", 1]', '["tile", "x", {}]', "ü"])
def test_facts_of_strangers_are_not_believed(tmp_path, text):
    write_tiles(tmp_path / "s1.h5", make_tiles())
    with h5py.File(tmp_path / "s1.h5", "r+") as file:
        file.attrs["made_from_facts"] = text.encode()[:60_000]
    about = PngInfo()
    about.add_text("made_from_facts", text[:60_000])
    Image.new("L", (1, 1)).save(tmp_path / "s1.png", pnginfo=about)
    for name in ("s1.h5", "s1.png"):
        provenance = read_provenance(tmp_path / name)
        assert (provenance.stage, provenance.facts) == ("", {})
    assert run(tmp_path / "s1.h5").command == ()


def test_the_study_is_read_from_the_folders_of_a_path():
    study = study_of(Path("x/results/toy/heatmap/64px_0.5mpp/tiny/abmil/s1.png"))
    assert study.root == Path("x/results/toy")
    assert study.dataset == "toy"
    assert study.folder("tile") == Path("x/results/toy/tile/64px_0.5mpp")
    assert study.folder("score") == Path("x/results/toy/score/64px_0.5mpp/tiny/abmil")
    # The folder of a dataset may be called like a stage.
    assert study_of(Path("results/score/tile/64px_0.5mpp/s1.h5")).dataset == "score"
    assert study_of(Path("somewhere/s1.h5")) is None


def test_a_part_holds_one_slide_alone():
    slides = [f"s{number:03d}" for number in range(40)]
    for slide in slides[:5]:
        part = parse_part(_part_alone(slide, slides))
        assert [other for other in slides if part.holds(other)] == [slide]


def test_files_that_say_nothing_are_refused_in_one_line(tmp_path):
    with one_line(FormatError, "no such file; give a tiles file, a bag"):
        run(tmp_path / "none.h5")
    (tmp_path / "x.txt").write_text("x")
    with one_line(FormatError, "states nothing about its making"):
        run(tmp_path / "x.txt")
    (tmp_path / "x.h5").write_text(json.dumps({}))
    with one_line(FormatError, "x.h5"):
        run(tmp_path / "x.h5")
    (tmp_path / "x.png").write_text("not a picture")
    with one_line(FormatError, "x.png"):
        run(tmp_path / "x.png")
    with one_line(DatasetError, "--slide goes with predictions.csv"):
        run(tmp_path / "x.txt", slide="s1")


@pytest.mark.parametrize(
    "config",
    ["", "[" * 100_000, "[]", '{"encoder": 5, "head": {}}', '{"encoder": ["../x"], "head": ["h"]}'],
)
def test_settings_of_a_stranger_give_a_report_no_command(tmp_path, config):
    (tmp_path / "toy/evaluate/t/e/h").mkdir(parents=True)
    (tmp_path / "toy/report.html").write_text("<html>")
    (tmp_path / "toy/config.json").write_text(config)
    answer = run(tmp_path / "toy/report.html")
    assert answer.command == ()
    assert "config.json, which the workflow writes" in answer.lines()[-1]


def test_a_division_is_compared_with_the_table_and_set_as_its_run(tmp_path):
    folds = tmp_path / "toy/split/t/e/folds5.csv"
    folds.parent.mkdir(parents=True)
    folds.write_text("fold,slide,patient,label,split\n0,a,p,x,train\n")
    assert run(folds).command == ()
    split = {"seed": 3, "by": "centre", "file": None}
    config = {"bags": "made", "fusion": "early", "allow_missing": True, "split": split}
    (tmp_path / "toy/config.json").write_text(json.dumps(config))
    words = shlex.join(run(folds).command)
    assert "--bags made --folds 5 --seed 3 --by centre --fusion early --allow-missing" in words
    assert "--tiles" not in words
    # Its dataset is not here.
    assert run(folds).lines()[-1] == "It cannot run here: slide table of dataset not here."


def test_settings_of_a_picture_become_options():
    assert _options({}) == []
    settings = {"scale": "raw", "kinds": ["alone", "effect"], "branches": True, "sheet": 5}
    words = "--scale raw --kind alone --kind effect --branches --sheet 5"
    assert _options(settings) == words.split()
    assert _options({"scale": "raw", "branches": False, "kinds": "x"}) == ["--scale", "raw"]
