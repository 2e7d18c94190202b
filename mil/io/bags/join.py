"""Bags of one slide joined: features of coarser tiles beside those of the finer tiles in them.

DSMIL does so with tiles of two magnifications (Li, Li and Eliceiri, CVPR 2021): a tile's
features are joined by those of the coarser tile that it lies in.
"""

import json
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mil.config.base import LONGEST_NAME
from mil.config.joined import BETWEEN, EncoderAt, is_joined, joined_name
from mil.errors import FormatError
from mil.io.bags.around import NOWHERE, tiles_around
from mil.io.bags.content import Bag, BagHeader
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.joined import PART_FACTS
from mil.io.provenance import made_from

# Lengths that differ by a smaller share are equal.
SAME = 1e-6
# Characters of a checksum that messages show.
SHOWN_CHARACTERS = 12


class JoinedBag(NamedTuple):
    """A bag of several, and how many of its tiles lack which features.

    Attributes:
        bag: The bag; its tiles are those of the first bag.
        without: Number of valid tiles that lie in no valid tile of a further bag, in the
            order of these; zeros stand in place of its features.
    """

    bag: Bag
    without: tuple[int, ...]


def join_bags(bags: Sequence[Bag], paths: Sequence[Path]) -> JoinedBag:
    """The bag of the first bag's tiles, each with its features by all encoders.

    The features of a tile are those of the first bag, then those of each further one: of
    its tile whose footprint holds the centre of the first bag's tile, the nearest if there
    are several. Where no tile that could be read holds it, zeros follow: no tissue is left
    out. A state that is not `ok` is the state of the joined bag, which then has no tiles.

    Args:
        bags: Two bags or more of one slide, from the finest tiles to the coarsest.
        paths: Their files, for messages.

    Raises:
        FormatError: The bags are of several slides, or of one at several sizes; their
            stains are normalised in different ways; their positions are not known; or one
            has finer tiles than the bag before it.
    """
    first = bags[0]
    for bag, path in zip(bags[1:], paths[1:], strict=True):
        if bag.slide != first.slide:
            raise FormatError(
                f"{path}: is the bag of slide {bag.slide!r}, but {paths[0]} of {first.slide!r}; "
                "join bags of one slide"
            )
        if bag.stain_norm != first.stain_norm:
            raise FormatError(
                f"{path}: its stains are normalised by {bag.stain_norm or 'no method'}, those of "
                f"{paths[0]} by {first.stain_norm or 'none'}; join bags with the same "
                "features.stain_norm"
            )
    failed = next((bag for bag in bags if bag.state != "ok"), None)
    if failed is not None:
        return JoinedBag(_empty(bags, failed, paths), (0,) * (len(bags) - 1))
    for bag, path in zip(bags, paths, strict=True):
        _check_placed(bag, path, first, paths[0])
    for (finer, bag), (finer_path, path) in zip(pairwise(bags), pairwise(paths), strict=True):
        _check_order(bag, path, finer, finer_path)
    rows = [_rows_around(first, bag) for bag in bags[1:]]
    features = np.concatenate(
        [
            first.features,
            *(_taken(bag, of_bag) for bag, of_bag in zip(bags[1:], rows, strict=True)),
        ],
        axis=1,
    )
    # As in every bag: rows of tiles that could not be read are zeros.
    features[~first.valid] = 0
    without = tuple(int(((of_bag == NOWHERE) & first.valid).sum()) for of_bag in rows)
    further = [f"{bag.reason} ({_short_name(bag)})" for bag in bags[1:] if bag.reason]
    reason = "; ".join(filter(None, [first.reason, *further]))
    header = _header(bags, paths, state="ok", reason=reason, without=without)
    return JoinedBag(
        Bag(**header, features=features, coords=first.coords, valid=first.valid), without
    )


def joined_digest(path: Path) -> str:
    """Digest of a bag to join: of what it was made from, and of its numbers.

    Raises:
        FormatError: It is not a bag.
    """
    return f"{made_from(path)} {bag_digest(path)}"


def joined_weights(checksums: Sequence[str]) -> str:
    """Checksums of the weights of joined encoders, one after another.

    Empty where one is not known: those of some would not tell two sets apart.
    """
    return BETWEEN.join(checksums) if all(checksums) else ""


def shown_weights(checksum: str) -> str:
    """The first characters of a checksum, or of each of joined encoders."""
    return BETWEEN.join(one[:SHOWN_CHARACTERS] for one in checksum.split(BETWEEN))


def _rows_around(first: Bag, coarse: Bag) -> Int[np.ndarray, " tiles"]:
    """Row of the valid tile of a coarser bag that each tile lies in, or -1."""
    # `_check_placed` has refused bags without.
    assert first.coords is not None
    assert coarse.coords is not None
    valid = np.flatnonzero(coarse.valid)
    among_valid = tiles_around(
        first.coords,
        first.side_level0_px or 0.0,
        coarse.coords[valid],
        coarse.side_level0_px or 0.0,
    )
    if not len(valid):
        return among_valid
    return np.where(among_valid == NOWHERE, NOWHERE, valid[among_valid])


def _taken(bag: Bag, rows: Int[np.ndarray, " tiles"]) -> Float[np.ndarray, "tiles dim"]:
    """Features of rows of a bag; zeros where a row is -1."""
    taken = np.zeros((len(rows), bag.features.shape[1]), bag.features.dtype)
    known = rows != NOWHERE
    taken[known] = bag.features[rows[known]]
    return taken


def _check_placed(bag: Bag, path: Path, first: Bag, first_path: Path) -> None:
    """Refuse a bag whose tiles cannot be found among those of the first bag."""
    if bag.coords is None or not bag.side_level0_px:
        raise FormatError(
            f"{path}: does not say where its tiles lie on the slide, or how large they are; import "
            "it again with the files of its coordinates and --side-level0-px"
        )
    for name in ("width_level0_px", "height_level0_px", "mpp_level0"):
        value = getattr(bag, name)
        usual = getattr(first, name)
        if value and usual and not isclose(value, usual, rel_tol=SAME):
            raise FormatError(
                f"{path}: {name} is {value}, but {usual} in {first_path}; join bags of the same "
                "slide file"
            )


def _check_order(bag: Bag, path: Path, finer: Bag, finer_path: Path) -> None:
    """Refuse a bag of finer tiles than the one before it: the name of a head's encoders says so."""
    if (bag.side_level0_px or 0) < (finer.side_level0_px or 0) * (1 - SAME):
        raise FormatError(
            f"{path}: its tiles are {bag.side_level0_px:g} px wide on the slide, finer than those "
            f"of {finer_path} ({finer.side_level0_px:g} px); name the folders from the finest "
            "tiles to the coarsest"
        )


def _empty(bags: Sequence[Bag], failed: Bag, paths: Sequence[Path]) -> Bag:
    """The bag of a slide that is not `ok` in one of the bags: no rows, but as wide."""
    without = (0,) * (len(bags) - 1)
    reason = failed.reason
    if failed is not bags[0]:
        # Behind it: advice goes by how a reason begins.
        reason = f"{failed.reason} ({_short_name(failed)})"
    dim = sum(bag.features.shape[1] for bag in bags)
    dtype = np.result_type(*(bag.features for bag in bags))
    return Bag(
        **_header(bags, paths, state=failed.state, reason=reason, without=without),
        features=np.zeros((0, dim), dtype),
        coords=np.zeros((0, 2), np.int32),
        valid=np.zeros(0, bool),
    )


def _header(
    bags: Sequence[Bag],
    paths: Sequence[Path],
    *,
    state: str,
    reason: str,
    without: Sequence[int],
) -> dict[str, Any]:
    """Fields of the joined bag's header: tiles of the first, encoders of all."""
    first = bags[0]
    encoder = joined_name([_encoder_of(bag) for bag in bags])
    if len(encoder) > LONGEST_NAME:
        raise FormatError(
            f"{paths[0]}: the name of the joined encoders, {encoder[:LONGEST_NAME]}..., is longer "
            f"than {LONGEST_NAME} characters, which no folder should have; join fewer"
        )
    parts = [
        {**_facts(bag), "dim": bag.features.shape[1], "without": number}
        for bag, number in zip(bags, (0, *without), strict=True)
    ]
    weights = [bag.weights_sha256 for bag in bags]
    return {
        **{field.name: getattr(first, field.name) for field in fields(BagHeader)},
        "encoder": encoder,
        "state": state,
        "reason": reason,
        "encoder_revision": _together([bag.encoder_revision for bag in bags]),
        "encoder_settings": json.dumps({"joined": parts}),
        "weights_sha256": joined_weights(weights),
        "transform": _together([bag.transform for bag in bags]),
        "precision": _together([bag.precision for bag in bags]),
        "source": _together([bag.source for bag in bags]),
    }


def _facts(bag: Bag) -> dict[str, Any]:
    """Facts of a joined bag that are known."""
    facts = {name: getattr(bag, name) for name in PART_FACTS}
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _encoder_of(bag: Bag) -> EncoderAt:
    """Encoder of a bag with its tiles, which the name of joined encoders states already."""
    if is_joined(bag.encoder):
        return EncoderAt(bag.encoder, None, bag.tile_px)
    return EncoderAt(bag.encoder, bag.target_mpp, bag.tile_px)


def _short_name(bag: Bag) -> str:
    """Encoder of a bag with its resolution, for reasons."""
    return str(_encoder_of(bag)._replace(tile_px=None))


def _together(values: Sequence[str]) -> str:
    """Values that are all equal, once; else one after another."""
    known = list(dict.fromkeys(filter(None, values)))
    return " + ".join(known)
