"""A small study: the eight slides of the dataset `demo_mini`, and each command that it takes."""

from collections.abc import Sequence
from pathlib import Path

from mil.demo.stage import make
from mil.io.tables import read_dataset

DATASET = "demo_mini"
# Slide that commands of one slide take; it has tissue, tumour and an annotation.
SLIDE = "mini_06"
HEAD = "abmil"
TRAINED = "train/seed1_fold0of1"
# Folder of what is written to be timed.
SCRATCH = "timed"


def make_slides(folder: Path) -> None:
    """Write the slides and annotations of the study below `data/DATASET` of a folder."""
    _, rows = read_dataset(DATASET)
    for row in rows:
        for file in filter(None, (row.path, row.annotation)):
            make(Path(file).name, folder / "data" / DATASET / file)


def study_commands() -> dict[str, Sequence[str]]:
    """Arguments of each command of the study, in an order in which all inputs are there.

    Paths are relative to the folder of `make_slides`.
    """
    dataset = ("--dataset", DATASET)
    folds = ("--folds", "folds.csv")
    bags = ("--bags", "features")
    return {
        "tile": (*dataset, "--out-dir", "tile"),
        "features": (*dataset, "--tiles", "tile", *bags),
        "split": (*dataset, "--tiles", "tile", *bags, "--out", "folds.csv"),
        "train": (*dataset, *bags, *folds, "--head", HEAD, "--out", TRAINED),
        "score": ("--head-dir", TRAINED, *dataset, *bags, "--scores", "score"),
        "evaluate": (*dataset, *bags, *folds, "--scores", "score", "--out", "evaluate"),
        "compare": ("--evaluated", "evaluate", "--out", "compare"),
        "heatmap": (
            *(*dataset, *bags, *folds),
            *("--scores", "score", "--tiles", "tile", "--out-dir", "heatmap"),
        ),
        "report": (
            *(*dataset, *bags, "--tiles", "tile", "--evaluated", "evaluate"),
            *("--heatmaps", "heatmap", "--comparison", "compare/comparison.json"),
            *("--out", "report.html"),
        ),
    }


def timed_commands() -> dict[str, Sequence[str]]:
    """Arguments of each command as it is timed; the study's files are there.

    Commands that take a single slide take one, and write below `SCRATCH`. So does `train`,
    which would keep a head that is finished.
    """
    bag = f"features/{SLIDE}.h5"
    slide = f"data/{DATASET}/{SLIDE}.tif"
    tiles = f"tile/{SLIDE}.h5"
    score = f"score/{SLIDE}.h5"
    study = study_commands()
    return study | {
        "tile": ("--slide", slide, "--out", f"{SCRATCH}/tile.h5"),
        "features": ("--slide", slide, "--tiles", tiles, "--out", f"{SCRATCH}/bag.h5"),
        "train": (*study["train"], "--out", f"{SCRATCH}/head"),
        "score": ("--head-dir", TRAINED, "--bag", bag, "--out", f"{SCRATCH}/score.h5"),
        "heatmap": (
            *("--score", score, "--bag", bag, "--tiles", tiles),
            *("--out", f"{SCRATCH}/heatmap.png"),
        ),
    }
