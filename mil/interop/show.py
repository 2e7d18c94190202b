"""`mil bags ls` and `mil bags info`: a table of bags, and the content of one file."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import h5py
from jaxtyping import Shaped
from numpy import ndarray
from rich.console import Console
from rich.table import Table

from mil.config import tiling_name
from mil.errors import FormatError
from mil.interop.detect import bag_files, find_feature_files, tool_module
from mil.interop.external import ExternalFeatures
from mil.interop.untrusted import UNREADABLE
from mil.io.bags import BagHeader, read_bag, read_header
from mil.io.bags.join import SHOWN_CHARACTERS
from mil.io.bags.joined import JoinedPart, joined_parts
from mil.io.h5 import stored_format
from mil.io.vectors import FORMAT as VECTORS_FORMAT
from mil.io.vectors import VectorsHeader, read_vectors

COLUMNS = ("slide", "tiles", "dim", "encoder", "tiling", "state", "MB")
NUMERIC_COLUMNS = ("tiles", "dim", "MB")
# Wide enough that no name is cut: the lines may go through grep.
TABLE_WIDTH = 10_000
# Fields that any tool's file might have, and that the user can state if it has not.
EXPECTED_FIELDS = ("encoder", "tile_px", "side_level0_px")


def bag_table(folder: Path) -> str:
    """Table of a folder's bags, one a line; no features are read.

    Raises:
        FormatError: there are no bags.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in NUMERIC_COLUMNS else "left", no_wrap=True)
    files = bag_files(folder)
    for file in files:
        table.add_row(*_table_row(file))
    console = Console(width=TABLE_WIDTH, no_color=True)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    total_mb = sum(_size_mb(file) for file in files)
    return "\n".join([*lines, f"{len(files)} bags, {total_mb:.1f} MB"])


def _size_mb(file: Path) -> float:
    return file.stat().st_size / 1e6


def _table_row(file: Path) -> tuple[str, ...]:
    size = f"{_size_mb(file):.1f}"
    try:
        header = read_header(file)
        tiles, dim = _features_shape(file)
    except FormatError as error:
        # One bad file must not hide the others.
        reason = str(error).removeprefix(f"{file}: ")
        return file.stem, "", "", "", "", f"unusable: {reason}", size
    cells = header.slide, tiles, dim, header.encoder, header.tiling, header.state, size
    return tuple(_one_line(cell) for cell in cells)


def _features_shape(file: Path) -> tuple[int, int]:
    try:
        with h5py.File(file, "r", locking=False) as opened:
            tiles, dim = opened["features"].shape
            return tiles, dim
    # A group has no shape.
    except (*UNREADABLE, AttributeError) as error:
        raise FormatError(f"{file}: has no table of features ({error})") from None


def bag_info(path: Path) -> list[str]:
    """Lines about one file, a bag, vectors or another tool's: what it states and lacks.

    Raises:
        FormatError: the file cannot be read, or holds several slides.
    """
    if stored_format(path) == VECTORS_FORMAT:
        return list(_vectors_lines(path))
    detected = find_feature_files(path)
    # The path itself was unusable: say why.
    if not detected.files:
        raise detected.faults[0]
    if len(detected.files) > 1:
        raise FormatError(
            f"{path}: holds {len(detected.files)} slides; `mil bags verify` looks at all of them"
        )
    file = detected.files[0]
    if file.tool == "mil":
        return list(_bag_lines(path))
    return list(_external_lines(tool_module(file.tool).read(file), file.tool))


def _bag_lines(path: Path) -> Iterator[str]:
    bag = read_bag(path)
    yield f"{path}: a bag, {_size_mb(path):.1f} MB"
    tiles, dim = bag.features.shape
    yield _line("features", f"{tiles} tiles of {dim} numbers in {bag.features.dtype}")
    yield _line("valid", f"{int(bag.valid.sum())} tiles")
    yield _line("coords", _range(bag.coords))
    # Only bags from STAMP have them, so they are not missed elsewhere.
    if bag.coords_um is not None:
        yield _line("coords_um", _range(bag.coords_um))
    parts = joined_parts(bag)
    # Not missed where stains were not normalised, as in nearly all bags; and of a joined bag
    # the lines of its parts say the settings in words.
    absent = [] if bag.stain_norm else ["stain_norm", "stain"]
    absent += ["encoder_settings"] if parts else []
    for header_field in fields(BagHeader):
        if header_field.name not in absent:
            yield _line(header_field.name, getattr(bag, header_field.name))
    yield _line("tiling", tiling_name(bag.tile_px, bag.target_mpp))
    for number, part in enumerate(parts, 1):
        yield _line(f"part {number}", _one_line(_part_text(part)))


def _part_text(part: JoinedPart) -> str:
    """What a joined bag states of one of its parts: encoder, tiles, and tiles without it."""
    tiles = f"{part.tile_px or 'unknown'} px at {part.target_mpp or 'unknown'} µm/px"
    weights = part.weights_sha256[:SHOWN_CHARACTERS] or "not known"
    numbers = "?" if part.dim is None else part.dim
    text = f"{numbers} numbers of {part.encoder}, tiles of {tiles}, weights {weights}"
    if not part.without:
        return text
    return f"{text}; {part.without} tiles lie in none of these and have zeros"


def _vectors_lines(path: Path) -> Iterator[str]:
    vectors = read_vectors(path)
    header = vectors.header
    yield f"{path}: one vector a slide, no bag of tiles, {_size_mb(path):.1f} MB"
    rows, dim = vectors.vectors.shape
    by_head = f", one by each of {rows} heads" if rows > 1 else ""
    yield _line("vectors", f"{rows} of {dim} numbers in {vectors.vectors.dtype}{by_head}")
    for header_field in fields(VectorsHeader):
        if header_field.name != "heads":
            yield _line(header_field.name, getattr(header, header_field.name))
    for head in header.heads:
        yield _line("head", f"{head.recipe}, seed {head.seed}, fold {head.fold}, {head.sha256}")


def _external_lines(external: ExternalFeatures, tool: str) -> Iterator[str]:
    yield f"features by {tool}, not a bag; `mil bags import` makes one"
    tiles, dim = external.features.shape
    yield _line("features", f"{tiles} tiles of {dim} numbers in {external.features.dtype}")
    yield _line("coords", _range(external.coords))
    yield _line("coords_um", _range(external.coords_um))
    yield _line("side_um", external.side_um)
    # The fields that an import would take from the file.
    header = external.stated.filled_from(external.fallback).known()
    for name in dict.fromkeys([*EXPECTED_FIELDS, *header]):
        yield _line(name, header.get(name))
    yield _line("label", external.label)
    yield _line("mil_header", None if external.embedded is None else "written by mil")


def _line(name: str, value: object) -> str:
    return f"  {name:<22} {'not known' if value in (None, '') else _one_line(value)}"


def _one_line(value: object) -> str:
    """A value of a stranger's file, which may hold line breaks."""
    return " ".join(str(value).split())


def _range(coords: Shaped[ndarray, "tiles 2"] | None) -> str | None:
    """Smallest and largest coordinates; None if there are no coordinates."""
    if coords is None:
        return None
    if not len(coords):
        return "none"
    left, top = coords.min(axis=0)
    right, bottom = coords.max(axis=0)
    return f"x {left:g} to {right:g}, y {top:g} to {bottom:g}"
