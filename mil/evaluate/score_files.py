"""Score files of the bags of a study, which must be of these bags and by the same heads."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.errors import FormatError
from mil.io.scores import BagScores, ScoringHead, check_bags, read_scores, score_path
from mil.trained.record import Trained, read_records


class ScoreFiles(NamedTuple):
    """A folder of score files, all by the heads of one recipe.

    Attributes:
        folder: Folder of the files.
        heads: Heads of the first file, by which all others must be too.
        records: Records of these heads, in their order.
    """

    folder: Path
    heads: tuple[ScoringHead, ...]
    records: list[Trained]

    @classmethod
    def of(cls, folder: Path, first: str) -> "ScoreFiles":
        """The files of a folder.

        Args:
            folder: Folder of the files.
            first: Name of a bag, by whose file the heads are known.

        Raises:
            FormatError: the bag has no file, or one that cannot be used.
            DatasetError: the heads are of several recipes.
        """
        heads = _read(score_path(folder, first), first).heads
        # Records are parsed once: a study has as many copies of them as slides.
        records = read_records([head.record for head in heads], folder)
        return cls(folder, heads, records)

    def path(self, name: str) -> Path:
        """Score file of a bag."""
        return score_path(self.folder, name)

    def read(
        self, name: str, bag_paths: Sequence[Path], *, evidence: bool, branches: bool
    ) -> BagScores:
        """The scores of a bag.

        Args:
            name: Name of the bag.
            bag_paths: Bag files, of which the scores must be.
            evidence: Whether to read the evidence of tiles.
            branches: Whether to read what branches do when they are left out.

        Raises:
            FormatError: there is no file, or it is of another bag or by other heads.
        """
        path = self.path(name)
        scores = _read(path, name, evidence=evidence, branches=branches)
        if scores.name != name:
            raise FormatError(
                f"{path}: holds the scores of {scores.name}, not of {name}; delete it and run "
                "`mil score` again"
            )
        # A score that is older than its bag has the attention of other tiles.
        check_bags(scores, path, bag_paths)
        if scores.state != "ok":
            raise FormatError(
                f"{path}: {name} has no scores (its state is {scores.state}); run `mil split` "
                "again, which leaves such slides out, or take its slide out of the slide table"
            )
        if scores.heads != self.heads:
            raise FormatError(
                f"{path}: is by other heads than the other scores of {self.folder}; delete that "
                "folder and run `mil score` again"
            )
        return scores


def _read(path: Path, name: str, *, evidence: bool = False, branches: bool = False) -> BagScores:
    if not path.exists():
        raise FormatError(
            f"{path}: no such file, so that {name} has no scores; run `mil score` for it, or for "
            "all bags with --bags, --folds and --scores"
        )
    return read_scores(path, evidence=evidence, branches=branches)
