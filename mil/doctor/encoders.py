"""Encoders of a run: can their weights be had, and how large are their bags?"""

from collections.abc import Iterable, Sequence

from mil.config import TileConfig, load_encoders
from mil.config.joined import TiledEncoder, name_of_tiled, tiled_encoders
from mil.doctor.findings import EncoderFinding, JoinedFinding, SlideFinding
from mil.encoders.availability import weights_status

# A tile's row in the bag besides its features: two int32 of coordinates, one byte of
# validity.
ROW_BYTES = 9
# An HDF5 file with all its attributes and no tiles, roughly.
FILE_BYTES = 8192


def encoder_groups(names: Iterable[str], tile: TileConfig) -> list[list[TiledEncoder]]:
    """Encoders of a run with their tiles: those of each name, several where it joins them.

    Args:
        names: Names of encoders.
        tile: Section `tile` of the configuration.

    Raises:
        ConfigError: A name is none of an encoder.
    """
    entries = load_encoders()
    return [tiled_encoders(name, tile, entries) for name in dict.fromkeys(names)]


def distinct_encoders(groups: Iterable[Sequence[TiledEncoder]]) -> list[TiledEncoder]:
    """Encoders of all groups, each with its tiles once.

    Joined encoders share tiles and bags with those of the run that are alone.
    """
    by_name: dict[tuple[str, int, float], TiledEncoder] = {}
    for group in groups:
        for encoder in group:
            by_name.setdefault((encoder.name, encoder.tile_px, encoder.mpp), encoder)
    return list(by_name.values())


def inspect_encoder(
    encoder: TiledEncoder, usable: Sequence[SlideFinding], dtype: str
) -> EncoderFinding:
    """Finding on one encoder.

    Args:
        encoder: Encoder with its tiles.
        usable: Slides that are ok.
        dtype: Dtype of the features in a bag.
    """
    bags = _bags_bytes(encoder.tiling, encoder.entry.dim, usable, dtype)
    largest = max(bags, key=lambda slide: bags[slide], default="")
    weights = weights_status(encoder.name, encoder.entry)
    return EncoderFinding(
        encoder=encoder.name,
        tiling=encoder.tiling,
        dim=encoder.entry.dim,
        licence=encoder.entry.licence,
        weights=weights.status,
        weights_ok=weights.available,
        detail=weights.message,
        bags_bytes=sum(bags.values()),
        largest_bag_bytes=bags.get(largest, 0),
        largest_bag_slide=largest,
    )


def inspect_joined(
    encoders: Sequence[TiledEncoder], usable: Sequence[SlideFinding], dtype: str
) -> JoinedFinding:
    """Finding on joined encoders, whose bags have the tiles of the first, the features of all.

    Args:
        encoders: The joined encoders, that of the smallest tiles first.
        usable: Slides that are ok.
        dtype: Dtype of the features in a bag.
    """
    dim = sum(encoder.entry.dim for encoder in encoders)
    bags = _bags_bytes(encoders[0].tiling, dim, usable, dtype)
    return JoinedFinding(name_of_tiled(encoders), dim, sum(bags.values()))


def _bags_bytes(
    tiling: str, dim: int, usable: Sequence[SlideFinding], dtype: str
) -> dict[str, int]:
    """Size of the bag of each slide, bytes."""
    bytes_per_value = 2 if dtype == "float16" else 4
    row_bytes = dim * bytes_per_value + ROW_BYTES
    return {
        slide.slide: slide.tilings[tiling].num_tiles * row_bytes + FILE_BYTES for slide in usable
    }
