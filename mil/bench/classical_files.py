"""Files of the classical MIL data sets: Julia's JLD and MATLAB 5.

JLD is HDF5 full of references. The files are untrusted: nothing is unpickled, and no
file can make us read more than it holds.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Int, Shaped

from mil.bench.matlab import read_matrix
from mil.errors import FormatError, brief


class StoredBags(NamedTuple):
    """Bags as a file has them."""

    # One table of tiles a bag, in the number type of the file.
    features: Sequence[Shaped[np.ndarray, "_ dim"]]
    labels: Bool[np.ndarray, " bags"]
    # By repetition and fold: whether each bag is trained on. Empty: the file has no folds.
    training: Sequence[Sequence[Bool[np.ndarray, " bags"]]]


class _BrokenJldError(Exception):
    """A fault of a JLD file; the message does not name the file."""


def read_jld(path: Path) -> StoredBags:
    """Read bags, labels and folds of a data set of MIDatasets.jl.

    Raises:
        FormatError: the file is missing, damaged or holds something else.
    """
    # Opening a pipe would wait for ever.
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _JldReader(file, path.stat().st_size).bags()
    except (
        _BrokenJldError,
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
    ) as error:
        reason = brief(error)
        raise FormatError(
            f"{path}: not a classical MIL data set, or damaged ({reason}); get the file again"
        ) from None


def read_matlab(folder: Path) -> StoredBags:
    """Read a data set of MILpy.

    X.mat holds the tiles, Bag2.mat each tile's bag, from 1, and BagI.mat the labels.

    Raises:
        FormatError: a file is missing, damaged or holds something else.
    """
    tiles = read_matrix(folder / "X.mat", "X")
    # MATLAB counts from 1.
    bag_numbers = _column(folder / "Bag2.mat", "Bag2")
    labels = _column(folder / "BagI.mat", "bagI")
    if len(bag_numbers) != len(tiles):
        raise FormatError(
            f"{folder}: {len(tiles)} tiles in X.mat, but {len(bag_numbers)} in Bag2.mat; get the "
            "files again"
        )
    if not np.array_equal(np.unique(bag_numbers), np.arange(1, len(labels) + 1)):
        raise FormatError(
            f"{folder / 'Bag2.mat'}: its bags are not 1 to {len(labels)}, as in BagI.mat; get it "
            "again"
        )
    if not np.isin(labels, (0, 1)).all():
        raise FormatError(f"{folder / 'BagI.mat'}: its labels are not 0 and 1; get the file again")
    features = [tiles[bag_numbers == number] for number in range(1, len(labels) + 1)]
    return StoredBags(features, labels == 1, ())


class _JldReader:
    """Reader of an open file, which reads no more bytes than the file has.

    References could name the same data for ever.
    """

    def __init__(self, file: h5py.File, file_bytes: int) -> None:
        self._file = file
        self._bytes_left = file_bytes

    def bags(self) -> StoredBags:
        labels = self._bits(self._read(self._dataset("y"))[()])
        references = self._references(self._dataset("X"))
        tables = [self._read(self._follow(reference)) for reference in references]
        if not len(tables) == len(labels) > 0:
            raise _BrokenJldError(f"{len(tables)} bags, but {len(labels)} labels")
        if not all(self._is_bag(table, len(tables[0])) for table in tables):
            raise _BrokenJldError(
                "its bags are not matrices of floating-point numbers, all of one length"
            )
        repetitions = self._references(self._dataset("folds")) if "folds" in self._file else []
        training = [self._folds(repetition, len(labels)) for repetition in repetitions]
        # Julia counts rows first: HDF5 shows its matrices transposed.
        return StoredBags([table.T for table in tables], labels, training)

    @staticmethod
    def _is_bag(table: Any, dim: int) -> bool:
        return table.ndim == 2 and table.dtype.kind == "f" and table.shape[0] == dim

    def _folds(self, repetition: h5py.Reference, bags: int) -> list[Bool[np.ndarray, " bags"]]:
        folds = [
            self._bits(self._read(self._follow(fold))[()])
            for fold in self._references(self._follow(repetition))
        ]
        same_length = all(len(fold) == bags for fold in folds)
        if not same_length or not (np.sum([~fold for fold in folds], 0) == 1).all():
            raise _BrokenJldError("its folds do not test each bag once")
        return folds

    def _bits(self, packed: Any) -> Bool[np.ndarray, " bits"]:
        """Julia's BitArray: 64 bits a word, the lowest first."""
        dtype = getattr(packed, "dtype", None)
        if dtype is None or dtype.names != ("chunks_", "len_", "dims_"):
            raise _BrokenJldError("its labels or folds are not a BitArray of Julia")
        # The length says how many bits of the last word count.
        words = self._read(self._follow(packed["chunks_"]))
        length = int(packed["len_"])
        are_words = words.ndim == 1 and words.dtype == np.dtype("<u8")
        if not are_words or len(words) != math.ceil(length / 64):
            raise _BrokenJldError(
                f"a BitArray of {length} bits in {words.shape} words of {words.dtype}"
            )
        return np.unpackbits(words.view(np.uint8), bitorder="little")[:length].astype(bool)

    def _references(self, dataset: h5py.Dataset) -> list[Any]:
        if h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference or dataset.ndim != 1:
            raise _BrokenJldError(f"{dataset.name} is not a list of references")
        return list(self._read(dataset))

    def _dataset(self, name: str) -> h5py.Dataset:
        # Other links could lead to any file of this disk.
        if self._file.get(name, getlink=True).__class__ is not h5py.HardLink:
            raise _BrokenJldError(f"no {name} in the file itself")
        return self._checked(self._file[name])

    def _follow(self, reference: Any) -> h5py.Dataset:
        if not isinstance(reference, h5py.Reference) or not reference:
            raise _BrokenJldError("a reference to nothing")
        return self._checked(self._file[reference])

    def _checked(self, item: Any) -> h5py.Dataset:
        """The item, if it is a dataset whose data lies in the file as it is.

        Other datasets could read any file of this disk, or unpack to any size.
        """
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.chunks:
            raise _BrokenJldError("a reference to something that is not plain data")
        return item

    def _read(self, dataset: h5py.Dataset) -> Any:
        if dataset.shape is None:
            raise _BrokenJldError(f"{dataset.name} is empty")
        self._bytes_left -= dataset.nbytes
        if self._bytes_left < 0 or dataset.id.get_storage_size() != dataset.nbytes:
            raise _BrokenJldError("it claims more data than it holds")
        return dataset[()]


def _column(path: Path, name: str) -> Int[np.ndarray, " rows"]:
    values = read_matrix(path, name)
    if values.shape[1] != 1 or not np.equal(values, np.round(values)).all():
        raise FormatError(f"{path}: {name} is not one column of whole numbers; get the file again")
    return values[:, 0].astype(np.int64)
