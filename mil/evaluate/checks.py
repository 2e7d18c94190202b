"""Heads that must not be evaluated together, or on these folds."""

from collections.abc import Sequence
from pathlib import Path

from mil.errors import DatasetError
from mil.io.bags.patients import FoldBag, check_labels, digest_of_seen
from mil.trained.record import Trained


def check_one_head_a_run(records: Sequence[Trained], scores_dir: Path) -> None:
    """Refuse two heads of one seed and fold: their slides would count twice in one run.

    Args:
        records: Records of the heads.
        scores_dir: Folder of their scores, for the message.

    Raises:
        DatasetError: there are two.
    """
    runs = [(trained.seed, trained.fold) for trained in records]
    for seed, fold in runs:
        if runs.count((seed, fold)) > 1:
            raise DatasetError(
                f"{scores_dir}: has scores by several heads of seed {seed}, fold {fold}, which "
                "would count as one; score one of them, into another folder"
            )


def check_folds(
    bags: Sequence[FoldBag], records: Sequence[Trained], folds: Path, dataset: str
) -> None:
    """Refuse heads whose fold is not in the file, or divides the slides otherwise.

    Args:
        bags: Bags of all folds.
        records: Records of the heads.
        folds: The folds.csv, for the message.
        dataset: Name of the dataset.

    Raises:
        DatasetError: a fold is missing, was another one in training, or has a label that
            its head does not know.
    """
    for trained in records:
        in_fold = [bag for bag in bags if bag.fold == trained.fold]
        if not in_fold:
            raise DatasetError(
                f"{folds}: has no fold {trained.fold}, which {trained.recipe_name} was trained on"
            )
        # Labels of training slides were checked when the head was trained.
        test = [bag for bag in in_fold if bag.split == "test"]
        check_labels(test, folds, trained.task.kind, trained.classes)
        # Heads of other datasets, and imported ones, say nothing about these slides.
        if trained.dataset == dataset and _has_seen_others(trained, in_fold):
            raise DatasetError(
                f"{folds}: fold {trained.fold} trains and validates on other slides than those "
                f"{trained.recipe_name} seed {trained.seed} was trained with, which may be in its "
                "test; give the folds of that training, or train again"
            )


def _has_seen_others(trained: Trained, in_fold: Sequence[FoldBag]) -> bool:
    """Whether a head was trained with other slides; False where either is not known."""
    seen = digest_of_seen(in_fold)
    return None not in (seen, trained.seen) and seen != trained.seen
