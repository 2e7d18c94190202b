"""The files that the classical MIL data sets come in: Julia's JLD, which is HDF5 full of references, and MATLAB 5.

They come from anywhere: nothing is unpickled, and no file can make us read more than it
holds.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Int, Shaped

from mil.bench.matlab import read_matrix
from mil.errors import FormatError


class StoredBags(NamedTuple):
    """Bags as a file has them."""

    features: Sequence[Shaped[np.ndarray, "_ dim"]]
    labels: Bool[np.ndarray, " bags"]
    training: Sequence[
        Sequence[Bool[np.ndarray, " bags"]]
    ]  # by repetition and fold: the bags to train on; may be none


class _BrokenError(Exception):
    """What is wrong with a file, without its name."""


def read_jld(path: Path) -> StoredBags:
    """Read bags, labels and folds of a data set of MIDatasets.jl.

    Raises:
        FormatError: the file is missing, damaged or holds something else.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _Jld(file, path.stat().st_size).bags()
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except (
        _BrokenError,
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
    ) as error:
        reason = " ".join(str(error).split())
        raise FormatError(
            f"{path}: not a classical MIL data set, or damaged ({reason}); get it again"
        ) from None


def read_matlab(folder: Path) -> StoredBags:
    """Read a data set of MILpy: X.mat (tiles), Bag2.mat (each tile's bag, from 1) and BagI.mat (the bags' labels).

    Raises:
        FormatError: a file is missing, damaged or holds something else.
    """
    tiles = read_matrix(folder / "X.mat", "X")
    bag_of = _column(folder / "Bag2.mat", "Bag2")
    labels = _column(folder / "BagI.mat", "bagI")
    if len(bag_of) != len(tiles):
        raise FormatError(
            f"{folder}: {len(tiles)} tiles in X.mat, but {len(bag_of)} in Bag2.mat; get the "
            "files again"
        )
    if not np.array_equal(np.unique(bag_of), np.arange(1, len(labels) + 1)):
        raise FormatError(
            f"{folder / 'Bag2.mat'}: its bags are not 1 to {len(labels)}, as in BagI.mat; get it "
            "again"
        )
    if not np.isin(labels, (0, 1)).all():
        raise FormatError(f"{folder / 'BagI.mat'}: its labels are not 0 and 1; get it again")
    return StoredBags(
        [tiles[bag_of == number] for number in range(1, len(labels) + 1)], labels == 1, ()
    )


class _Jld:
    """An open file, and how many bytes of it are left to read: references could name the same data for ever."""

    def __init__(self, file: h5py.File, left: int) -> None:
        self._file = file
        self._left = left

    def bags(self) -> StoredBags:
        labels = self._bits(self._read(self._dataset("y"))[()])
        tables = [self._read(self._follow(one)) for one in self._references(self._dataset("X"))]
        if not len(tables) == len(labels) > 0:
            raise _BrokenError(f"{len(tables)} bags, but {len(labels)} labels")
        if any(
            table.ndim != 2 or table.dtype.kind != "f" or table.shape[0] != len(tables[0])
            for table in tables
        ):
            raise _BrokenError(
                "its bags are not matrices of floating-point numbers, all of one length"
            )
        repetitions = self._references(self._dataset("folds")) if "folds" in self._file else []
        return StoredBags(
            [table.T for table in tables],
            labels,
            [self._folds(one, len(labels)) for one in repetitions],
        )

    def _folds(self, repetition: h5py.Reference, bags: int) -> list[Bool[np.ndarray, " bags"]]:
        folds = [
            self._bits(self._read(self._follow(fold))[()])
            for fold in self._references(self._follow(repetition))
        ]
        if (
            any(len(fold) != bags for fold in folds)
            or not (np.sum([~fold for fold in folds], 0) == 1).all()
        ):
            raise _BrokenError("its folds do not test each bag once")
        return folds

    def _bits(self, packed: Any) -> Bool[np.ndarray, " bits"]:
        """Julia's BitArray: 64 bits a word, the lowest first."""
        if getattr(packed, "dtype", None) is None or packed.dtype.names != (
            "chunks_",
            "len_",
            "dims_",
        ):
            raise _BrokenError("its labels or folds are not a BitArray of Julia")
        words = self._read(self._follow(packed["chunks_"]))
        length = int(packed["len_"])
        if (
            words.ndim != 1
            or words.dtype != np.dtype("<u8")
            or len(words) != math.ceil(length / 64)
        ):
            raise _BrokenError(
                f"a BitArray of {length} bits in {words.shape} words of {words.dtype}"
            )
        return np.unpackbits(words.view(np.uint8), bitorder="little")[:length].astype(bool)

    def _references(self, dataset: h5py.Dataset) -> list[Any]:
        if h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference or dataset.ndim != 1:
            raise _BrokenError(f"{dataset.name} is not a list of references")
        return list(self._read(dataset))

    def _dataset(self, name: str) -> h5py.Dataset:
        if self._file.get(name, getlink=True).__class__ is not h5py.HardLink:
            raise _BrokenError(f"no {name} in the file itself")
        return self._checked(self._file[name])

    def _follow(self, reference: Any) -> h5py.Dataset:
        if not isinstance(reference, h5py.Reference) or not reference:
            raise _BrokenError("a reference to nothing")
        return self._checked(self._file[reference])

    def _checked(self, found: Any) -> h5py.Dataset:
        """Its data must lie in the file as it is written: nothing elsewhere on this disk, nothing compressed."""
        if (
            not isinstance(found, h5py.Dataset)
            or found.is_virtual
            or found.external
            or found.chunks is not None
        ):
            raise _BrokenError("a reference to something that is not plain data")
        return found

    def _read(self, dataset: h5py.Dataset) -> Any:
        self._left -= dataset.nbytes
        if self._left < 0 or dataset.id.get_storage_size() != dataset.nbytes:
            raise _BrokenError("it claims more data than it holds")
        return dataset[()]


def _column(path: Path, name: str) -> Int[np.ndarray, " rows"]:
    values = read_matrix(path, name)
    if values.shape[1] != 1 or not np.equal(values, np.round(values)).all():
        raise FormatError(f"{path}: {name} is not one column of whole numbers; get it again")
    return values[:, 0].astype(np.int64)
