"""Classical MIL data sets, divided and standardised for cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from sklearn.model_selection import StratifiedKFold

from mil.bench.classical_files import StoredBags, read_jld, read_matlab
from mil.errors import DatasetError, FormatError, unknown_name
from mil.train.data import LabelledBag

# By repetition and fold: whether each bag is trained on.
TrainingMasks = Sequence[Sequence[Bool[np.ndarray, " bags"]]]


@dataclass(frozen=True, eq=False)
class ClassicalDataSet:
    """Bags of one data set, and its division by repetition and fold.

    Attributes:
        name: name of the data set.
        bags: all bags, features in float64 as stored.
        training: by repetition and fold, whether each bag is trained on.
    """

    name: str
    bags: Sequence[LabelledBag]
    training: TrainingMasks

    def fold(
        self, repetition: int, fold: int, clip: float
    ) -> tuple[list[LabelledBag], list[LabelledBag]]:
        """Training and test bags of a fold, standardised by the training bags' tiles.

        Args:
            repetition: number of the repetition, from 0.
            fold: number of the fold, from 0.
            clip: standard deviations from the mean at which values are clipped.
        """
        mask = self.training[repetition][fold]
        in_training = zip(self.bags, mask, strict=True)
        rows = torch.cat([bag.features for bag, is_training in in_training if is_training])
        rows = rows.double()
        mean = rows.mean(0)
        deviation = rows.std(0, correction=0)
        # Not deviation == 0: rounding leaves some of it where all values are the same.
        deviation[rows.amax(0) == rows.amin(0)] = 1.0
        train: list[LabelledBag] = []
        test: list[LabelledBag] = []
        for bag, is_training in zip(self.bags, mask, strict=True):
            features = ((bag.features - mean) / deviation).clamp(-clip, clip).float()
            standardised = LabelledBag(bag.slide, features, None, bag.label)
            (train if is_training else test).append(standardised)
        return train, test


def data_set_paths(folder: Path) -> dict[str, Path]:
    """Paths of a folder's data sets by name: files NAME.jld, folders NAME_mat.

    Raises:
        DatasetError: there are none.
    """
    paths = {path.stem.lower(): path for path in sorted(folder.glob("*.jld"))}
    # A folder of MATLAB files goes before a JLD file of the same name.
    paths |= {path.name.removesuffix("_mat").lower(): path for path in sorted(folder.glob("*_mat"))}
    if not paths:
        raise DatasetError(
            f"{folder}: no data sets here; give a folder of NAME.jld files or NAME_mat folders"
        )
    return paths


def select_data_sets(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Paths of some data sets by name.

    Args:
        folder: folder of the data sets.
        names: names in any case; none: all in the folder.

    Raises:
        DatasetError: there are none, or none of a name.
    """
    paths = data_set_paths(folder)
    for name in names:
        if name.lower() not in paths:
            raise DatasetError(f"{folder}: {unknown_name('data set', name, paths)}")
    if not names:
        return paths
    return {name.lower(): paths[name.lower()] for name in names}


def fingerprint(path: Path) -> str:
    """Digest of a data set's files: 16 hexadecimal digits."""
    files = [path] if path.is_file() else sorted(path.glob("*.mat"))
    # Results of other files of the same name must not be taken for these.
    digest = sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def load(name: str, path: Path, repetitions: int, folds: int) -> ClassicalDataSet:
    """Read a data set.

    The file's own division is used where it has as many repetitions and folds.
    Otherwise one is drawn that keeps the labels in proportion, with the repetition's
    number as seed.

    Args:
        name: name of the data set.
        path: a .jld file, or a folder of MATLAB files.
        repetitions: number of repetitions of the cross-validation.
        folds: number of folds of each.

    Raises:
        FormatError: the files are damaged or hold something else.
        DatasetError: there are too few bags of a label.
    """
    stored = read_jld(path) if path.is_file() else read_matlab(path)
    _check_features(path, stored)
    # Published folds first, so that results compare with the publication's.
    training = stored.training[:repetitions]
    if len(training) < repetitions or any(len(masks) != folds for masks in training):
        training = _drawn_folds(path, stored.labels, repetitions, folds)
    for masks in training:
        if any(len(set(stored.labels[mask])) < 2 or mask.all() for mask in masks):
            raise FormatError(
                f"{path}: a fold has nothing to test, or bags of one label to train on; get the "
                "file again"
            )
    bags = []
    for number, (rows, label) in enumerate(zip(stored.features, stored.labels, strict=True)):
        # JLD has them transposed, which torch would take as it is.
        features = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float64))
        bags.append(LabelledBag(str(number), features, None, torch.tensor(int(label))))
    return ClassicalDataSet(name, bags, training)


def _check_features(path: Path, stored: StoredBags) -> None:
    if any(0 in rows.shape for rows in stored.features):
        raise FormatError(f"{path}: a bag is empty; get the file again")
    if not all(np.isfinite(rows).all() for rows in stored.features):
        raise FormatError(f"{path}: holds values that are not numbers; get the file again")


def _drawn_folds(
    path: Path, labels: Bool[np.ndarray, " bags"], repetitions: int, folds: int
) -> TrainingMasks:
    fewest = int(min(labels.sum(), (~labels).sum()))
    if fewest < folds:
        raise DatasetError(
            f"{path}: {fewest} bags of a label cannot be divided into {folds} folds; take fewer "
            "--folds"
        )
    bags = np.arange(len(labels))
    training = []
    for repetition in range(repetitions):
        # From 1, as seeds are counted elsewhere.
        division = StratifiedKFold(folds, shuffle=True, random_state=repetition + 1)
        training.append([np.isin(bags, train) for train, _ in division.split(bags, labels)])
    return training
