"""Section of a model card about its data: slides, patients and labels by split."""

from collections.abc import Sequence

from mil.config import DatasetConfig
from mil.io.results import (
    Prediction,
)
from mil.trained import Trained
from mil.trained.markdown import escaped, table

SPLITS = {"train": "training", "val": "validation", "test": "test"}


def data_section(
    trained: Trained, rows: Sequence[Prediction], dataset: DatasetConfig | None
) -> str:
    """Text of the section."""
    held_out = next((row.held_out for row in rows if row.held_out), "")
    without = f" (tested on {escaped(held_out)}, trained without it)" if held_out else ""
    sentences = [
        f"Dataset {escaped(trained.dataset)}, fold {trained.fold}{without}; {_overlap(rows)}."
    ]
    if dataset and dataset.licence:
        sentences.append(f"Licence of the data: {escaped(dataset.licence)}.")
    if trained.fusion == "early":
        sentences.append("All slides of a patient were one bag, and count as one.")
    parts = [" ".join(sentences), _counts(trained, rows)]
    if dataset and dataset.notes:
        parts.append(f"> {escaped(dataset.notes)}")
    return "\n\n".join(parts)


def _overlap(rows: Sequence[Prediction]) -> str:
    """Whether splits share patients."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.patient, set()).add(row.split)
    shared = sum(len(of_patient) > 1 for of_patient in splits.values())
    if shared:
        return f"**{shared} patients are in two of its parts**"
    return "no patient is in two of its parts"


def _counts(trained: Trained, rows: Sequence[Prediction]) -> str:
    """Table of slides, patients and labels in each split."""
    header = ["part", "slides", "patients", "labels"]
    lines = []
    for split, name in SPLITS.items():
        members = [row for row in rows if row.split == split]
        patients = {row.patient for row in members}
        labels = [
            f"{sum(row.label == label for row in members)} {label}" for label in trained.classes
        ]
        lines.append([name, len(members), len(patients), ", ".join(labels)])
    left_out = set()
    if trained.fusion == "early":
        left_out.add("slides")
    if not trained.classes:
        left_out.add("labels")
    columns = [place for place, name in enumerate(header) if name not in left_out]
    return table(
        [header[place] for place in columns],
        [[line[place] for place in columns] for line in lines],
    )
