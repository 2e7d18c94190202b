"""Slides that are in a table twice: one file or one scan under two names."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from mil.errors import DatasetError
from mil.io.bags.fingerprint import features_digest
from mil.io.tables import Slide


class Twins(NamedTuple):
    """Two slides that are one, and how that is known."""

    first: Slide
    second: Slide
    same: str


def find_twins(slides: Sequence[Slide], bags_dir: Path) -> list[Twins]:
    """Slides with the same checksum in the table, or with the same features, number for number.

    Args:
        slides: those that have a bag with tiles.
        bags_dir: folder of the bags.

    Raises:
        FormatError: a bag cannot be read.
    """
    ends = _alike(
        slides, {slide.slide: features_digest(bags_dir / f"{slide.slide}.h5") for slide in slides}
    )
    close = [slide for group in ends for slide in group]
    whole = {slide.slide: features_digest(bags_dir / f"{slide.slide}.h5", None) for slide in close}
    found: dict[tuple[str, str], Twins] = {}
    sums = {slide.slide: slide.checksum.lower() for slide in slides if slide.checksum}
    for same, groups in (("checksum", _alike(slides, sums)), ("features", _alike(close, whole))):
        for first, second in (pair for group in groups for pair in combinations(group, 2)):
            found.setdefault((first.slide, second.slide), Twins(first, second, same))
    return list(found.values())


def _alike(slides: Sequence[Slide], keys: Mapping[str, str]) -> list[list[Slide]]:
    groups: dict[str, list[Slide]] = {}
    for slide in slides:
        if slide.slide in keys:
            groups.setdefault(keys[slide.slide], []).append(slide)
    return [group for group in groups.values() if len(group) > 1]


def check_twins(twins: Sequence[Twins], folds: Sequence[Mapping[str, str]]) -> list[str]:
    """Refuse twins in two splits; tell of those in one.

    Args:
        twins: what was found.
        folds: for each fold the split of each slide.

    Returns:
        What to tell.

    Raises:
        DatasetError: twins are in two splits.
    """
    parted = [
        (fold, pair, of[pair.first.slide], of[pair.second.slide])
        for fold, of in enumerate(folds)
        for pair in twins
        if of.get(pair.first.slide)
        and of.get(pair.second.slide)
        and of[pair.first.slide] != of[pair.second.slide]
    ]
    if parted:
        fold, pair, here, there = parted[0]
        others = len({(first.slide, second.slide) for _, (first, second, _), *_ in parted}) - 1
        raise DatasetError(
            f"fold {fold}: slide {pair.first.slide} is in {here} and its twin "
            f"{pair.second.slide} in {there} (the same "
            f"{pair.same}){f', and {others} more such pairs' if others else ''}; such a split "
            "leaks: remove one from "
            "the table, or give both the same `patient`"
        )
    return [
        f"slides {first.slide} and {second.slide} are twins (the same {same}) and count twice; "
        "one may leave the table"
        for first, second, same in twins
    ]
