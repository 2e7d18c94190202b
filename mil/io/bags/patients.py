"""Early fusion: the slides of one patient as one bag, by folds.csv."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mil.errors import DatasetError, FormatError
from mil.io.bags import Bag, common_identity, read_bag
from mil.io.bags.checks import check_slide, check_width, no_tiles
from mil.io.tables import Slide, read_folds
from mil.io.tables.leakage import PatientSlide, check_patients_in_one_split
from mil.tasks import unfitted_task

# Column of folds.csv that names the bag of a slide; without it each slide is a bag of
# its own.
BAG = "bag"
# Column of folds.csv with the value of `split.by` that is the test of a fold.
HELD_OUT = "held_out"
# Sides of a tile between two slides, so that no neighbourhood reaches across.
GAP = 16


class FoldBag(NamedTuple):
    """A bag in one fold: a slide, or with early fusion all slides of a patient.

    Attributes:
        fold: number of the fold.
        name: the slide's id, or the patient's.
        slides: ids of its slides.
        patient: the patient's id.
        label: label as the table gives it.
        split: train, val or test.
        held_out: value of `split.by` that the fold leaves out; empty: made otherwise.
    """

    fold: int
    name: str
    slides: tuple[str, ...]
    patient: str
    label: str
    split: str
    held_out: str = ""

    def paths(self, bags_dir: Path) -> list[Path]:
        """The bag files of its slides."""
        return [bags_dir / f"{slide}.h5" for slide in self.slides]


def read_fold_bags(path: Path) -> list[FoldBag]:
    """The bags of a folds.csv by fold and name; the order of its rows makes no difference.

    Raises:
        FormatError: the file is another table, slides of one bag are in two splits or
            have two labels, or a slide has two rows in a fold.
        DatasetError: a patient is in two splits of one fold.
    """
    bags: dict[tuple[int, str], FoldBag] = {}
    # Sorted, so that the tiles of a joint bag do not depend on the order of the rows.
    for row in sorted(read_folds(path), key=lambda row: row["slide"]):
        new = _fold_bag(row)
        key = new.fold, new.name
        if key not in bags:
            bags[key] = new
            continue
        bag = bags[key]
        location = f"{path}: fold {new.fold}"
        if (bag.label, bag.split) != (new.label, new.split):
            raise FormatError(
                f"{location}: slides of bag {new.name} differ in label or split; run `mil split` "
                "again"
            )
        if row["slide"] in bag.slides:
            raise FormatError(
                f"{location}: slide {row['slide']} stands there twice; take one row away"
            )
        bags[key] = bag._replace(slides=bag.slides + new.slides)
    _check_patients(path, bags.values())
    return [bags[key] for key in sorted(bags)]


def _fold_bag(row: dict[str, str]) -> FoldBag:
    """The bag that a row of folds.csv speaks of, with that row's slide only."""
    slide = row["slide"]
    return FoldBag(
        fold=int(row["fold"]),
        name=row.get(BAG) or slide,
        slides=(slide,),
        patient=row.get("patient") or slide,
        label=row.get("label") or "",
        split=row["split"],
        held_out=row.get(HELD_OUT) or "",
    )


def _check_patients(path: Path, bags: Iterable[FoldBag]) -> None:
    rows_by_fold: dict[int, list[PatientSlide]] = {}
    for bag in bags:
        row = PatientSlide(bag.patient, bag.slides[0], bag.split)
        rows_by_fold.setdefault(bag.fold, []).append(row)
    for fold, rows in rows_by_fold.items():
        check_patients_in_one_split(rows, f"{path}: fold {fold}")


def check_labels(bags: Iterable[FoldBag], path: Path, task: str, classes: Sequence[str]) -> None:
    """Refuse labels that a task does not know.

    They come from a folds.csv that was edited or is older than the dataset's yaml.

    Args:
        bags: bags that are trained with, or tested on.
        path: folds.csv, for the message.
        task: task of the dataset, or of a head.
        classes: class names of the dataset or head.

    Raises:
        DatasetError: a label is none of the task's.
    """
    labels = unfitted_task(task, classes)
    for bag in bags:
        try:
            labels.checked_label(bag.label)
        except ValueError as error:
            raise DatasetError(
                f"{path}: fold {bag.fold}: {bag.name} has the label {bag.label!r}; {error}; run "
                "`mil split` again"
            ) from None


def check_labels_of_table(bags: Iterable[FoldBag], path: Path, slides: Iterable[Slide]) -> None:
    """Refuse a folds.csv whose labels contradict the slide table.

    Args:
        bags: bags of the file.
        path: folds.csv, for the message.
        slides: the slide table; slides that it does not have are passed over.

    Raises:
        DatasetError: a slide has another label in the table.
    """
    labels = {slide.slide: slide.label for slide in slides}
    differing = {
        slide: (bag.label, labels[slide])
        for bag in bags
        for slide in bag.slides
        if labels.get(slide, bag.label) != bag.label
    }
    if differing:
        slide, (label, of_table) = next(iter(differing.items()))
        raise DatasetError(
            f"{path}: {len(differing)} slides have another label than in the slide table, such as "
            f"{slide}: {label!r} here, {of_table!r} there; run `mil split` again"
        )


def is_early(bags: Sequence[FoldBag]) -> bool:
    """Whether bags are of patients: some has several slides, or another name than its slide."""
    return any(bag.slides != (bag.name,) for bag in bags)


def digest_of_seen(bags: Iterable[FoldBag]) -> str | None:
    """Digest of the slides a head was trained and validated on, which does not name them.

    Args:
        bags: bags of one fold; those of its test are passed over.

    Returns:
        SHA-256, hex, of the slides' ids in order; None where there are none.
    """
    names = sorted(slide for bag in bags if bag.split != "test" for slide in bag.slides)
    return sha256("\n".join(names).encode()).hexdigest() if names else None


def read_concatenated(paths: Sequence[Path], name: str) -> Bag:
    """The bags of a patient's slides as one.

    Args:
        paths: bag files; a single one is returned as it is.
        name: name of the joint bag.

    Raises:
        FormatError: a bag cannot be read, or is of another slide than its name; bags
            differ in encoder, tiling or width; or one of several has no tiles, since its
            slide is not `ok`.
    """
    return concatenate_bags(read_each(paths), name)


def read_each(paths: Sequence[Path]) -> list[Bag]:
    """Bags that may be laid together; raises what `read_concatenated` does."""
    bags = [read_bag(path) for path in paths]
    for path, bag in zip(paths, bags, strict=True):
        check_slide(bag, path)
    # A single bag is checked by its user, which may accept one without tiles.
    if len(bags) == 1:
        return bags
    width = bags[0].features.shape[1]
    for path, bag in zip(paths, bags, strict=True):
        if bag.state != "ok":
            raise no_tiles(path, bag.state)
        check_width(path, bag.features.shape[1], width, paths[0].name)
    common_identity(paths)
    return bags


def concatenate_bags(bags: Sequence[Bag], name: str) -> Bag:
    """Bags concatenated; a single one stays as it is.

    Their slides lie side by side, `GAP` tiles apart, all at the scale of the first.
    Coordinates are not known where one slide's are not, nor where tiles of one slide
    could not be told from neighbours of another: without the side of a tile.

    Args:
        bags: bags of one encoder, tiling and width.
        name: name of the joint bag.
    """
    first = bags[0]
    if len(bags) == 1:
        return first
    return replace(
        first,
        slide=name,
        # These belong to one slide; the joint bag has no slide.
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
    """Coordinates of all bags' tiles, each slide to the right of the one before."""
    side = bags[0].side_level0_px
    right = 0.0
    shifted = []
    for bag in bags:
        if bag.coords is None or not bag.side_level0_px or not side:
            return None
        # A slide without tiles has no corner to begin at.
        if len(bag.coords):
            scale = side / bag.side_level0_px
            corners = (bag.coords - bag.coords.min(0)) * scale + (right, 0)
            right = float(corners[:, 0].max()) + GAP * side
            shifted.append(corners)
    return np.rint(np.concatenate(shifted)).astype(np.int32)
