"""The prediction after every share of a slide's tiles, read in random order.

Attention pooling is a recurrence over tiles (Feng et al. 2024, "Attention as an RNN",
https://arxiv.org/abs/2405.13956): summaries of parts merge in any order. Tiles are dealt at
random into cells while they are read, and cells merged one after another give the prediction
after every share, in as many orders as there are permutations. No features are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mil.heads import Part, Streams
from mil.predict.ensemble import Ensemble
from mil.trained import Trained
from mil.trained.forward import predictions
from mil.trained.record import threshold_of

SHARES = 20
ORDERS = 10
# The same slide has the same curve at every prediction.
SEED = 0
# Tiles of a cell that wait for one another: a head takes as long for one as for some.
WAITING = 64
SETTLED = ("settled", "settled_low", "settled_high")


@dataclass(frozen=True)
class Curve:
    """Predictions after every share of the tiles, mean over the heads.

    Attributes:
        tiles: Number of tiles so far, by order and step; the last step has all.
        predictions: Predictions, by order, step and column of the task.
        called: Predicted class, by order and step; empty texts where there are none.
    """

    tiles: Int[np.ndarray, "orders steps"]
    predictions: Float[np.ndarray, "orders steps columns"]
    called: list[list[str]]

    @property
    def has_calls(self) -> bool:
        """Whether slides are called something; of several labels a slide may have none."""
        return any(map(any, self.called))

    @property
    def settled(self) -> list[float]:
        """Share of tiles, in each order, after which the call no longer changed.

        Empty for a task without classes.
        """
        if not self.has_calls:
            return []
        pairs = zip(self.tiles, self.called, strict=True)
        return [float(tiles[last_step(calls)] / tiles[-1]) for tiles, calls in pairs]


def last_step(calls: Sequence[str]) -> int:
    """First step from which on all calls are the last one."""
    changed = [step for step, call in enumerate(calls) if call != calls[-1]]
    return changed[-1] + 1 if changed else 0


class Cells:
    """Tiles of one slide, dealt at random into cells of equal size.

    Args:
        models: Heads that stream, each with its record; see `mil.heads.Streams`.
        num_tiles: Number of tiles of the slide.
    """

    def __init__(self, models: Sequence[tuple[nn.Module, Trained]], num_tiles: int) -> None:
        self._models = models
        count = min(SHARES, num_tiles)
        order = np.random.default_rng(SEED).permutation(num_tiles)
        # int64: a product of the two numbers of a large slide.
        self._cell_of = order.astype(np.int64) * count // max(num_tiles, 1)
        self._waiting: list[list[Tensor]] = [[] for _ in range(count)]
        self._tiles = np.zeros(count, np.int64)
        self._parts: list[list[Part | None]] = [[None] * count for _ in models]
        # Of each head a row of scores: the logits do not depend on them.
        self._scores: list[Tensor] = []

    @torch.inference_mode()
    def add(self, tiles: Int[np.ndarray, " some"], features: Float[np.ndarray, "some dim"]) -> None:
        """Take some more tiles into account.

        Args:
            tiles: Number of each tile on its slide.
            features: Their features.
        """
        rows = torch.from_numpy(features).float()
        cells = self._cell_of[tiles]
        for cell in np.unique(cells):
            of_cell = rows[torch.from_numpy(cells == cell)]
            self._tiles[cell] += len(of_cell)
            self._waiting[cell].append(of_cell)
            if sum(map(len, self._waiting[cell])) >= WAITING:
                self._merge(cell)

    @torch.inference_mode()
    def curve(self, ensemble: Ensemble) -> Curve:
        """Curve of the slide; at least one tile was readable."""
        for cell, waiting in enumerate(self._waiting):
            if waiting:
                self._merge(cell)
        # Tiles of a cell may all be unreadable.
        filled = np.flatnonzero(self._tiles)
        draw = np.random.default_rng(SEED + 1)
        orders = [filled, *(draw.permutation(filled) for _ in range(ORDERS - 1))]
        task = ensemble.trained.task
        threshold = threshold_of(ensemble.records)
        by_order = np.stack([self._predictions(order) for order in orders])
        return Curve(
            np.stack([self._tiles[order].cumsum() for order in orders]),
            by_order,
            [[task.predicted_class(step, threshold) for step in steps] for steps in by_order],
        )

    def _merge(self, cell: int) -> None:
        rows = torch.cat(self._waiting[cell])
        self._waiting[cell] = []
        scores = []
        for (head, _), parts in zip(self._models, self._parts, strict=True):
            part, of_head = cast(Streams, head).part(rows)
            before = parts[cell]
            parts[cell] = part if before is None else before.merge(part)
            scores.append(of_head[:1])
        self._scores = scores

    def _predictions(self, order: Int[np.ndarray, " cells"]) -> Float[np.ndarray, "cells columns"]:
        """Mean predictions of the heads after each cell of an order."""
        total: list[np.ndarray] = []
        heads = zip(self._models, self._parts, self._scores, strict=True)
        for (head, trained), parts, scores in heads:
            logits = []
            so_far: Part | None = None
            for cell in order:
                part = parts[cell]
                assert part is not None
                so_far = part if so_far is None else so_far.merge(part)
                logits.append(cast(Streams, head).conclude(so_far, scores).logits)
            total.append(predictions(trained, torch.cat(logits)).double().numpy())
        mean: np.ndarray = np.stack(total).mean(0)
        return mean


def rows_of(curve: Curve, columns: Sequence[str]) -> list[dict[str, str | int]]:
    """Rows of a curve's csv, one for each share; see docs/how-to/predict.md.

    Args:
        curve: Curve of a slide.
        columns: Columns of the task's predictions.
    """
    rows: list[dict[str, str | int]] = []
    for step, tiles in enumerate(curve.tiles[0]):
        at_step = curve.predictions[:, step]  # [orders, columns]
        row: dict[str, str | int] = {
            "share": f"{tiles / curve.tiles[0, -1]:.6g}",
            "tiles": int(tiles),
        }
        for number, column in enumerate(columns):
            name = column.removeprefix("p_")
            values = at_step[:, number]
            row[column] = f"{values[0]:.9g}"
            row[f"low_{name}"] = f"{values.min():.9g}"
            row[f"high_{name}"] = f"{values.max():.9g}"
        agree = [calls[step] == calls[-1] for calls in curve.called]
        row["called"] = curve.called[0][step]
        row["agree"] = f"{np.mean(agree):.6g}" if curve.has_calls else ""
        rows.append(row)
    return rows


def settled_cells(curve: Curve | None) -> dict[str, str | int]:
    """Cells of predictions.csv: share at which the call settled, least and largest over orders."""
    settled = curve.settled if curve is not None else []
    if not settled:
        return dict.fromkeys(SETTLED, "")
    values = (settled[0], min(settled), max(settled))
    return dict(zip(SETTLED, (f"{value:.6g}" for value in values), strict=True))
