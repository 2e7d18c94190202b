"""A whole study, from bags to metrics: invariances hold, and nothing leaks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mil.io.tables import read_csv, write_csv
from mil.train.stage import run as train
from tests.scored import evaluate
from tests.synthetic import bag_file, planted_bags

SPLITS = ["train"] * 24 + ["val"] * 12 + ["test"] * 24


def make(
    folder: Path, labels: Sequence[str], tiles: np.random.Generator | None = None
) -> list[dict[str, Any]]:
    """Bags with a planted tile in every second one, a random recipe; rows of folds.csv."""
    for number, (features, _) in enumerate(planted_bags(count=60, push=8.0)):
        slide = f"s{number:02d}"
        bag_file(
            folder / "bags" / f"{slide}.h5",
            slide,
            features if tiles is None else tiles.permutation(features),
        )
    (folder / "fast.yaml").write_text(
        "name: acmil\noptions: {hidden: 16}\nlosses: {cross_entropy: 1, branch_cross_entropy: 1, "
        "branch_diversity: 1}\n"
        "train: {epochs: 8, lr: 1.0e-2, batch_bags: 4, sampling: balanced, class_weights: "
        "balanced}\n"
    )
    return rows_of(labels)


def rows_of(labels: Sequence[str]) -> list[dict[str, Any]]:
    names = [f"s{number:02d}" for number in range(60)]
    return [
        {"fold": 0, "slide": name, "patient": name, "label": label, "split": split}
        for name, label, split in zip(names, labels, SPLITS, strict=True)
    ]


def study(
    folder: Path, rows: Sequence[dict[str, Any]], classes: Sequence[str], seed: int = 1
) -> dict[str, Any]:
    """Train on those folds and evaluate; what metrics.json holds."""
    (folder / "toy.yaml").write_text(f"classes: [{', '.join(classes)}]\n")
    write_csv(
        folder / "toy.csv",
        [{key: row[key] for key in ("slide", "patient", "label")} for row in rows],
    )
    write_csv(folder / "folds.csv", rows)
    where = str(folder / "toy.yaml"), folder / "bags", folder / "folds.csv", folder / f"seed{seed}"
    train(*where, recipe=str(folder / "fast.yaml"), fold=0, seed=seed, threads=1, device="cpu")
    return evaluate(
        where[0], [where[3]], *where[1:3], folder / "evaluated", slides_dir=folder, threads=1
    )


def found(folder: Path, positive: str) -> dict[str, float]:
    """What was predicted of each slide."""
    return {
        row["slide"]: float(row[f"p_{positive}"])
        for row in read_csv(folder / "evaluated" / "predictions.csv")
    }


def named(negative: str, positive: str) -> list[str]:
    return [negative, positive] * 30


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[bytes, dict[str, float]]:
    folder = tmp_path_factory.mktemp("usual")
    metrics = study(folder, make(folder, named("normal", "tumour")), ["normal", "tumour"])
    assert metrics["test"]["auroc"]["value"] >= 0.95  # there is something to find
    return (folder / "seed1" / "head.safetensors").read_bytes(), found(folder, "tumour")


@pytest.mark.slow
def test_order_of_slides_in_the_table_changes_nothing(usual, tmp_path):
    rows = make(tmp_path, named("normal", "tumour"))
    study(
        tmp_path, [rows[i] for i in np.random.default_rng(0).permutation(60)], ["normal", "tumour"]
    )
    assert (
        (tmp_path / "seed1" / "head.safetensors").read_bytes(),
        found(tmp_path, "tumour"),
    ) == usual


@pytest.mark.slow
def test_names_of_labels_change_nothing(usual, tmp_path):
    study(
        tmp_path, make(tmp_path, named("z", "a")), ["z", "a"]
    )  # whose alphabetical order is the other one
    assert ((tmp_path / "seed1" / "head.safetensors").read_bytes(), found(tmp_path, "a")) == usual


@pytest.mark.slow
def test_order_of_tiles_changes_nothing_but_rounding(usual, tmp_path):
    rows = make(tmp_path, named("normal", "tumour"), np.random.default_rng(0))
    without = (
        "name: abmil\noptions: {hidden: 16}\nlosses: {cross_entropy: 1}\n"
        "train: {epochs: 8, lr: 1.0e-2}\n"
    )
    (tmp_path / "fast.yaml").write_text(without)  # acmil draws which tiles it masks by their place
    study(tmp_path, rows, ["normal", "tumour"])
    shuffled = found(tmp_path, "tumour")
    make(tmp_path, named("normal", "tumour"))
    (tmp_path / "fast.yaml").write_text(without)
    study(tmp_path, rows, ["normal", "tumour"])
    assert shuffled == pytest.approx(found(tmp_path, "tumour"), abs=1e-4)


@pytest.mark.slow
def test_shuffled_labels_cannot_be_predicted(tmp_path):
    make(tmp_path, named("normal", "tumour"))
    aurocs = []
    for seed in range(1, 21):
        rows = rows_of(np.random.default_rng(seed).permutation(named("normal", "tumour")).tolist())
        aurocs.append(study(tmp_path, rows, ["normal", "tumour"], seed)["test"]["auroc"]["value"])
    # 24 test slides: each has a standard error of 0.12, their mean one of 0.027
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_the_same_study_twice_gives_the_same_metrics(tmp_path):
    rows = make(tmp_path, named("normal", "tumour"))
    written = []
    for _ in range(2):
        study(tmp_path, rows, ["normal", "tumour"])
        written.append((tmp_path / "evaluated" / "metrics.json").read_bytes())
    assert written[0] == written[1]
