"""Tiles of a slide as PNG files, with a table of what they are."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mil.encoders.resample import fast_resample
from mil.errors import DatasetError, FormatError, some
from mil.io.atomic import atomic_path
from mil.io.bags import read_positions
from mil.io.bags.checks import check_slide
from mil.io.scores import MAP_KINDS, MapKind
from mil.io.tables import read_csv, write_csv
from mil.io.tables.ids import valid_id
from mil.io.tile_images import (
    TileFootprints,
    footprints_of_bag,
    footprints_of_tiles,
    read_tile_images,
)
from mil.io.tiles import Tiles, read_tiles
from mil.progress import progress
from mil.tiles.choose import Choice, ChosenTile, chosen_tiles, maps_of, value_of
from mil.tiles.study_files import SlideFiles
from mil.trained.scored_slide import read_scored_slide
from mil.trained.tile_maps import TileMap

INDEX = "tiles.csv"
COLUMNS = (
    "file",
    "slide",
    "x",
    "y",
    "side_level0_px",
    "tile_px",
    "mpp",
    "chosen",
    "rank",
    *MAP_KINDS,
    "column",
    "unit",
)
# Bytes of a slide's id in the name of a tile: file systems allow 255 in all.
LONGEST_SLIDE_BYTES = 120
# More files than anybody looks at.
MANY = 5000


@dataclass(frozen=True)
class Exported:
    """Tiles that were written.

    Attributes:
        slide: Id of the slide.
        written: Number of PNG files.
        unreadable: Number of tiles that cannot be decoded.
        note: An addition to the line about them; mostly empty.
    """

    slide: str
    written: int
    unreadable: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Source:
    """Tiles to choose from, with their maps."""

    footprints: TileFootprints
    maps: Mapping[MapKind, TileMap]
    note: str = ""


def run(
    files: SlideFiles, choice: Choice, out: Path, *, replace: bool = False, many: bool = False
) -> Exported:
    """Write tiles of a slide as PNG files, pixel for pixel as their encoder got them.

    Args:
        files: Files of the slide, its tiles and its scores.
        choice: Tiles to write.
        out: Folder for them and for `tiles.csv`.
        replace: Whether tiles of an earlier export are replaced; else they are an error.
        many: Whether more than `MANY` files are meant.

    Raises:
        FormatError: A file cannot be used, or files are not of one slide.
        DatasetError: The choice cannot be met, or files would be replaced.
        SlideError: The slide does not open.
    """
    earlier = _earlier(out, replace=replace)
    source = _source(files, choice)
    footprints = source.footprints
    if not len(footprints.corners):
        raise FormatError(f"slide {footprints.slide}: has no tiles to export")
    values = source.maps[choice.by].values if choice.needs_scores else None
    chosen = chosen_tiles(choice, len(footprints.corners), values)
    if len(chosen) > MANY and not many:
        raise DatasetError(
            f"tiles: {len(chosen)} files are asked for; if that is meant, add --many"
        )
    kind = choice.by if choice.needs_scores else None
    names = _distinct([_name(footprints, source.maps, kind, tile) for tile in chosen])
    if not replace:
        _check_free(out, names)
    unreadable = _write(files.slide, footprints, chosen, names, out)
    for name in earlier - {*names, INDEX}:
        with suppress(FileNotFoundError):
            (out / name).unlink()
    rows = [
        _row(source, tile, "" if tile.number in unreadable else name)
        for tile, name in zip(chosen, names, strict=True)
    ]
    # Last: with it the export is whole.
    write_csv(out / INDEX, rows, COLUMNS)
    return Exported(footprints.slide, len(chosen) - len(unreadable), len(unreadable), source.note)


def _earlier(out: Path, *, replace: bool) -> set[str]:
    """Names of the files of an earlier export to this folder.

    Raises:
        DatasetError: There are some, and they are not to be replaced.
    """
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out}: a file, not a folder; give another --out")
    index = out / INDEX
    if not index.exists():
        return set()
    if not replace:
        raise DatasetError(
            f"{out}: holds the tiles of an earlier export; add --replace, or give another --out"
        )
    names = {row.get("file") or "" for row in read_csv(index)}
    # The table may come from anywhere: a name in it must not lead out of the folder.
    return {name for name in names if name.endswith(".png") and Path(name).name == name}


def _check_free(out: Path, names: Sequence[str]) -> None:
    taken = [name for name in names if (out / name).exists()]
    if taken:
        raise DatasetError(
            f"{out}: already holds {some(taken)}; add --replace, or give another --out"
        )


def _source(files: SlideFiles, choice: Choice) -> _Source:
    """Footprints of the tiles to choose from: those that were scored, else all."""
    tiles = None if files.tiles is None else read_tiles(files.tiles)
    if files.score is None or files.bag is None:
        if choice.needs_scores:
            raise DatasetError(
                "tiles: --top and --bottom need scores, which this slide has not; run `mil score` "
                "first, or give --random or --all"
            )
        return _Source(_unscored(files, tiles), {})
    scored = read_scored_slide(files.score, files.bag, files.folds)
    if not scored.records:
        raise FormatError(f"slide {scored.bag.slide}: {scored.bag.state}, no tiles to export")
    if tiles is not None and scored.bag.tile_digest not in ("", tiles.digest):
        raise FormatError(
            f"{files.tiles}: holds other tiles than the bag of {scored.bag.slide} was made from; "
            "give the tiles file of that bag"
        )
    footprints = footprints_of_bag(scored.bag, None if tiles is None else tiles.geometry)
    note = "" if scored.is_unseen else ", by heads that saw the slide in training"
    return _Source(footprints, maps_of(scored, choice), note)


def _unscored(files: SlideFiles, tiles: Tiles | None) -> TileFootprints:
    if files.bag is not None:
        bag = read_positions(files.bag)
        check_slide(bag, files.bag)
        return footprints_of_bag(bag, None if tiles is None else tiles.geometry)
    if tiles is None:
        raise DatasetError("tiles: nothing says where the tiles are; give --tiles or --bag")
    footprints = footprints_of_tiles(tiles)
    # The name of a slide becomes that of files.
    if not valid_id(footprints.slide):
        raise FormatError(f"{files.tiles}: names a slide {footprints.slide!r}, which cannot be one")
    return footprints


def _name(
    footprints: TileFootprints,
    maps: Mapping[MapKind, TileMap],
    kind: MapKind | None,
    tile: ChosenTile,
) -> str:
    """Name of a tile's file: slide, rank, corner and value.

    Such as `s1_top001_x1024_y512_effect+0.213.png`.
    """
    slide = footprints.slide.encode()[:LONGEST_SLIDE_BYTES].decode(errors="ignore")
    x, y = footprints.corners[tile.number].tolist()
    rank = f"_{tile.way}{tile.rank:03d}" if kind else ""
    value = ""
    if kind is not None:
        sign = "+" if maps[kind].is_signed else ""
        value = f"_{kind}{maps[kind].values[tile.number]:{sign}.4g}"
    return f"{slide}{rank}_x{x}_y{y}{value}.png"


def _distinct(names: Sequence[str]) -> list[str]:
    """Names with a number where two are equal: an imported bag may name a place twice."""
    counts: Counter[str] = Counter()
    distinct = []
    for name in names:
        counts[name] += 1
        again = f"_{counts[name]}" if counts[name] > 1 else ""
        distinct.append(f"{name.removesuffix('.png')}{again}.png")
    return distinct


def _write(
    slide: Path,
    footprints: TileFootprints,
    chosen: Sequence[ChosenTile],
    names: Sequence[str],
    out: Path,
) -> set[int]:
    """Write the tiles, and return the numbers of those that cannot be decoded."""
    name_of = {tile.number: name for tile, name in zip(chosen, names, strict=True)}
    numbers = np.array([tile.number for tile in chosen])
    unreadable = set()
    images = read_tile_images(slide, footprints, numbers, resampler=fast_resample)
    with progress(f"tiles {footprints.slide}", len(name_of), "tiles") as advance:
        for image in images:
            if image.pixels is None:
                unreadable.add(image.number)
            else:
                _write_png(out / name_of[image.number], image.pixels)
            advance(1)
    return unreadable


def _write_png(path: Path, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="png")
    with atomic_path(path) as scratch:
        scratch.write_bytes(encoded.getvalue())


def _row(source: _Source, tile: ChosenTile, file: str) -> dict[str, object]:
    footprints = source.footprints
    x, y = footprints.corners[tile.number].tolist()
    evidence = next((one for one in source.maps.values() if one.is_signed), None)
    values = {kind: value_of(source.maps, kind, tile.number) for kind in MAP_KINDS}
    return {
        "file": file,
        "slide": footprints.slide,
        "x": x,
        "y": y,
        "side_level0_px": footprints.side_level0_px,
        "tile_px": footprints.tile_px,
        "mpp": f"{footprints.mpp:.6g}" if footprints.mpp else "",
        "chosen": tile.way,
        "rank": tile.rank,
        **{kind: "" if value is None else f"{value:.6g}" for kind, value in values.items()},
        "column": evidence.column if evidence else "",
        "unit": evidence.unit if evidence else "",
    }
