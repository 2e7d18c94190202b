"""What `mil evaluate` wrote, ready to be held against another."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mil.errors import DatasetError, FormatError
from mil.io.tables import read_csv


class Evaluated(NamedTuple):
    """One recipe on one encoder."""

    folder: Path
    metrics: Mapping[str, Any]
    labels: Mapping[str, str]  # of each test slide, in the order of their names
    patients: Mapping[str, str]
    answers: Mapping[
        str, Float[np.ndarray, " slides"]
    ]  # by column, mean over the heads that held the slide out

    @property
    def name(self) -> str:
        """Recipe and encoder."""
        return f"{self.metrics['recipe']} · {self.metrics['encoder']}"

    @property
    def about(self) -> tuple[str, list[str], str]:
        """What was asked of it: kind of task, classes, the positive one."""
        return self.metrics["task"], list(self.metrics["classes"]), self.metrics["positive"]


def read_evaluated(folder: Path) -> Evaluated:
    """Read a folder of predictions.csv and metrics.json.

    Raises:
        FormatError: they are not there, or of an earlier version.
    """
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        rows = read_csv(folder / "predictions.csv")
        _ = [
            metrics[key]
            for key in (
                "recipe",
                "encoder",
                "task",
                "classes",
                "positive",
                "test",
                "test_patients",
                "runs",
            )
        ]
        slides: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            if row["split"] == "test":
                slides.setdefault(row["slide"], []).append(row)
        ordered = dict(sorted(slides.items()))
        columns = _answers(rows[0]) if rows else []
        return Evaluated(
            folder,
            metrics,
            {name: mine[0]["label"] for name, mine in ordered.items()},
            {name: mine[0]["patient"] for name, mine in ordered.items()},
            {
                c: np.array([np.mean([float(row[c]) for row in mine]) for mine in ordered.values()])
                for c in columns
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        what = (
            f"{error.args[0]!r} is missing"
            if isinstance(error, KeyError)
            else " ".join(str(error).split())
        )
        raise FormatError(
            f"{folder}: no predictions.csv and metrics.json of `mil evaluate` ({what}); run it "
            "again"
        ) from None


def _answers(row: Mapping[str, str]) -> list[str]:
    """Columns between the label and the recipe."""
    names = list(row)
    return names[names.index("label") + 1 : names.index("recipe")]


def check_alike(heads: Sequence[Evaluated]) -> None:
    """Refuse to compare what was not asked the same of the same slides.

    Raises:
        DatasetError: which folders differ, and in which slides.
    """
    first = heads[0]
    for head in heads[1:]:
        if head.about != first.about:
            raise DatasetError(
                f"{head.folder} and {first.folder} are of different tasks or classes; compare "
                "heads of one"
            )
        apart = sorted(set(head.labels) ^ set(first.labels))
        if apart:
            raise DatasetError(
                f"{head.folder} and {first.folder} were tested on different slides: {few(apart)}; "
                "evaluate both with the same folds"
            )
        torn = [
            s
            for s in first.labels
            if (head.labels[s], head.patients[s]) != (first.labels[s], first.patients[s])
        ]
        if torn:
            raise DatasetError(
                f"{head.folder} and {first.folder} have other labels or patients for {few(torn)}; "
                "evaluate both with the same slide table"
            )
    named: dict[str, Path] = {}
    for head in heads:
        if head.name in named:
            raise DatasetError(
                f"{head.folder} and {named[head.name]} are both {head.name}; give each once"
            )
        named[head.name] = head.folder


def in_common(heads: Sequence[Evaluated]) -> tuple[list[Evaluated], list[str]]:
    """The heads on the slides that all were tested on, and the slides that some were not."""
    shared = set.intersection(*(set(head.labels) for head in heads))
    left_out = sorted(set().union(*(head.labels for head in heads)) - shared)
    return [_on(head, shared) for head in heads] if left_out else list(heads), left_out


def _on(head: Evaluated, slides: set[str]) -> Evaluated:
    rows = [i for i, slide in enumerate(head.labels) if slide in slides]
    return head._replace(
        labels={slide: label for slide, label in head.labels.items() if slide in slides},
        patients={slide: patient for slide, patient in head.patients.items() if slide in slides},
        answers={column: said[rows] for column, said in head.answers.items()},
    )


def few(names: Sequence[str]) -> str:
    """The first five, and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
