"""A slide with its scores: which heads of a recipe speak of it. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.io.bags import BagPositions, read_positions
from mil.io.bags.checks import check_slide
from mil.io.probe import probe
from mil.io.scores import HeadScores, check_bags, check_tiles, read_scores
from mil.io.tables import read_folds
from mil.trained.record import Trained, read_records


class ScoredSlide(NamedTuple):
    """Tiles of a slide and what heads of one recipe computed of them.

    Attributes:
        bag: Positions of the tiles.
        records: Records of the heads that take part; empty unless the bag's state is
            `ok`.
        scores: Scores by each of them, in the same order, with the evidence of tiles.
        is_unseen: Whether the heads that take part did not train on the slide.
    """

    bag: BagPositions
    records: list[Trained]
    scores: list[HeadScores]
    is_unseen: bool


def read_scored_slide(
    score_path: Path, bag_path: Path, folds: Path | None, *, branches: bool = False
) -> ScoredSlide:
    """Read the scores of a slide by the heads that did not train on it.

    Args:
        score_path: Score file of the slide.
        bag_path: Bag of the slide; no features are read.
        folds: The folds.csv, or None: all heads take part.
        branches: Whether to read the attention of each branch too.

    Raises:
        FormatError: A file cannot be used, or the scores are of another bag.
    """
    probe([bag_path, score_path])
    bag = read_positions(bag_path)
    check_slide(bag, bag_path)
    scores = read_scores(score_path, branches=branches, evidence=True)
    # Scores that are older than their bag are of other tiles.
    check_bags(scores, score_path, [bag_path])
    check_tiles(scores, score_path, int(bag.valid.sum()))
    # Without scores: of a slide whose state is not `ok`.
    if bag.state != "ok" or not scores.scores:
        return ScoredSlide(bag, [], [], is_unseen=True)
    records = read_records([head.record for head in scores.heads], score_path)
    unseen = unseen_heads(records, bag.slide, folds)
    # A slide of the training set has scores too, by heads that know it.
    taking_part = unseen or range(len(records))
    return ScoredSlide(
        bag,
        [records[number] for number in taking_part],
        [scores.scores[number] for number in taking_part],
        is_unseen=bool(unseen),
    )


def unseen_heads(records: Sequence[Trained], slide: str, folds: Path | None) -> Sequence[int]:
    """Numbers of the heads that did not train or validate on a slide.

    All of them without a folds file.
    """
    if folds is None:
        return range(len(records))
    splits = {int(row["fold"]): row["split"] for row in read_folds(folds) if row["slide"] == slide}
    # Validation counts as seen: the epoch that was kept was chosen by it.
    return [
        number
        for number, trained in enumerate(records)
        if splits.get(trained.fold) not in ("train", "val")
    ]
