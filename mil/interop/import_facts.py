"""Facts that a checkpoint lacks: its classes, the bags it is for, and its name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mil.config import NAME, DatasetConfig, tiling_name
from mil.errors import ConfigError, FormatError
from mil.interop.convert import entry_name, known_encoders
from mil.interop.detect import bag_files
from mil.io.bags import common_identity, read_bag, read_header
from mil.tasks import Classification, load_dataset


@dataclass(frozen=True, kw_only=True)
class HeadImportOptions:
    """Facts that a checkpoint lacks: options of `mil heads import`.

    Attributes:
        classes: names of the classes in the order of the head's outputs.
        positive: class of interest; empty: the last, or the dataset's.
        dataset: dataset to take the classes from: a name, or a yaml file.
        bags: folder of bags that the head is for.
        encoder: encoder of the features, where there are no bags yet.
        weights_sha256: SHA-256 of the encoder's weights.
        tile_px: side of a tile as the encoder saw it, pixels.
        target_mpp: requested pixel size of a tile, µm.
        name: name of the recipe in predictions; empty: the head's.
        seed: random seed of the training; None: the checkpoint's, else 1.
        fold: number of the fold that the head was trained on.
    """

    classes: Sequence[str] = ()
    positive: str = ""
    dataset: str = ""
    bags: Path | None = None
    encoder: str = ""
    weights_sha256: str = ""
    tile_px: int | None = None
    target_mpp: float | None = None
    name: str = ""
    seed: int | None = None
    fold: int = 0


class BagIdentity(NamedTuple):
    """Identity that bags must have for the head; compare `BagHeader.identity`."""

    encoder: str
    weights_sha256: str
    tiling: str
    stain_norm: str = ""


def checked_name(name: str) -> str:
    """Name of a recipe, which becomes part of paths and tables.

    Raises:
        ConfigError: it has other characters than those of a file's name.
    """
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"--name {name!r}: use letters, digits, dots, dashes and underscores only"
        )
    return name


def classification_of(options: HeadImportOptions, outputs: int, file: Path) -> Classification:
    """Names of the classes, and the class of interest.

    Args:
        options: options of the command.
        outputs: number of classes of the head.
        file: the checkpoint, for messages.

    Raises:
        ConfigError: the classes are not named, or not as many as the head's.
    """
    if bool(options.classes) == bool(options.dataset):
        raise ConfigError(
            f"{file}: {outputs} classes without names; give --classes A,B in their order, or a "
            "--dataset"
        )
    classes = list(options.classes)
    positive = options.positive
    if options.dataset:
        dataset = _dataset_of_classes(options.dataset, file)
        classes = list(dataset.classes)
        positive = positive or dataset.positive_class
    # The convention of datasets here: the class of interest is the last.
    positive = positive or classes[-1]
    _check_classes(classes, outputs, file)
    if positive not in classes:
        raise ConfigError(f"--positive {positive!r} is not among the classes {', '.join(classes)}")
    return Classification(classes=classes, positive=positive)


def _dataset_of_classes(name: str, file: Path) -> DatasetConfig:
    dataset = load_dataset(name)
    if dataset.task != "classification":
        raise ConfigError(
            f"{file}: its outputs are classes, but the task of dataset {name} is {dataset.task}"
        )
    return dataset


def _check_classes(classes: Sequence[str], outputs: int, file: Path) -> None:
    if len(classes) != outputs:
        raise ConfigError(
            f"{file}: has {outputs} classes, but {len(classes)} are named: {', '.join(classes)}"
        )
    distinct = len(set(classes)) == outputs
    if not distinct or not all(name and name.isprintable() for name in classes):
        raise ConfigError(f"--classes {','.join(classes)!r}: each class needs a name of its own")


def bag_identity_of(options: HeadImportOptions, dim: int, file: Path) -> BagIdentity:
    """Identity of the bags that the head is for, from bags or from the options.

    Args:
        options: options of the command.
        dim: number of features per tile that the head takes.
        file: the checkpoint, for messages.

    Raises:
        ConfigError: neither bags nor an encoder are named, or they contradict each other.
        FormatError: the bags are of no use, or have another number of features.
    """
    encoder = entry_name(options.encoder, known_encoders())
    if options.bags is None:
        if not options.encoder:
            raise ConfigError(
                f"{file}: does not name the encoder of its features; give --bags FOLDER, or "
                "--encoder NAME"
            )
        tiling = tiling_name(options.tile_px, options.target_mpp)
        return BagIdentity(encoder, options.weights_sha256, tiling)
    usable = [path for path in bag_files(options.bags) if read_header(path).state == "ok"]
    if not usable:
        raise FormatError(f"{options.bags}: none of its bags has features")
    # A head is of one encoder, one set of weights and one tiling.
    identity = BagIdentity(**common_identity(usable))
    if identity.encoder not in (encoder, options.encoder) and options.encoder:
        raise ConfigError(
            f"{options.bags}: encoder {identity.encoder}, not {options.encoder}; leave out "
            "--encoder"
        )
    # All bags of a folder have one dimension, so the first stands for all.
    bag_dim = read_bag(usable[0]).features.shape[1]
    if bag_dim != dim:
        raise FormatError(
            f"{file}: takes {dim} features a tile, but {usable[0]} has {bag_dim}; the head is for "
            "other bags"
        )
    return identity
