"""Bags with two planted numbers, and a dataset of each task whose labels depend on them."""

import math
from pathlib import Path

import numpy as np

from mil.io.tables import write_csv
from tests.synthetic import bag_file

YAML = {
    "classification": "classes: [low, high]",
    "multilabel": "task: multilabel\nclasses: [up, right]",
    "ordinal": "task: ordinal\nclasses: [low, mid, high]",
    "regression": "task: regression",
    "survival_discrete": "task: survival_discrete",
    "survival_cox": "task: survival_cox",
}
COUNT = 90
TRAIN = 48
VAL = 12


def label_of(kind: str, u: float, v: float, luck: float) -> str:
    """The label of a slide with the numbers u and v (standard normal) and luck of its own, 0..1."""
    if kind == "classification":
        return "high" if u > 0 else "low"
    if kind == "multilabel":
        return ";".join(name for name, there in (("up", u > 0), ("right", v > 0)) if there)
    if kind == "ordinal":
        return "low" if u < -0.45 else "mid" if u < 0.45 else "high"
    if kind == "regression":
        return f"{50 + 10 * u:.3f}"
    time = 10 * math.exp(-u) * (0.8 + 0.4 * luck)
    return f"{time:.2f}" if luck < 0.7 else f"{0.8 * time:.2f}+"


def write_study(folder: Path, kind: str, *, shuffled: bool = False, count: int = COUNT) -> Path:
    """Write bags, `toy.yaml`, `toy.csv` and `folds.csv` of one fold.

    `shuffled`: labels are independent of the bags. `count`: slides, the last of them for testing.
    """
    draw = np.random.default_rng(3)
    hidden = draw.normal(size=(count, 2))
    rows = []
    folds = []
    labels = [label_of(kind, *pair, draw.random()) for pair in hidden]
    for i in range(count):
        slide = f"s{i:02d}"
        features = 0.5 * draw.normal(size=(6, 8))
        features[:, :2] += hidden[i]
        bag_file(folder / "bags" / f"{slide}.h5", slide, features.astype(np.float32))
        label = labels[(i * 7 + 3) % count if shuffled else i]
        rows.append({"slide": slide, "patient": f"p{i // 2:02d}", "label": label})
        folds.append(
            {
                "fold": 0,
                **rows[-1],
                "split": "train" if i < TRAIN else "val" if i < TRAIN + VAL else "test",
            }
        )
    (folder / "toy.yaml").write_text(YAML[kind] + "\n")
    write_csv(folder / "toy.csv", rows)
    write_csv(folder / "folds.csv", folds)
    return folder
