"""Section of the report: losses of each head by epoch, from the history of its training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from mil.report.figures.blocks import Block, Figure, Key, Note, Table, section
from mil.report.figures.style import (
    BAND,
    COLOURS,
    PANELS,
    figure,
    name_axes,
    panels,
    shorten,
    styled,
)
from mil.report.page_section import PageSection
from mil.report.study_files import ReportedHead, StudyFiles

HISTORY = "history.json"
LINES = 3  # most runs that have a line each; of more, median and range are drawn
POINTS = 100  # most epochs of a line
SPLITS = {"train": "training loss", "valid": "validation loss"}
SPLIT_COLOURS = dict(zip(SPLITS, (COLOURS[0], COLOURS[1]), strict=True))


class History(NamedTuple):
    """Losses of a run by epoch, from the first, and the epoch whose weights were selected."""

    losses: Mapping[str, Float[np.ndarray, " epochs"]]  # by split
    best_epoch: int


class Trained(NamedTuple):
    """Histories of the runs of a head, and the number of those that cannot be read."""

    name: str
    runs: Sequence[History]
    n_unread: int


def build(study: StudyFiles) -> PageSection | None:
    """Learning curves; None where no folder of trained heads is known."""
    heads = [_trained(head) for head in study.heads if head.trained]
    drawn = [head for head in heads if head.runs]
    blocks: list[Block] = [_figure(drawn), _table(drawn)] if drawn else []
    blocks += [
        Note(
            f"No learning curve of {head.n_unread} of {head.n_unread + len(head.runs)} runs of "
            f"{head.name}: their {HISTORY} is missing, empty (of an imported head) or damaged."
        )
        for head in heads
        if head.n_unread
    ]
    return section("learning", "Learning curves", blocks)


def _trained(head: ReportedHead) -> Trained:
    histories = [read_history(folder / HISTORY) for folder in head.trained]
    runs = [history for history in histories if history is not None]
    return Trained(head.metrics.name, runs, len(histories) - len(runs))


def read_history(path: Path) -> History | None:
    """Losses of a run; None where the file is missing or is no history of losses."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        losses = {
            split: np.array([float(epoch["loss"]) for epoch in content[split]]) for split in SPLITS
        }
        history = History(losses, int(content["best_epoch"]))
    # Another program may have written anything.
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    known = all(np.isfinite(values).all() for values in losses.values())
    return history if known and len(losses["train"]) else None


@styled
def _figure(heads: Sequence[Trained]) -> Figure:
    shown = heads[:PANELS]
    canvas, axes = panels(len(shown), height=1.9)
    longest = max(len(run.losses["train"]) for head in shown for run in head.runs)
    ends = _range(shown)
    for one, head in zip(axes, shown, strict=True):
        for split in SPLITS:
            _draw(one, [run.losses[split] for run in head.runs], SPLIT_COLOURS[split])
        for run in head.runs[: LINES if len(head.runs) <= LINES else 0]:
            _mark(one, run)
        one.set(xlim=(0, longest + 1), ylim=ends)
        one.set_title(shorten(head.name))
    name_axes(axes, "epoch", "loss")
    caption = (
        "Loss by epoch. Dots: the epoch whose weights were selected. Of more than "
        f"{LINES} runs of a head the line is their median and the band their range; of a head "
        "that is an ensemble of restarts the first that was kept is shown. The training loss "
        "counts auxiliary terms of a recipe, the validation loss does not, so that only their "
        "course compares."
    )
    if len(heads) > PANELS:
        caption += f" The first {PANELS} of {len(heads)} heads have a panel."
    return figure(canvas, caption, [Key(SPLIT_COLOURS[key], name) for key, name in SPLITS.items()])


def _range(heads: Sequence[Trained]) -> tuple[float, float]:
    """Ends of the axis: a single peak of a loss would flatten the rest."""
    every = np.concatenate(
        [values for head in heads for run in head.runs for values in run.losses.values()]
    )
    # Terms such as the entropy of attention may take a loss below 0.
    low, high = np.quantile(every, (0.01, 0.99))
    return 1.1 * min(0.0, float(low)), 1.1 * float(high) if high > 0 else 1.0


def _draw(axes: Axes, runs: Sequence[Float[np.ndarray, " epochs"]], colour: str) -> None:
    runs = [losses for losses in runs if len(losses)]
    if len(runs) <= LINES:
        for losses in runs:
            epochs = _epochs(len(losses))
            axes.plot(epochs, losses[epochs - 1], color=colour, linewidth=1.1)
        return
    longest = max(map(len, runs))
    table = np.full((len(runs), longest), np.nan)
    for row, losses in zip(table, runs, strict=True):
        row[: len(losses)] = losses
    epochs = _epochs(longest)
    shown = table[:, epochs - 1]
    low, middle, high = (np.nanquantile(shown, share, axis=0) for share in (0, 0.5, 1))
    axes.fill_between(epochs, low, high, color=colour, alpha=BAND, linewidth=0)
    axes.plot(epochs, middle, color=colour, linewidth=1.1)


def _epochs(number: int) -> np.ndarray:
    """Epochs that are drawn, from 1, the first and the last among them."""
    return np.unique(np.linspace(1, number, min(number, POINTS)).round().astype(int))


def _mark(axes: Axes, run: History) -> None:
    losses = run.losses["valid"]
    if 1 <= run.best_epoch <= len(losses):
        height = losses[run.best_epoch - 1]
        axes.plot([run.best_epoch], [height], "o", markersize=4, color=SPLIT_COLOURS["valid"])


def _table(heads: Sequence[Trained]) -> Table:
    rows = []
    for head in heads:
        epochs = [len(run.losses["train"]) for run in head.runs]
        best = [run.best_epoch for run in head.runs]
        last = [float(run.losses["train"][-1]) for run in head.runs]
        selected = [
            float(run.losses["valid"][run.best_epoch - 1])
            for run in head.runs
            if 1 <= run.best_epoch <= len(run.losses["valid"])
        ]
        rows.append(
            [
                head.name,
                str(len(head.runs)),
                _median(epochs, ".0f"),
                _median(best, ".0f"),
                _median(last, ".3f"),
                _median(selected, ".3f"),
            ]
        )
    return Table(
        "Median over the runs of a head, with their range.",
        [
            "head · encoder",
            "runs",
            "epochs",
            "selected epoch",
            "last training loss",
            "validation loss of the selected epoch",
        ],
        rows,
    )


def _median(numbers: Sequence[float], form: str) -> str:
    if not numbers:
        return "–"
    least, most = min(numbers), max(numbers)
    middle = f"{np.median(numbers):{form}}"
    return middle if least == most else f"{middle} ({least:{form}} to {most:{form}})"
