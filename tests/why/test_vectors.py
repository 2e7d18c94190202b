"""Vectors of slides: how they came about, what they hold, and where they are taken for bags."""

import shutil
from dataclasses import replace

import pytest

from mil.embed.stage import EmbedJob, run
from mil.errors import ConfigError
from mil.io.provenance import made_from
from mil.io.vectors import SlideVectors, read_vectors, write_vectors
from mil.view.study import find_study
from mil.why.answer import CHANGED, MISSING, SAME
from mil.why.stage import run as why
from tests.interop.layouts import bags, features
from tests.messages import one_line
from tests.score.test_stage import DIM, save_head
from tests.synthetic import bag_file

PLACE = "224px_0.5mpp/tiny"


@pytest.fixture
def results(tmp_path):
    """Slide `a` as a vector by its mean, and by the heads of two seeds."""
    results = tmp_path / "results" / "toy"
    bag = results / "features" / PLACE / "a.h5"
    bag_file(bag, "a", features(6, DIM))
    trained = results / "train" / PLACE / "abmil"
    heads = []
    for seed in (1, 2):
        folder = trained / f"seed{seed}_fold0of1"
        shutil.move(save_head(tmp_path, seed=seed), folder)
        heads.append(folder)
    for name, of_name in {"mean": [], "abmil": heads}.items():
        job = EmbedJob(bag, results / "embed" / PLACE / name / "a.h5")
        assert not next(run(name, of_name, [job], threads=1)).failed
    return results


def states(results, name="abmil"):
    answer = why(results / "embed" / PLACE / name / "a.h5")
    return answer, [part.state for part in answer.inputs]


def test_a_vector_names_its_bag_and_its_heads(results):
    answer, of_inputs = states(results)
    assert of_inputs == [SAME] * 4
    heads = [str(results / "train" / PLACE / "abmil" / f"seed{n}_fold0of1") for n in (1, 2)]
    assert [part.name for part in answer.inputs[1:3]] == heads
    assert answer.facts["vectors"] == "one by each of 2 heads, seeds and folds 1/0, 2/0"
    assert answer.command[:6] == [
        "mil",
        "embed",
        "--slide-encoder",
        "abmil",
        "--head-dir",
        heads[0],
    ]
    # Of two runs of one seed and fold the one whose weights they are.
    trained = results / "train" / PLACE / "abmil"
    (trained / "seed1_fold0of1").rename(trained / "seed1_fold0of5")
    shutil.copytree(trained / "seed2_fold0of1", trained / "seed1_fold0of1")
    answer, of_inputs = states(results)
    assert (of_inputs, answer.inputs[1].name) == ([SAME] * 4, str(trained / "seed1_fold0of5"))
    answer, of_inputs = states(results, "mean")
    assert (of_inputs, answer.facts["vectors"], answer.notes) == ([SAME] * 2, "one", [])


@pytest.mark.parametrize(
    ("source", "option"),
    [("own.pt", ["--weights", "own.pt"]), ("someone/model@f00d", []), ("random", [])],
)
def test_a_vector_by_a_published_slide_encoder_names_its_weights(results, source, option):
    file = results / "embed" / PLACE / "mean" / "a.h5"
    stored = read_vectors(file)
    header = replace(
        stored.header,
        slide_encoder="chief",
        slide_encoder_sha256="c" * 64,
        slide_encoder_revision=source,
    )
    write_vectors(file, SlideVectors(header, stored.vectors), made_from=made_from(file))
    answer, _ = states(results, "mean")
    assert answer.facts["weights of the slide encoder"] == f"{'c' * 64}, from {source}"
    assert answer.command[2 : answer.command.index("--bags")] == [
        "--slide-encoder",
        "chief",
        *option,
    ]


def test_what_changed_since_a_vector_was_made_is_named(results):
    weights = results / "train" / PLACE / "abmil" / "seed1_fold0of1" / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    shutil.rmtree(results / "train" / PLACE / "abmil" / "seed2_fold0of1")
    assert states(results)[1] == [SAME, CHANGED, MISSING, SAME]
    bag_file(results / "features" / PLACE / "a.h5", "a", features(7, DIM))
    answer, of_inputs = states(results, "mean")
    assert of_inputs == [SAME, CHANGED]
    assert "which is not what this file is of: bag." in answer.lines()[-1]


def test_a_vectors_file_says_that_it_is_one_vector_a_slide(results):
    file = results / "embed" / PLACE / "abmil" / "a.h5"
    code, output = bags("info", file)
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert code == 0
    assert lines[0].startswith(f"{file}: one vector a slide, no bag of tiles")
    assert "vectors 2 of 8 numbers in float32, one by each of 2 heads" in lines
    assert {"slide_encoder abmil", "tiles 6", "encoder tiny"} <= set(lines)
    assert sum(line.startswith("head abmil, seed ") for line in lines) == 2
    file = results / "embed" / PLACE / "mean" / "a.h5"
    assert f"vectors 1 of {DIM} numbers in float32" in " ".join(bags("info", file)[1].split())


def test_a_vectors_file_in_place_of_a_bag_or_a_study_is_one_line(results):
    file = results / "embed" / PLACE / "mean" / "a.h5"
    assert "mil.vectors version 1 (one vector a slide, no tiles)" in bags("ls", file.parent)[1]
    assert "holds one vector a slide, no features of tiles" in bags("verify", file)[1]
    for place in (file, file.parent):
        with one_line(ConfigError, match="holds one vector a slide, of which there is no picture"):
            find_study(place)
