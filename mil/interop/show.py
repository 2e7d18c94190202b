"""A table of bags, and all that one file says."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from mil.config import tiling_name
from mil.errors import FormatError
from mil.interop.detect import bag_files, find, tool_module
from mil.interop.external import Foreign
from mil.interop.untrusted import UNREADABLE
from mil.io.bags import BagHeader, read_bag, read_header


def listed(folder: Path) -> str:
    """A table of a folder's bags; no features are read."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("slide", "tiles", "dim", "encoder", "tiling", "state", "MB"):
        table.add_column(
            name, justify="right" if name in ("tiles", "dim", "MB") else "left", no_wrap=True
        )
    files = bag_files(folder)
    for file in files:
        table.add_row(*_row(file))
    console = Console(width=10_000, no_color=True)
    with console.capture() as captured:
        console.print(table)
    size = sum(file.stat().st_size for file in files)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([*lines, f"{len(files)} bags, {size / 1e6:.1f} MB"])


def _row(file: Path) -> tuple[str, ...]:
    size = f"{file.stat().st_size / 1e6:.1f}"
    try:
        header, (tiles, dim) = read_header(file), _shape(file)
    except FormatError as error:
        reason = str(error).removeprefix(f"{file}: ")
        return file.stem, "", "", "", "", f"unusable: {reason}", size
    return header.slide, str(tiles), str(dim), header.encoder, header.tiling, header.state, size


def _shape(file: Path) -> tuple[int, int]:
    try:
        with h5py.File(file, "r", locking=False) as opened:
            tiles, dim = opened["features"].shape
            return tiles, dim
    except UNREADABLE as error:
        raise FormatError(f"{file}: has no table of features ({error})") from None


def described(path: Path) -> list[str]:
    """All that one file says, and what it does not."""
    found = find(path)
    if not found.sources:
        raise found.faults[0]
    source = found.sources[0]
    if len(found.sources) > 1:
        raise FormatError(
            f"{path}: holds {len(found.sources)} slides; `mil bags verify` looks at all of them"
        )
    if source.tool != "mil":
        return [*_of_foreign(tool_module(source.tool).read(source), source.tool)]
    return [*_of_ours(path)]


def _of_ours(path: Path) -> Iterator[str]:
    bag = read_bag(path)
    yield f"{path}: a bag, {path.stat().st_size / 1e6:.1f} MB"
    tiles, dim = bag.features.shape
    yield _line("features", f"{tiles} tiles of {dim} numbers in {bag.features.dtype}")
    yield _line("valid", f"{int(bag.valid.sum())} tiles")
    yield _line("coords", None if bag.coords is None else _range(bag.coords))
    if bag.coords_um is not None:
        yield _line("coords_um", _range(bag.coords_um))
    for each in fields(BagHeader):
        yield _line(each.name, getattr(bag, each.name))
    yield _line("tiling", tiling_name(bag.tile_px, bag.target_mpp))


def _of_foreign(found: Foreign, tool: str) -> Iterator[str]:
    yield f"features by {tool}, not a bag; `mil bags import` makes one"
    tiles, dim = found.features.shape
    yield _line("features", f"{tiles} tiles of {dim} numbers in {found.features.dtype}")
    yield _line("coords", None if found.coords is None else _range(found.coords))
    yield _line("coords_um", None if found.coords_um is None else _range(found.coords_um))
    yield _line("side_um", found.side_um)
    for name, value in (found.implied | found.said).items():
        yield _line(name, value)
    yield _line("label", found.label)
    yield _line("mil_header", None if found.passport is None else "written by mil")


def _line(name: str, value: object) -> str:
    return f"  {name:<22} {'not known' if value in (None, '') else value}"


def _range(coords: np.ndarray) -> str:
    if not len(coords):
        return "none"
    (left, top), (right, bottom) = coords.min(axis=0), coords.max(axis=0)
    return f"x {left:g} to {right:g}, y {top:g} to {bottom:g}"
