"""Messages about heads and slides: before reading, when done, and after a failure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mil.io.bags.advice import remedy_of_one
from mil.predict.curve import Curve
from mil.predict.ensemble import Ensemble
from mil.predict.result import SlidePrediction
from mil.predict.table import row_of
from mil.statistics.text import with_threshold
from mil.trained import Trained
from mil.trained.record import threshold_of

EARLY = "trained on all slides of a patient as one bag; here each slide is predicted by itself"

NO_CURVE_OF_JOINED = (
    "its features come from tiles of several encoders or sizes, which are joined once all are "
    "read, so that there is no prediction of a part of them on the way; leave --curve out"
)


def joined(number: int) -> str:
    """Why a slide is read several times, and without an estimate.

    Args:
        number: Number of joined encoders.
    """
    return (
        f"features of {number} tilings or encoders are joined: each slide is read {number} times, "
        "without an estimate on the way"
    )


def whole_bag(trained: Trained, dtype: str) -> str:
    """Why there is no estimate while tiles are read.

    Args:
        trained: Record of a head that does not stream.
        dtype: Type of the features, by its NumPy name.
    """
    tile_bytes = trained.dim * np.dtype(dtype).itemsize
    return (
        f"{trained.recipe.name} looks at all tiles of a slide together: no estimate while "
        f"reading, and features are kept, {tile_bytes / 1000:.1f} kB a tile "
        f"({tile_bytes * 1e4 / 1e6:.0f} MB for 10 000)"
    )


def done(prediction: SlidePrediction, ensemble: Ensemble) -> str:
    """The line about a slide that is done with."""
    slide = prediction.slide
    if prediction.state != "ok":
        advice = _advice(prediction)
        return f"predict {slide}: {prediction.state}: {prediction.reason}{advice}"
    row = row_of(prediction, ensemble)
    name = ensemble.trained.task.column_of_interest
    sd = row[f"sd_{name.removeprefix('p_')}"]
    heads = len(prediction.predictions)
    spread = [f"sd {float(sd):.3f} over {heads} heads"] if sd else []
    threshold = threshold_of(ensemble.records)
    value = with_threshold(name, float(row[name]), threshold, *spread)
    called = f", called {row['called']}" if row["called"] else ""
    note = f"; {prediction.reason}" if prediction.reason else ""
    return (
        f"predict {slide}: ok, {value}{called}; "
        f"{prediction.tiles} tiles, {prediction.tiles_per_s:.0f} a second{note}"
    )


def no_curve(trained: Trained) -> str:
    """Why a head has no curve, and what to do."""
    return (
        f"head {trained.recipe.name} looks at all tiles of a slide together, and has no prediction "
        "of a part of them on the way; leave --curve out, or give a head that takes tiles one by "
        "one, such as abmil"
    )


def curve(slide: str, of_slide: Curve, file: Path) -> str:
    """The line about the curve of a slide.

    Args:
        slide: Id of the slide.
        of_slide: Its curve.
        file: File that it was written to.
    """
    total = int(of_slide.tiles[0, -1])
    settled = of_slide.settled
    orders = len(of_slide.called)
    if not settled:
        return f"predict {slide}: prediction after every share of {total} tiles: {file}"
    return (
        f"predict {slide}: called {of_slide.called[0][-1] or 'nothing'} from "
        f"{_percent(settled[0])} of the {total} tiles on, {100 * min(settled):.0f} to "
        f"{_percent(max(settled))} in {orders} random orders: {file}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _advice(prediction: SlidePrediction) -> str:
    remedy = remedy_of_one(prediction.state, prediction.reason)
    return f"; {remedy}" if remedy else ""


def heads(seeds_and_folds: Sequence[tuple[int, int]]) -> str:
    """Number of heads, of seeds and of folds, in words."""
    count = len(seeds_and_folds)
    if count == 1:
        return "1 head"
    seeds = len({seed for seed, _ in seeds_and_folds})
    folds = len({fold for _, fold in seeds_and_folds})
    return f"{count} heads ({_counted(seeds, 'seed')}, {_counted(folds, 'fold')})"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def several_divisions(folds: Sequence[int]) -> str:
    """A warning that the heads of a folder are of several runs.

    Args:
        folds: Numbers of folds of the runs.
    """
    runs = " and ".join(f"folds={count}" for count in folds)
    return (
        f"these heads are of several runs, {runs}, and all are averaged; copy those you want into "
        "a folder of their own"
    )
