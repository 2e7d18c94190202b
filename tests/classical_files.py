"""The classical MIL data sets' files, made small: the layout of MIDatasets.jl and that of MILpy."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

BIT_ARRAY = np.dtype([("chunks_", h5py.ref_dtype), ("len_", "<i8"), ("dims_", h5py.ref_dtype)])


def jld_file(
    path: Path,
    bags: Sequence[np.ndarray],
    labels: Sequence[bool],
    training: Sequence[Sequence[Sequence[bool]]],
) -> Path:
    """Write bags [tiles, dim], labels and training bags by repetition and fold, as Julia does."""
    with h5py.File(path, "w") as file:
        kept = file.create_group("_refs")

        def put(values: np.ndarray, **how: object) -> h5py.Reference:
            return kept.create_dataset(f"{len(kept):08d}", data=values, **how).ref

        def references(of: Sequence[h5py.Reference]) -> h5py.Reference:
            return put(np.array(of, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)

        def bits(of: Sequence[bool]) -> np.ndarray:
            packed = np.packbits(np.asarray(of, bool), bitorder="little")
            words = np.zeros(-(-len(of) // 64) * 8, np.uint8)
            words[: len(packed)] = packed
            length = np.array([len(of)], np.int64)
            return np.array((put(words.view("<u8")), len(of), put(length)), dtype=BIT_ARRAY)

        file["y"] = bits(labels)
        file.create_dataset("X", data=[put(bag.T) for bag in bags], dtype=h5py.ref_dtype)
        folds = [references([put(bits(fold)) for fold in repetition]) for repetition in training]
        file.create_dataset("folds", data=folds, dtype=h5py.ref_dtype)
    return path


def matlab_folder(folder: Path, bags: Sequence[np.ndarray], labels: Sequence[bool]) -> Path:
    """Write the three files of a MATLAB data set; returns their folder."""
    folder.mkdir(exist_ok=True)
    numbers = np.repeat(np.arange(1, len(bags) + 1), [len(bag) for bag in bags])
    savemat(folder / "X.mat", {"X": np.concatenate(bags)}, do_compression=True)
    savemat(folder / "Bag2.mat", {"Bag2": numbers[:, None].astype(float)}, do_compression=True)
    savemat(folder / "BagI.mat", {"bagI": np.asarray(labels, bool)[:, None]}, do_compression=True)
    return folder
