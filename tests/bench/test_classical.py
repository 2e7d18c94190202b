"""`mil bench classical`: division, standardisation, results that are resumed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mil.bench import classical, classical_fit
from mil.bench.classical_data import load, select_data_sets
from mil.bench.classical_fit import ClassicalProtocol, RepetitionTask, run_repetition
from mil.bench.classical_results import ClassicalResult, CountedRecipe
from mil.cli import app
from mil.config import load_recipe
from mil.errors import ConfigError, DatasetError, FormatError
from mil.heads import head_module
from tests.classical_files import jld_file, matlab_folder
from tests.messages import one_line
from tests.synthetic import planted_bags

QUICK = ClassicalProtocol(hidden=16, attention=8, dropout=0.0, steps=30, batch_bags=8, lr=0.02)
REAL = Path(__file__).parents[3] / "shared" / "data" / "mil_benchmarks"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two easy data sets: 24 bags as JLD with 2 x 3 folds of its own, and as MATLAB files."""
    monkeypatch.setattr(classical, "PROTOCOL", QUICK)
    bags, labels = zip(*planted_bags(24, tiles=4, dim=4, push=9.0), strict=True)
    folds = [
        [[(bag + turn) % 3 != fold for bag in range(24)] for fold in range(3)] for turn in range(2)
    ]
    jld_file(tmp_path / "Easy.jld", bags, labels, folds)
    matlab_folder(tmp_path / "Musk2_mat", bags, labels)
    return tmp_path


def run(folder, **changes):
    usual = {
        "datasets": ["easy"],
        "heads": ["max"],
        "repeats": 2,
        "folds": 3,
        "threads": 1,
        "json": None,
    }
    return classical.run(folder, **{**usual, **changes})


def test_standardised_by_the_training_bags_alone(folder):
    data = load("easy", folder / "Easy.jld", 2, 3)
    train, test = data.fold(1, 2, 9.0)
    assert {bag.slide for bag in test} == {
        str(number) for number in range(24) if (number + 1) % 3 == 2
    }
    assert len(train) + len(test) == 24
    rows = torch.cat([bag.features for bag in train]).double()
    torch.testing.assert_close(rows.mean(0), torch.zeros(4).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(4).double(), atol=1e-5, rtol=0)
    raw = torch.cat(
        [bag.features for bag in data.bags if bag.slide in {one.slide for one in train}]
    )
    of_one = next(bag for bag in data.bags if bag.slide == test[0].slide)
    expected = (of_one.features - raw.mean(0)) / raw.std(0, correction=0)
    torch.testing.assert_close(test[0].features, expected.float())
    clipped = torch.cat([bag.features for part in data.fold(1, 2, 1.5) for bag in part])
    torch.testing.assert_close(
        clipped, torch.cat([bag.features for bag in [*train, *test]]).clamp(-1.5, 1.5)
    )
    assert clipped.abs().max() == 1.5


def test_a_feature_that_is_constant_in_training_stays_finite(tmp_path):
    bags = [np.array([[number, 0.1, 5.0 * (number == 3)]], np.float32) for number in range(4)]
    folds = [[[True, True, True, False], [False, False, False, True]]]
    path = jld_file(tmp_path / "a.jld", bags, [True, False, True, False], folds)
    with pytest.raises(FormatError, match="one label to train on"):
        load("a", path, 1, 2)
    folds = [[[True, True, True, False], [True, True, False, True], [False, False, True, True]]]
    train, test = load("a", jld_file(path, bags, [True, False, True, False], folds), 1, 3).fold(
        0, 0, 9.0
    )
    assert [bag.features[0, 1:].tolist() for bag in train] == [[0.0, 0.0]] * 3
    assert test[0].features[0, 1:].tolist() == [0.0, 5.0]


def test_folds_are_the_files_own_where_there_are_as_many(folder):
    own = load("easy", folder / "Easy.jld", 2, 3).training
    assert own[1][0].tolist() == [(bag + 1) % 3 != 0 for bag in range(24)]
    assert len(load("easy", folder / "Easy.jld", 1, 3).training) == 1
    for path, repeats, folds in (
        (folder / "Easy.jld", 3, 3),
        (folder / "Easy.jld", 2, 4),
        (folder / "Musk2_mat", 2, 3),
    ):
        data = load("any", path, repeats, folds)
        assert len(data.training) == repeats
        labels = np.array([bag.label for bag in data.bags])
        for masks in data.training:
            assert len(masks) == folds
            np.testing.assert_array_equal(np.sum([~mask for mask in masks], 0), np.ones(24))
            assert [labels[~mask].mean() for mask in masks] == [0.5] * folds  # labels in proportion
        assert not np.array_equal(data.training[0], data.training[1])
        again = load("any", path, repeats, folds)
        np.testing.assert_array_equal(data.training, again.training)


@pytest.mark.parametrize("bad", ["empty", "nan", "few"])
def test_data_that_cannot_be_used(tmp_path, bad):
    bags = [np.ones((2, 3), np.float32) for _ in range(6)]
    if bad == "empty":
        bags[2] = np.ones((0, 3), np.float32)
    elif bad == "nan":
        bags[2][0, 0] = np.nan
    path = jld_file(tmp_path / "a.jld", bags, [True, True, False, False, False, False], [])
    message = {"empty": "a bag is empty", "nan": "not numbers", "few": "2 bags of a label"}[bad]
    with pytest.raises(DatasetError if bad == "few" else FormatError, match=message):
        load("a", path, 1, 3)


def test_data_sets_are_found_by_name(folder):
    assert list(select_data_sets(folder, [])) == ["easy", "musk2"]
    assert select_data_sets(folder, ["MUSK2"]) == {"musk2": folder / "Musk2_mat"}
    with pytest.raises(DatasetError, match="did you mean 'musk2'"):
        select_data_sets(folder, ["musk3"])
    with pytest.raises(DatasetError, match="no data sets here"):
        select_data_sets(folder / "nowhere", [])


@pytest.mark.slow
def test_an_easy_data_set_is_learnt_and_the_table_says_so(folder):
    results = run(folder, datasets=[], heads=["mean", "abmil"])
    assert [row["recipe"] for row in results.rows] == ["mean", "abmil", "  published"]
    assert list(results.rows[0]) == ["recipe", "easy", "musk2", "s_a_fit"]
    assert all(float(row[name][:5]) > 0.9 for row in results.rows[:2] for name in ("easy", "musk2"))
    assert results.rows[2]["musk2"] == "0.863 ± 0.042"
    assert results.rows[2]["easy"] == ""


def test_figures_are_those_of_the_folds():
    row = ClassicalResult(
        dataset="a",
        data="",
        recipe="b",
        what=CountedRecipe(name="b", options={}, losses={}, clip_norm=None),
        accuracy=[[1.0, 0.5], [0.5, 0.0]],
        seconds=1.0,
    )
    mean, deviation, error = row.summary()
    assert mean == 0.5
    assert deviation == pytest.approx(np.std([0.75, 0.25], ddof=1))
    assert error == pytest.approx(np.std([1.0, 0.5], ddof=1) / np.sqrt(2))


def test_one_repetition_has_no_interval():
    settings = CountedRecipe(name="b", options={}, losses={}, clip_norm=None)
    row = ClassicalResult(
        dataset="a", data="", recipe="b", what=settings, accuracy=[[1.0, 0.5]], seconds=1.0
    )
    assert row.summary().deviation is None
    assert str(row.summary()) == "0.750 (0.250)"


def test_options_are_the_protocols_unless_the_recipe_says_otherwise():
    protocol = ClassicalProtocol(hidden=24, attention=12, dropout=0.4)
    assert protocol.options(load_recipe("abmil_plain")) == {
        "hidden": 24,
        "attention": 12,
        "dropout": 0.4,
        "gated": False,
    }
    assert protocol.options(load_recipe("clam_sb"))["dropout"] == 0.25
    assert set(protocol.options(load_recipe("max"))) == {"hidden", "dropout"} & set(
        head_module("max").Config.model_fields
    )


def test_training_lasts_as_many_steps_whatever_the_data_set(monkeypatch):
    config = ClassicalProtocol(steps=300, batch_bags=16).training(480, load_recipe("abmil"))
    assert (config.epochs, config.batch_bags, config.select, config.warmup_epochs) == (
        10,
        16,
        "last",
        0,
    )
    assert ClassicalProtocol(steps=1, batch_bags=16).training(480, load_recipe("abmil")).epochs == 1


def test_every_fold_has_a_seed_of_its_own_and_the_same_one_again(folder, monkeypatch):
    seeds = []
    real = classical_fit.train_head

    def noted(*arguments):
        seeds.append(arguments[-1])
        real(*arguments)

    monkeypatch.setattr(classical_fit, "train_head", noted)
    task = RepetitionTask("easy", folder / "Easy.jld", load_recipe("abmil"), QUICK, 1, 2, 3)
    first = run_repetition(task)
    second = run_repetition(task)
    assert first.accuracy == second.accuracy
    assert len(set(seeds)) == 3
    assert seeds[:3] == seeds[3:]


def test_a_head_in_two_stages_and_one_with_a_graph(folder, monkeypatch):
    done = []

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = classical_fit.build_head(
                "abmil", {"hidden": 4, "attention": 4}, dim=4, classes=2
            )

        def forward(self, bags):
            done.append("step" if self.training else "test")
            assert bags.graph == "drawn anew" or bags.graph is None
            return self.inner(bags)

        def first_stage(self):
            return classical_fit.build_head("max", {}, dim=4, classes=2)

        def follow(self, first, train):
            assert not first.training
            done.append(("follow", len(list(train))))

        def see_training(self, train):
            done.append(("see", len(list(train))))

        def build_graph(self, features, coords):
            done.append("graph")

    train, test = load("easy", folder / "Easy.jld", 2, 3).fold(0, 0, 3.0)
    recipe = load_recipe("abmil")
    head = Both()
    classical_fit.train_head(head, train, recipe, QUICK.training(len(train), recipe), 1)
    accuracy = classical_fit.accuracy_of(head, test)
    assert 0 <= accuracy <= 1
    steps = QUICK.training(16, recipe).epochs * 2
    assert done == [
        ("follow", 16),
        ("see", 16),
        *["graph"] * 16,
        *["step"] * steps,
        *["graph"] * 8,
        "test",
    ]


@pytest.mark.slow
def test_two_processes_find_the_same(folder, tmp_path):
    run(folder, json=tmp_path / "one.json")
    run(folder, json=tmp_path / "two.json", threads=2)
    one, two = (
        json.loads((tmp_path / f"{name}.json").read_text())["rows"] for name in ("one", "two")
    )
    assert [row["accuracy"] for row in one] == [row["accuracy"] for row in two]
    assert np.shape(one[0]["accuracy"]) == (2, 3)


@pytest.mark.slow
def test_results_are_kept_and_resumed(folder, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    run(folder, json=path)
    measured = []
    real = classical.run_repetition

    def counted(task):
        measured.append((task.dataset, task.recipe.name))
        if task.dataset == "musk2":
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(classical, "run_repetition", counted)
    with pytest.raises(KeyboardInterrupt):
        run(folder, json=path, heads=["max", "mean"], datasets=["easy", "musk2"])
    assert measured == [("easy", "mean"), ("easy", "mean"), ("musk2", "max")]
    rows = json.loads(path.read_text())["rows"]
    assert [(row["dataset"], row["recipe"]) for row in rows] == [("easy", "max"), ("easy", "mean")]
    measured.clear()
    assert len(run(folder, json=path, heads=["max", "mean"]).rows) == 2
    assert measured == []
    (tmp_path / "max.yaml").write_text(
        "name: max\noptions: {hidden: 5}\nlosses: {cross_entropy: 1}\n"
    )
    run(folder, json=path, heads=[str(tmp_path / "max.yaml")])  # another recipe of that name
    assert measured == [("easy", "max"), ("easy", "max")]
    assert len(json.loads(path.read_text())["rows"]) == 2


def test_results_of_something_else_are_not_touched(folder, tmp_path):
    path = tmp_path / "results.json"
    run(folder, json=path)
    before = path.read_text()
    with pytest.raises(FormatError, match="other settings"):
        run(folder, json=path, repeats=1)
    assert path.read_text() == before
    for text in ("{", "[]", '{"format": "mil.bench"}', before.replace("0.1.0", "0.0.1")):
        path.write_text(text)
        with one_line((FormatError, ConfigError)) as caught:
            run(folder, json=path)
        assert str(path) in str(caught.value)
        assert path.read_text() == text


def test_from_the_command_line(folder, tmp_path):
    arguments = [
        "bench",
        "classical",
        str(folder),
        "--dataset",
        "Easy",
        "--head",
        "abmil",
        "--repeats",
        "1",
        "--folds",
        "2",
    ]
    result = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "o.json")])
    assert result.exit_code == 0, result.output
    assert "1 x 2-fold" in result.output
    assert "published" in result.output
    assert json.loads((tmp_path / "o.json").read_text())["format"] == "mil.bench.classical"


def test_recipes_of_publications_are_left_out():
    recipes = classical.own_recipes()
    assert {"abmil", "abmil_plain", "acmil"} <= set(recipes)
    assert "acmil_2023_11" not in recipes


@pytest.mark.skipif(not REAL.is_dir(), reason="the data sets are not here")
def test_the_real_files():
    sizes = {
        "musk1": (92, 47, 476, 166),
        "musk2": (102, 39, 6598, 166),
        "tiger": (200, 100, 1220, 230),
    }
    for name, path in select_data_sets(REAL, list(sizes)).items():
        data = load(name, path, 5, 10)
        tiles = sum(len(bag.features) for bag in data.bags)
        actual = (
            len(data.bags),
            sum(bag.label for bag in data.bags),
            tiles,
            data.bags[0].features.shape[1],
        )
        assert actual == sizes[name]
