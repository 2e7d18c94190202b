"""The bags and the tiles that scores are of, against those they are used with."""

from collections.abc import Iterable
from pathlib import Path

from mil.errors import FormatError
from mil.io.bags.fingerprint import bag_digest
from mil.io.scores.content import BagScores
from mil.io.scores.file import damaged


def check_bags(scores: BagScores, path: Path, bag_paths: Iterable[Path]) -> None:
    """Refuse scores of other bags than those they are used with.

    Args:
        scores: Content of a score file.
        path: The score file.
        bag_paths: Bag files that should have been scored, in order.

    Raises:
        FormatError: a bag was made anew since, or the scores are of others.
    """
    paths = list(bag_paths)
    if len(paths) != len(scores.bags):
        raise FormatError(
            f"{path}: was computed from {len(scores.bags)} bags, not from {len(paths)}; delete it "
            "and run `mil score` again"
        )
    for bag_path, bag in zip(paths, scores.bags, strict=True):
        if bag.slide != bag_path.stem:
            raise FormatError(
                f"{path}: holds the scores of {bag.slide}, not of {bag_path.stem}; give the score "
                "file and the bag of one slide, or delete it and run `mil score` again"
            )
        if bag_digest(bag_path) != bag.digest:
            raise FormatError(
                f"{path}: was computed from another bag than {bag_path} is now; delete it and run "
                "`mil score` again"
            )


def check_tiles(scores: BagScores, path: Path, tiles: int) -> None:
    """Refuse attention of fewer or more tiles than the bag has.

    Args:
        scores: Content of a score file.
        path: The score file.
        tiles: Number of valid tiles of the bag.

    Raises:
        FormatError: the numbers differ.
    """
    for head in scores.scores:
        if len(head.attention) != tiles:
            raise damaged(path, f"has attention of {len(head.attention)} tiles, not of {tiles}")
