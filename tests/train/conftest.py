"""A study so small that a training takes a tenth of a second."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mil.io.tables import write_csv
from mil.train.stage import run
from mil.trained import Trained
from tests.synthetic import bag_file, planted_bags

# By head: randomness in masking, dropout, graphs, noise and order; one stage, or two.
RECIPES = {
    "acmil": "name: acmil\noptions: {hidden: 16}\n"
    "losses: {cross_entropy: 1, branch_cross_entropy: 1}\n",
    "graph_select": "name: graph_select\n"
    "options: {hidden: 16, dropout: 0.2, noise: 1.0, keep_least: 4}\n"
    "losses: {cross_entropy: 1}\n",
    "ibmil": "name: ibmil\noptions: {hidden: 16}\nlosses: {cross_entropy: 1}\n",
    "mhim": "name: mhim\noptions: {hidden: 16, momentum: 0.9}\n"
    "losses: {cross_entropy: 1, teacher_consistency: 0.1}\n",
}


@dataclass(frozen=True)
class SmallStudy:
    """8 training and 4 validation bags of 12 tiles, one planted in each positive bag."""

    folder: Path

    def train(self, head: str, settings: str, out: str = "head", **others: Any) -> Trained:
        """Train a head of `RECIPES`; `settings` are the keys of its section `train`."""
        recipe = self.folder / f"{head}.yaml"
        recipe.write_text(RECIPES[head] + f"train: {{{settings}}}\n")
        arguments: dict[str, Any] = {"fold": 0, "seed": 1, "threads": 1, "device": "cpu"}
        return run(
            str(self.folder / "toy.yaml"),
            self.folder / "bags",
            self.folder / "folds.csv",
            self.folder / out,
            recipe=str(recipe),
            **arguments | others,
        )

    def files(self, out: str = "head") -> dict[str, bytes]:
        """What a head's folder holds."""
        return {path.name: path.read_bytes() for path in sorted((self.folder / out).glob("*.*"))}


@pytest.fixture
def small(tmp_path: Path) -> SmallStudy:
    features, labels = zip(*planted_bags(count=12, tiles=12, push=8.0), strict=True)
    folds = []
    for i in range(12):
        slide = f"s{i:02d}"
        label = ["normal", "tumour"][labels[i]]
        bag_file(tmp_path / "bags" / f"{slide}.h5", slide, features[i])
        folds.append(
            {
                "fold": 0,
                "slide": slide,
                "patient": slide,
                "label": label,
                "split": "train" if i < 8 else "val",
            }
        )
    write_csv(
        tmp_path / "toy.csv",
        [{key: row[key] for key in ("slide", "patient", "label")} for row in folds],
    )
    write_csv(tmp_path / "folds.csv", folds)
    (tmp_path / "toy.yaml").write_text("classes: [normal, tumour]\n")
    return SmallStudy(tmp_path)
