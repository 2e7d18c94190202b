"""Statistics and trained heads: a bag becomes one vector, or one for each head."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mil.config.slide_encoders import STATISTICS
from mil.errors import DatasetError, FormatError
from mil.heads import PoolsTiles
from mil.io.bags import Bag
from mil.io.vectors import VectorHead
from mil.trained import Trained, load_heads
from mil.trained.assembled import Assembled
from mil.trained.compatibility import check_compatible, check_usable
from mil.trained.forward import tensors_of
from mil.trained.pooled import pooled_row
from mil.trained.record import FILES

# Tiles whose features are converted to float64 at once.
CHUNK_TILES = 8192


class PoolingHead(NamedTuple):
    """A trained head in memory."""

    head: nn.Module
    trained: Trained
    fact: VectorHead


def load_pooling_heads(slide_encoder: str, folders: Sequence[Path]) -> list[PoolingHead]:
    """Heads of a slide encoder, by seed and fold; none of one without weights.

    Args:
        slide_encoder: `mean`, `mean_std`, or the recipe of the heads.
        folders: Folders of trained heads.

    Raises:
        DatasetError: Heads and slide encoder do not go together, or a head has no pooled
            row.
        FormatError: A head cannot be used.
    """
    if slide_encoder in STATISTICS:
        if folders:
            raise DatasetError(
                f"slide encoder {slide_encoder}: is computed without heads; leave --head-dir out"
            )
        return []
    if not folders:
        raise DatasetError(
            f"slide encoder {slide_encoder}: needs its trained heads; give their folders by "
            f"--head-dir, or use one of {', '.join(STATISTICS)}"
        )
    loaded = [
        PoolingHead(head, trained, _fact(trained, folder))
        for folder, (head, trained) in zip(folders, load_heads(folders), strict=True)
    ]
    loaded.sort(key=lambda each: (each.fact.seed, each.fact.fold))
    for head, trained, _ in loaded:
        _check_pools(head, trained, slide_encoder)
    return loaded


def _fact(trained: Trained, folder: Path) -> VectorHead:
    digest = sha256((folder / FILES["kept"]).read_bytes()).hexdigest()
    return VectorHead(trained.recipe_name, trained.seed, trained.fold, digest)


def _check_pools(head: nn.Module, trained: Trained, slide_encoder: str) -> None:
    if trained.recipe_name != slide_encoder:
        raise DatasetError(
            f"slide encoder {slide_encoder}: the head is of recipe {trained.recipe_name}; name the "
            "slide encoder so, or give other heads"
        )
    members = head.members if isinstance(head, Assembled) else [head]
    if not all(isinstance(member, PoolsTiles) for member in members):
        raise DatasetError(
            f"slide encoder {slide_encoder}: the head {trained.recipe.name} pools no tiles to a "
            "row; take a head that does, such as abmil"
        )


def vectors_of(
    slide_encoder: str, heads: Sequence[PoolingHead], bag: Bag, path: Path
) -> Float[np.ndarray, "rows dim"]:
    """Vectors of a usable bag, float32: a row for each head, or a single one.

    Rows of heads that average fewer members than others are filled up with NaN.

    Args:
        slide_encoder: `mean`, `mean_std`, or the recipe of the heads.
        heads: Its heads; none of `mean` and `mean_std`.
        bag: Bag whose state is `ok`.
        path: Its file, for messages.

    Raises:
        FormatError: The bag was made otherwise than those of a head, its features are no
            numbers, or a vector is none.
    """
    check_usable(bag, path)
    if not heads:
        rows = [statistics_row(bag.features[bag.valid], slide_encoder)]
    else:
        for each in heads:
            check_compatible(each.trained, bag, path)
        tensors = tensors_of(bag)
        with torch.inference_mode():
            rows = [pooled_row(each.head, tensors).float().numpy() for each in heads]
    return stacked(rows, slide_encoder, path)


def stacked(
    rows: Sequence[Float[np.ndarray, " row"]], slide_encoder: str, path: Path
) -> Float[np.ndarray, "rows dim"]:
    """Rows as one array, float32; shorter ones are filled up with NaN.

    Args:
        rows: Rows of a slide.
        slide_encoder: Name of the slide encoder, for the message.
        path: File of the bag, for the message.

    Raises:
        FormatError: A row holds values that are not numbers.
    """
    vectors = np.full((len(rows), max(map(len, rows))), np.nan, np.float32)
    for vector, row in zip(vectors, rows, strict=True):
        if not np.isfinite(row).all():
            raise FormatError(
                f"{path}: its vector by {slide_encoder} overflows float32; check its features"
            )
        vector[: len(row)] = row
    return vectors


def statistics_row(
    features: Float[np.ndarray, "tiles dim"], slide_encoder: str
) -> Float[np.ndarray, " row"]:
    """Mean of the tiles' features; for `mean_std` followed by their standard deviation.

    The deviation is that of the tiles themselves (divided by their number), so that a
    slide of one tile has 0. Sums are float64.

    Args:
        features: Features of the valid tiles.
        slide_encoder: `mean` or `mean_std`.
    """
    chunks = range(0, len(features), CHUNK_TILES)
    total = np.zeros(features.shape[1])
    for start in chunks:
        total += features[start : start + CHUNK_TILES].astype(np.float64).sum(0)
    mean = total / len(features)
    if slide_encoder == "mean":
        return mean.astype(np.float32)
    squares = np.zeros_like(mean)
    for start in chunks:
        # About the mean: a difference of two large sums would cancel.
        squares += np.square(features[start : start + CHUNK_TILES] - mean).sum(0)
    deviation = np.sqrt(squares / len(features))
    return np.concatenate([mean, deviation]).astype(np.float32)
