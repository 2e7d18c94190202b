"""The classical MIL data sets of a folder, divided and standardised for cross-validation."""

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

Masks = Sequence[Sequence[Bool[np.ndarray, " bags"]]]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Bags of one data set, and by repetition and fold which of them are trained on."""

    name: str
    bags: Sequence[LabelledBag]
    training: Masks

    def fold(
        self, repetition: int, fold: int, clip: float
    ) -> tuple[list[LabelledBag], list[LabelledBag]]:
        """Training and test bags of a fold, both standardised with mean and deviation of the training bags' tiles.

        Args:
            repetition: which, from 0.
            fold: which, from 0.
            clip: values further than so many deviations from the mean are set to that.
        """
        mask = self.training[repetition][fold]
        rows = torch.cat(
            [bag.features for bag, train in zip(self.bags, mask, strict=True) if train]
        ).double()
        mean = rows.mean(0)
        deviation = rows.std(0, correction=0)
        deviation[rows.amax(0) == rows.amin(0)] = 1.0
        train: list[LabelledBag] = []
        test: list[LabelledBag] = []
        for bag, trained_on in zip(self.bags, mask, strict=True):
            features = ((bag.features - mean) / deviation).clamp(-clip, clip).float()
            (train if trained_on else test).append(
                LabelledBag(bag.slide, features, None, bag.label)
            )
        return train, test


def places(folder: Path) -> dict[str, Path]:
    """Where the data sets of a folder are, by name: files NAME.jld, and folders NAME_mat of MATLAB files.

    Raises:
        DatasetError: there is none.
    """
    found = {path.stem.lower(): path for path in sorted(folder.glob("*.jld"))}
    found |= {path.name.removesuffix("_mat").lower(): path for path in sorted(folder.glob("*_mat"))}
    if not found:
        raise DatasetError(
            f"{folder}: no data sets here; give a folder of NAME.jld files or NAME_mat folders"
        )
    return found


def chosen(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The data sets of those names, or all.

    Raises:
        DatasetError: there is none, or none of that name.
    """
    there = places(folder)
    for name in names:
        if name.lower() not in there:
            raise DatasetError(f"{folder}: {unknown_name('data set', name, there)}")
    return {name.lower(): there[name.lower()] for name in names} if names else there


def fingerprint(place: Path) -> str:
    """Of a data set's files: 16 hexadecimal digits."""
    files = [place] if place.is_file() else sorted(place.glob("*.mat"))
    digest = sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def load(name: str, path: Path, repetitions: int, folds: int) -> DataSet:
    """Read a data set.

    Args:
        name: what to call it.
        path: a .jld file, or a folder of MATLAB files.
        repetitions: of the cross-validation.
        folds: of each; the file's own division is used where it has as many, else one
            is drawn that keeps the labels in proportion, with the repetition's number
            as seed.

    Raises:
        FormatError: the files are damaged or hold something else.
        DatasetError: there are too few bags of a label.
    """
    stored = read_jld(path) if path.is_file() else read_matlab(path)
    _check(path, stored)
    own = stored.training[:repetitions]
    if len(own) < repetitions or any(len(masks) != folds for masks in own):
        own = _drawn(path, stored.labels, repetitions, folds)
    if any(len(set(stored.labels[mask])) < 2 or mask.all() for masks in own for mask in masks):
        raise FormatError(
            f"{path}: a fold has nothing to test, or bags of one label to train on; get it again"
        )
    features = [
        torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float64)) for rows in stored.features
    ]
    bags = zip(features, stored.labels, strict=True)
    return DataSet(
        name,
        [
            LabelledBag(str(i), rows, None, torch.tensor(int(label)))
            for i, (rows, label) in enumerate(bags)
        ],
        own,
    )


def _check(path: Path, stored: StoredBags) -> None:
    if any(0 in rows.shape for rows in stored.features):
        raise FormatError(f"{path}: a bag is empty; get it again")
    if not all(np.isfinite(rows).all() for rows in stored.features):
        raise FormatError(f"{path}: holds values that are not numbers; get it again")


def _drawn(path: Path, labels: Bool[np.ndarray, " bags"], repetitions: int, folds: int) -> Masks:
    fewest = int(min(labels.sum(), (~labels).sum()))
    if fewest < folds:
        raise DatasetError(
            f"{path}: {fewest} bags of a label cannot be divided into {folds} folds; take fewer "
            "--folds"
        )
    every = np.arange(len(labels))
    parts = [
        StratifiedKFold(folds, shuffle=True, random_state=seed + 1) for seed in range(repetitions)
    ]
    return [[np.isin(every, train) for train, _ in part.split(every, labels)] for part in parts]
