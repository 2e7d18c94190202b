"""The QuPath layer of a heatmap: contours as annotations, and tiles with their numbers.

The text is put together without an object of shapely or of `json` for each tile, which would
take most of the time on a large slide.
"""

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import numpy as np
from jaxtyping import Int
from pydantic import JsonValue
from shapely.affinity import translate
from shapely.geometry import mapping

from mil.heatmap.colours import colours_of
from mil.heatmap.contours import Contour
from mil.heatmap.files import LAYER, PACKED_LAYER
from mil.heatmap.measurements import Columns
from mil.io.atomic import atomic_path

# Layers of so many tiles are packed; QuPath reads them from 0.4 on.
PACKED_FROM = 5000
# Level of gzip: the next ones take twice as long for a tenth less.
COMPRESSION = 5
# Bytes that are packed at a time.
BLOCK_BYTES = 1 << 20
# Namespace of the ids, an arbitrary UUID that never changes.
NAMESPACE = UUID("5d2f9d0e-4c1b-5f0a-9a53-6c1f0a8f2b11")


class TilesOfLayer(NamedTuple):
    """Tiles of a layer.

    Attributes:
        corners: Top left corners, pixels of level 0 of the whole slide.
        side: Side of a tile.
        measurements: Numbers of each tile, as text.
    """

    corners: Int[np.ndarray, "tiles 2"]
    side: float
    measurements: Columns


def layer_ending(tiles: int) -> str:
    """Ending of a layer of so many tiles."""
    return PACKED_LAYER if tiles >= PACKED_FROM else LAYER


def write_layer(
    path: Path,
    identity: str,
    tiles: TilesOfLayer | None,
    contours: Sequence[tuple[Contour, float]] = (),
    scanned_px: tuple[int, int] = (0, 0),
    about: Mapping[str, JsonValue] | None = None,
) -> None:
    """Write a FeatureCollection as QuPath reads it, whole or not at all.

    Args:
        path: File to write; packed if its name ends with `.gz`.
        identity: Slide and head, from which ids of objects are computed: a layer that is
            opened twice doubles nothing.
        tiles: Tiles; None: their places are not known.
        contours: Contours, with the share of attention inside.
        scanned_px: Corner of the scanned part of the slide, which QuPath counts from,
            pixels of level 0.
        about: Further members of the collection, which readers may ignore (RFC 7946,
            section 6.1).
    """
    features = _features(identity, tiles, contours, scanned_px)
    with atomic_path(path) as scratch, scratch.open("wb") as file:
        # Neither a name nor a time: the same layer is the same file.
        packed = (
            gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) if path.suffix == ".gz" else None
        )
        with io.BufferedWriter(packed or file, BLOCK_BYTES) as binary:
            _write(binary, features, about or {})


def _write(
    binary: io.BufferedIOBase, features: Iterator[str], about: Mapping[str, JsonValue]
) -> None:
    binary.write(b'{"type": "FeatureCollection", "features": [')
    separator = ""
    for text in features:
        binary.write(f"{separator}\n{text}".encode())
        separator = ","
    members = "".join(
        f", {json.dumps(name)}: {json.dumps(value, allow_nan=False)}"
        for name, value in about.items()
    )
    binary.write(f"]{members}}}".encode())


def _features(
    identity: str,
    tiles: TilesOfLayer | None,
    contours: Sequence[tuple[Contour, float]],
    scanned_px: tuple[int, int],
) -> Iterator[str]:
    for contour, attention in contours:
        yield json.dumps(_contour_feature(identity, contour, attention, scanned_px))
    if tiles is not None:
        yield from _tile_features(identity, tiles, scanned_px)


def _contour_feature(
    identity: str, contour: Contour, attention: float, scanned_px: tuple[int, int]
) -> dict[str, Any]:
    left, top = scanned_px
    colour = colours_of(np.array([contour.level / 100]))[0].tolist()
    name = f"attention from percentile {contour.level}"
    return {
        "type": "Feature",
        "id": str(uuid5(NAMESPACE, f"{identity}/percentile {contour.level}")),
        "geometry": mapping(translate(contour.region, -left, -top)),
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": name, "color": colour},
            "isLocked": True,
            "measurements": {
                "percentile": contour.level,
                "tiles": int(contour.tiles.sum()),
                "attention": float(f"{attention:.6g}"),
            },
        },
    }


def _tile_features(
    identity: str, tiles: TilesOfLayer, scanned_px: tuple[int, int]
) -> Iterator[str]:
    first = (tiles.corners - scanned_px).astype(float)
    places = [first, first + tiles.side]
    # Unlike `str`, this ends after ten digits: 453.3 instead of 453.30000000000001.
    left, top, right, bottom = (
        list(map("%.10g".__mod__, place[:, axis].tolist())) for place in places for axis in (0, 1)
    )
    numbers = _numbers(tiles.measurements)
    ids = _ids(identity, tiles.corners)
    for one, x0, y0, x1, y1, measured in zip(ids, left, top, right, bottom, numbers, strict=True):
        yield (
            f'{{"type": "Feature", "id": "{one}", "geometry": {{"type": "Polygon", "coordinates": '
            f"[[[{x0}, {y0}], [{x0}, {y1}], [{x1}, {y1}], [{x1}, {y0}], [{x0}, {y0}]]]}}, "
            f'"properties": {{"objectType": "tile", "measurements": {{{measured}}}}}}}'
        )


def _numbers(columns: Columns) -> Iterator[str]:
    """Members of each tile's measurements; QuPath takes numbers alone, so no null."""
    names = [f"{json.dumps(name)}: " for name in columns]
    for texts in zip(*columns.values(), strict=True):
        yield ", ".join([name + text for name, text in zip(names, texts, strict=True) if text])


def _ids(identity: str, corners: Int[np.ndarray, "tiles 2"]) -> Iterator[str]:
    """`uuid5(NAMESPACE, "IDENTITY/X,Y")` of each tile, hashing the identity once."""
    begun = sha1(NAMESPACE.bytes + f"{identity}/".encode(), usedforsecurity=False)
    seen: Counter[tuple[int, int]] = Counter()
    for x, y in corners.tolist():
        digest = begun.copy()
        digest.update(b"%d,%d" % (x, y))
        # Of tiles at one place, each further one has its number.
        if before := seen[x, y]:
            digest.update(b",%d" % before)
        seen[x, y] += 1
        text = digest.hexdigest()
        # Version 5, and the variant in the two upper bits; see RFC 9562, section 5.5.
        variant = "89ab"[int(text[16], 16) & 3]
        yield f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"
