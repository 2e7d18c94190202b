"""Many heads in one job: the same as trained alone, and nothing lost when it fails."""

import json

import pytest
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import DatasetError
from mil.io.bags import file as bags
from mil.io.tables import read_csv, write_csv
from mil.train import loop
from mil.train.optim import AdamW
from mil.train.runs import HeadRun
from mil.train.stage import run_all
from mil.train.store import BagStore
from mil.trained.record import read_record
from tests.messages import one_line
from tests.train.conftest import RECIPES
from tests.train.test_resume import Killed, killed_after

HOW = "epochs: 3, lr: 1.0e-2, batch_bags: 3, max_tiles: 9"


@pytest.fixture
def two_folds(small):
    """The small study in two folds, each with two test slides that the other one trains on."""
    rows = read_csv(small.folder / "folds.csv")
    tests = {"0": ("s00", "s01"), "1": ("s02", "s03")}
    write_csv(
        small.folder / "folds.csv",
        [
            row | {"fold": fold, "split": "test" if row["slide"] in test else row["split"]}
            for fold, test in tests.items()
            for row in rows
        ],
    )
    return small


def runs_of(small, seeds=(1, 2), folds=(0, 1), out="many"):
    return [
        HeadRun(seed, fold, small.folder / f"{out}_seed{seed}_fold{fold}")
        for fold in folds
        for seed in seeds
    ]


def train_all(small, head, runs, how=HOW):
    recipe = small.folder / f"{head}.yaml"
    recipe.write_text(RECIPES[head] + f"train: {{{how}}}\n")
    return run_all(
        str(small.folder / "toy.yaml"),
        small.folder / "bags",
        small.folder / "folds.csv",
        runs,
        recipe=str(recipe),
        threads=1,
        device="cpu",
    )


@pytest.mark.parametrize(
    ("head", "how"),
    [
        ("acmil", f"{HOW}, zscore: true, class_weights: balanced"),
        pytest.param("graph_select", HOW, marks=pytest.mark.slow),
        pytest.param("mhim", f"{HOW}, restarts: 2, inner_folds: 2", marks=pytest.mark.slow),
        pytest.param("graph_select", f"{HOW}, inner_folds: 2", marks=pytest.mark.slow),
    ],
)
def test_heads_of_one_job_are_those_trained_alone(two_folds, head, how):
    train_all(two_folds, head, runs_of(two_folds), how)
    for run in runs_of(two_folds):
        two_folds.train(head, how, f"alone{run.seed}{run.fold}", seed=run.seed, fold=run.fold)
        assert two_folds.files(run.out.name) == two_folds.files(f"alone{run.seed}{run.fold}")


def test_each_bag_is_read_once_for_all_heads(two_folds, monkeypatch):
    read = []
    reading = bags.read_bag

    def count(path, *arguments):
        read.append(path.stem)
        return reading(path, *arguments)

    monkeypatch.setattr("mil.io.bags.patients.read_bag", count)
    train_all(two_folds, "acmil", runs_of(two_folds))
    assert sorted(read) == [f"s{i:02d}" for i in range(12)]


def test_graphs_of_a_fold_are_built_once_for_its_seeds(two_folds, monkeypatch):
    built = []
    add_graphs = BagStore.add_graphs

    def count(store, *arguments, **settings):
        built.append(settings["indices"])
        add_graphs(store, *arguments, **settings)

    monkeypatch.setattr(BagStore, "add_graphs", count)
    train_all(two_folds, "graph_select", runs_of(two_folds))
    assert len(built) == 2


def test_a_head_never_gets_the_test_bags_of_its_fold(two_folds, monkeypatch):
    seen = []

    def record(bags_, labels, *arguments):
        names = {bag.slide for bag in bags_.read_ahead(range(len(bags_)))}
        seen.append(names)
        return sampled(bags_, labels, *arguments)

    sampled = loop.training_batches
    monkeypatch.setattr(loop, "training_batches", record)
    train_all(two_folds, "acmil", runs_of(two_folds, seeds=[1]))
    assert [names & {"s00", "s01", "s02", "s03"} for names in seen[::3]] == [
        {"s02", "s03"},
        {"s00", "s01"},
    ]


@pytest.mark.slow
def test_a_job_that_fails_loses_no_finished_head(two_folds, capfd):
    train_all(two_folds, "acmil", runs_of(two_folds, out="undisturbed"))
    steps = 3 * 2  # epochs, steps an epoch: the third head is under way
    with killed_after(2 * steps + 3):
        train_all(two_folds, "acmil", runs_of(two_folds))
    # As Snakemake does with the outputs of a job that failed.
    for run in runs_of(two_folds):
        for name in ("head.safetensors", "last.safetensors", "recipe.json", "history.json"):
            (run.out / name).unlink(missing_ok=True)
    capfd.readouterr()
    taken = []
    step = AdamW.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdamW, "step", lambda self: (taken.append(1), step(self))[1])
        train_all(two_folds, "acmil", runs_of(two_folds))
    assert len(taken) == 2 * steps
    assert capfd.readouterr().err.count("resumes after epoch 3 of 3") == 2
    for run in runs_of(two_folds):
        assert two_folds.files(run.out.name) == two_folds.files(f"undisturbed{run.out.name[4:]}")


def test_finished_heads_are_kept_when_another_seed_comes(two_folds, monkeypatch):
    runs = runs_of(two_folds, seeds=[1])
    train_all(two_folds, "acmil", runs)
    before = {run.out: (run.out / "head.safetensors").stat().st_mtime_ns for run in runs}
    records = train_all(two_folds, "acmil", runs_of(two_folds))
    assert [(record.seed, record.fold) for record in records] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    after = {run.out: (run.out / "head.safetensors").stat().st_mtime_ns for run in runs}
    assert after == before

    def refuse(self):
        raise Killed

    monkeypatch.setattr(AdamW, "step", refuse)
    assert train_all(two_folds, "acmil", runs_of(two_folds)) == records
    # A changed file, another recipe: trained again.
    (runs[0].out / "history.json").write_text("{}")
    with pytest.raises(Killed):
        train_all(two_folds, "acmil", runs[:1])
    with pytest.raises(Killed):
        train_all(two_folds, "acmil", runs[1:], HOW.replace("epochs: 3", "epochs: 4"))


def test_two_heads_in_one_folder_are_one_line(two_folds):
    runs = [HeadRun(seed, 0, two_folds.folder / "head") for seed in (1, 2)]
    with one_line(DatasetError, match=r"--out: .*head would hold the heads of seed 1 fold 0 and"):
        train_all(two_folds, "acmil", runs)


def test_seeds_and_folds_at_the_command_line(two_folds):
    recipe = two_folds.folder / "acmil.yaml"
    recipe.write_text(RECIPES["acmil"] + f"train: {{{HOW}}}\n")
    command = (
        f"train --dataset {two_folds.folder}/toy.yaml --bags {two_folds.folder}/bags "
        f"--folds {two_folds.folder}/folds.csv --head {recipe} --device cpu --seed 3 --seed 4 "
        f"--fold 0 --fold 1 --out {two_folds.folder}/x{{seed}}_{{fold}}"
    )
    result = CliRunner().invoke(app, command.split(), catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"train acmil seed {seed} fold {fold}" for fold in (0, 1) for seed in (3, 4)
    ]
    record = read_record(two_folds.folder / "x4_1")
    assert (record.seed, record.fold) == (4, 1)
    assert json.loads((two_folds.folder / "x4_1/history.json").read_text())["best_epoch"] >= 1
