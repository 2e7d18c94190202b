"""Slides of one patient as one bag (early fusion): what folds.csv says of it, and the bags laid end to end."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mil.errors import DatasetError, FormatError
from mil.io.bags import Bag, common_identity, read_bag
from mil.io.tables import read_folds
from mil.tasks import unfitted_task

# column of folds.csv that names the bag of a slide; without it each slide is a bag of
# its own
BAG = "bag"
HELD_OUT = "held_out"  # column of folds.csv: the value of `split.by` that is the test of a fold
GAP = 16  # sides of a tile between two slides, so that no neighbourhood reaches across


class FoldBag(NamedTuple):
    """A bag in one fold: a slide, or with early fusion all slides of a patient."""

    fold: int
    name: str
    slides: tuple[str, ...]
    patient: str
    label: str
    split: str
    held_out: str = ""  # what the fold leaves out, of folds made with `split.by`

    def paths(self, bags_dir: Path) -> list[Path]:
        """The bag files of its slides."""
        return [bags_dir / f"{slide}.h5" for slide in self.slides]


def read_fold_bags(path: Path) -> list[FoldBag]:
    """The bags that a folds.csv speaks of, by fold and name: the order of its rows makes no difference.

    Raises:
        FormatError: it is another table, slides of one bag are in two splits or have
            two labels, or a slide stands there twice.
        DatasetError: a patient is in two splits of one fold.
    """
    found: dict[tuple[int, str], FoldBag] = {}
    for row in sorted(read_folds(path), key=lambda row: row["slide"]):
        fold = int(row["fold"])
        slide = row["slide"]
        name = row.get(BAG) or slide
        said = (
            row.get("patient") or slide,
            row.get("label") or "",
            row["split"],
            row.get(HELD_OUT) or "",
        )
        new = FoldBag(fold, name, (slide,), *said)
        old = found.get((fold, name), new)
        if (old.label, old.split) != (new.label, new.split):
            raise FormatError(
                f"{path}: fold {fold}: slides of bag {name} differ in label or split; run "
                "`split` again"
            )
        if slide in old.slides and old is not new:
            raise FormatError(
                f"{path}: fold {fold}: slide {slide} stands there twice; take one row away"
            )
        found[fold, name] = new if old is new else old._replace(slides=(*old.slides, slide))
    _refuse_torn_patients(path, found.values())
    return [found[key] for key in sorted(found)]


def _refuse_torn_patients(path: Path, bags: Iterable[FoldBag]) -> None:
    seen: dict[tuple[int, str], FoldBag] = {}
    for bag in bags:
        other = seen.setdefault((bag.fold, bag.patient), bag)
        if other.split != bag.split:
            raise DatasetError(
                f"{path}: fold {bag.fold}: patient {bag.patient} is in two splits: {other.name} "
                f"in {other.split}, "
                f"{bag.name} in {bag.split}; such a split leaks"
            )


def check_labels(bags: Iterable[FoldBag], path: Path, task: str, classes: Sequence[str]) -> None:
    """Refuse labels that are none of a task's, in a folds.csv that was edited or is older than the dataset's yaml.

    Args:
        bags: that are trained with, or tested on.
        path: of folds.csv.
        task: of the dataset, or of a head.
        classes: its classes.

    Raises:
        DatasetError: the first such label.
    """
    labels = unfitted_task(task, classes)
    for bag in bags:
        try:
            labels.checked_label(bag.label)
        except ValueError as error:
            raise DatasetError(
                f"{path}: fold {bag.fold}: {bag.name} has the label {bag.label!r}; {error}; run "
                "`split` again"
            ) from None


def is_early(bags: Sequence[FoldBag]) -> bool:
    """Whether bags are of patients: some has several slides, or another name than its slide."""
    return any(bag.slides != (bag.name,) for bag in bags)


def digest_of_seen(bags: Iterable[FoldBag]) -> str | None:
    """What tells the slides a head was trained and validated on from others, without naming them.

    Args:
        bags: of one fold; those of its test are passed over.

    Returns:
        SHA-256, hex, of their names in order; None where there are none.
    """
    names = sorted(slide for bag in bags if bag.split != "test" for slide in bag.slides)
    return sha256("\n".join(names).encode()).hexdigest() if names else None


def read_together(paths: Sequence[Path], name: str) -> Bag:
    """The bags of a patient's slides as one.

    Args:
        paths: of the bags; of one alone it is that bag as it is.
        name: of the whole.

    Raises:
        FormatError: one cannot be read, or they are not of one encoder, tiling and
            width.
        DatasetError: one of several holds no tiles, since its slide is not `ok`.
    """
    return laid_together(read_each(paths), name)


def read_each(paths: Sequence[Path]) -> list[Bag]:
    """Bags that may be laid together; raises what `read_together` does."""
    bags = [read_bag(path) for path in paths]
    if len(bags) == 1:
        return bags
    for path, bag in zip(paths, bags, strict=True):
        if bag.state != "ok":
            raise DatasetError(
                f"{path}: the bag has no tiles (its state is {bag.state}); run `split` again"
            )
        if bag.features.shape[1] != bags[0].features.shape[1]:
            raise FormatError(
                f"{path}: {bag.features.shape[1]} numbers a tile, but "
                f"{bags[0].features.shape[1]} in {paths[0].name}; "
                "a folder holds bags of one encoder"
            )
    common_identity(paths)
    return bags


def laid_together(bags: Sequence[Bag], name: str) -> Bag:
    """Bags end to end; one alone stays as it is.

    Their slides lie side by side, `GAP` tiles apart, all at the scale of the first.
    Coordinates are not known where one slide's are not, nor where tiles of one slide
    could not be told from neighbours of another: without the side of a tile.
    """
    first = bags[0]
    if len(bags) == 1:
        return first
    return replace(
        first,
        slide=name,
        mpp_level0=None,
        width_level0_px=None,
        height_level0_px=None,
        origin_x_level0_px=0,
        origin_y_level0_px=0,
        tile_digest="",
        features=np.concatenate([bag.features for bag in bags]),
        valid=np.concatenate([bag.valid for bag in bags]),
        coords=_side_by_side(bags),
        coords_um=None,
    )


def _side_by_side(bags: Sequence[Bag]) -> Int[np.ndarray, "tiles 2"] | None:
    side = bags[0].side_level0_px
    right = 0.0
    placed = []
    for bag in bags:
        if bag.coords is None or not bag.side_level0_px or not side:
            return None
        if len(bag.coords):
            corners = (bag.coords - bag.coords.min(0)) * (side / bag.side_level0_px) + (right, 0)
            right = float(corners[:, 0].max()) + GAP * side
            placed.append(corners)
    return np.rint(np.concatenate(placed)).astype(np.int32)
