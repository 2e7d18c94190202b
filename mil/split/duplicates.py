"""Slides that are in a table twice: one file or one scan under two names."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from mil.errors import DatasetError
from mil.io.bags.fingerprint import features_digest
from mil.io.tables import Slide


class Duplicates(NamedTuple):
    """Two rows of the table that are one slide.

    `evidence` is what they share: `checksum`, or `features`.
    """

    first: Slide
    second: Slide
    evidence: str


class SplitPair(NamedTuple):
    """Duplicates in two splits of one fold."""

    fold: int
    duplicates: Duplicates
    first_split: str
    second_split: str


def find_duplicates(slides: Sequence[Slide], bags_dir: Path) -> list[Duplicates]:
    """Pairs of slides with the same checksum in the table, or with bit-identical features.

    Args:
        slides: Slides that have a bag with tiles.
        bags_dir: Folder of the bags.

    Raises:
        FormatError: A bag cannot be read.
    """
    # The ends of a bag are compared first, for a whole bag is read only where they
    # agree.
    digests_of_ends = {slide.slide: features_digest(_bag(slide, bags_dir)) for slide in slides}
    candidates = [slide for group in _grouped(slides, digests_of_ends) for slide in group]
    digests = {slide.slide: features_digest(_bag(slide, bags_dir), None) for slide in candidates}
    # Hex digits may be written in either case.
    checksums = {slide.slide: slide.checksum.lower() for slide in slides if slide.checksum}
    groups_by_evidence = (
        ("checksum", _grouped(slides, checksums)),
        ("features", _grouped(candidates, digests)),
    )
    pairs: dict[tuple[str, str], Duplicates] = {}
    for evidence, groups in groups_by_evidence:
        for group in groups:
            for first, second in combinations(group, 2):
                key = (first.slide, second.slide)
                # One note for a pair, by its first evidence: the checksum is of the
                # slide, features are of its tiles only.
                pairs.setdefault(key, Duplicates(first, second, evidence))
    return list(pairs.values())


def _bag(slide: Slide, bags_dir: Path) -> Path:
    return bags_dir / f"{slide.slide}.h5"


def _grouped(slides: Sequence[Slide], keys: Mapping[str, str]) -> list[list[Slide]]:
    """Groups of two or more slides that have the same key."""
    groups: dict[str, list[Slide]] = {}
    for slide in slides:
        if slide.slide in keys:
            groups.setdefault(keys[slide.slide], []).append(slide)
    return [group for group in groups.values() if len(group) > 1]


def check_duplicates(
    duplicates: Sequence[Duplicates], folds: Sequence[Mapping[str, str]]
) -> list[str]:
    """Refuse duplicates in two splits, and report those within one.

    Args:
        duplicates: Pairs that `find_duplicates` returned.
        folds: For each fold the split of each slide.

    Returns:
        A note for each pair.

    Raises:
        DatasetError: Duplicates are in two splits, so that the test leaks into training.
    """
    leaks = [leak for number, fold in enumerate(folds) for leak in _leaks(duplicates, number, fold)]
    if leaks:
        leak = leaks[0]
        first, second, evidence = leak.duplicates
        num_pairs = len({(pair.first.slide, pair.second.slide) for _, pair, *_ in leaks})
        more_pairs = f", and {num_pairs - 1} more such pairs" if num_pairs > 1 else ""
        raise DatasetError(
            f"fold {leak.fold}: slide {first.slide} is in {leak.first_split} and its duplicate "
            f"{second.slide} in {leak.second_split} (the same {evidence}){more_pairs}; such a "
            "split leaks: remove one from the table, or give both the same `patient`"
        )
    return [
        f"slides {first.slide} and {second.slide} are duplicates (the same {evidence}) and count "
        "twice; one may leave the table"
        for first, second, evidence in duplicates
    ]


def _leaks(
    duplicates: Sequence[Duplicates], number: int, fold: Mapping[str, str]
) -> list[SplitPair]:
    leaks = []
    for pair in duplicates:
        # Slides in no split of this fold have an empty name or none.
        first_split = fold.get(pair.first.slide)
        second_split = fold.get(pair.second.slide)
        if first_split and second_split and first_split != second_split:
            leaks.append(SplitPair(number, pair, first_split, second_split))
    return leaks
