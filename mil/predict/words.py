"""What is said of a slide: while it is being read, when it is done, and what to do where it failed."""

from collections.abc import Sequence

import numpy as np

from mil.predict.ensemble import Ensemble
from mil.predict.running import name_of
from mil.predict.slide import SlidePrediction
from mil.predict.table import row_of
from mil.trained import Trained

ADVICE = {
    "no_mpp": "give its pixel size: --mpp, micrometres per pixel at level 0",
    "no_tissue": "look at its picture; lower tile.min_tissue or tile.min_area_mm2 in configs/config.yaml if there is "
    "tissue",
    "unreadable": "copy it again from its source, or convert it; then check its checksum",
    "corrupt_regions": "copy it again from its source, or raise features.max_corrupt in configs/config.yaml",
}

NOT_A_FILE = ("no such file", "a folder, not a slide")


EARLY = "trained on all slides of a patient as one bag; here each slide is answered by itself"


def whole_bag(trained: Trained, dtype: str) -> str:
    """Why there is nothing to see while tiles are read."""
    size = trained.dim * np.dtype(dtype).itemsize
    return (
        f"{trained.recipe.name} looks at all tiles of a slide together: no estimate while "
        "reading, and features are "
        f"kept, {size / 1000:.1f} kB a tile ({size * 1e4 / 1e6:.0f} MB for 10 000)"
    )


def done(found: SlidePrediction, ensemble: Ensemble) -> str:
    """The line about a slide that is done with."""
    if found.state != "ok":
        return f"predict {found.slide}: {found.state}: {found.reason}{_advice(found)}"
    row = row_of(found, ensemble)
    task = ensemble.trained.task
    name = task.of_interest
    sd = row[f"sd_{name.removeprefix('p_')}"]
    spread = f" (sd {float(sd):.3f} over {len(found.predictions)} heads)" if sd else ""
    call = f", called {row['called']}" if row["called"] else ""
    note = f"; {found.reason}" if found.reason else ""
    return (
        f"predict {found.slide}: ok, {name_of(name)} = {float(row[name]):.3f}{spread}{call}; "
        f"{found.tiles} tiles, "
        f"{found.tiles_per_s:.0f} a second{note}"
    )


def _advice(found: SlidePrediction) -> str:
    if found.reason in NOT_A_FILE:
        return "; look at the path"
    return f"; {ADVICE[found.state]}" if found.state in ADVICE else ""


def heads(seeds_and_folds: Sequence[tuple[int, int]]) -> str:
    """How many heads, of how many seeds and folds."""
    count = len(seeds_and_folds)
    if count == 1:
        return "1 head"
    seeds, folds = ({pair[i] for pair in seeds_and_folds} for i in (0, 1))
    return f"{count} heads ({len(seeds)} seed{'s' * (len(seeds) > 1)}, {len(folds)} fold{'s' * (len(folds) > 1)})"


def several_divisions(folds: Sequence[int]) -> str:
    """That the heads of a folder are of several runs."""
    runs = " and ".join(f"folds={count}" for count in folds)
    return f"these heads are of several runs, {runs}, and all are averaged; copy those you want into a folder of their own"
