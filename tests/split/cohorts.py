"""Tables of slides and bags of them, for the stage as a whole."""

from pathlib import Path

import numpy as np

from mil.config import SplitConfig
from mil.io.tables import Slide, read_csv
from mil.split.stage import run
from tests.synthetic import bag_file


def slide(name, patient="", label="normal", split="", **subgroups):
    return Slide(name, patient or name, label, split=split, subgroups=subgroups)


def cohort(patients, slides_each=2, split=lambda i: "", **subgroups):
    """Slides `s0_0`, `s0_1`, … of patients `p0`, …; every other patient has tumour."""
    return [
        slide(
            f"s{i}_{k}",
            f"p{i}",
            ("normal", "tumour")[i % 2],
            split(i),
            **{n: of(i) for n, of in subgroups.items()},
        )
        for i in range(patients)
        for k in range(slides_each)
    ]


def write_study(folder: Path, table: str, features=None, classes="[normal, tumour]") -> Path:
    """A dataset `d` with a bag of each slide; the bags differ, but for those in `features`."""
    (folder / "d.csv").write_text(table)
    (folder / "d.yaml").write_text(f"classes: {classes}\n")
    for number, line in enumerate(table.strip().splitlines()[1:]):
        name = line.partition(",")[0]
        rows = (features or {}).get(name, np.full((2, 4), number))
        bag_file(folder / "bags" / f"{name}.h5", name, rows)
    return folder


def written(slides) -> str:
    """Slides as a table."""
    more = list(slides[0].subgroups)
    lines = [",".join(("slide", "patient", "label", "split", *more))]
    return "\n".join(
        lines
        + [",".join((s.slide, s.patient, s.label, s.split, *s.subgroups.values())) for s in slides]
    )


def divide(folder: Path, *, folds=1, allow_missing=False, fusion="late", **config):
    """Run the stage on such a study: rows of folds.csv, and what is told."""
    notes = run(
        str(folder / "d.yaml"),
        None,
        folder / "bags",
        folder / "out/folds.csv",
        folds=folds,
        allow_missing=allow_missing,
        fusion=fusion,
        config=SplitConfig(**config),
    )
    return read_csv(folder / "out/folds.csv"), notes
