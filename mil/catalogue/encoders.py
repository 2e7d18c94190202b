"""`mil encoders …`: encoders of tiles and published slide encoders; no torch for lists."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mil.catalogue.listing import MIN_COLUMNS
from mil.config import by_alias, load_encoder, load_encoders, tiling_name, unknown_encoder
from mil.config.slide_encoders import (
    check_slide_encoder,
    load_slide_encoder,
    published_slide_encoders,
)
from mil.encoders.availability import weights_status
from mil.errors import ConfigError
from mil.slide_encoders.availability import slide_weights_status

ENCODER_COLUMNS = ("encoder", "dim", "tile, px", "µm/px", "licence", "gated", "weights")
SLIDE_ENCODER_COLUMNS = (
    "slide encoder",
    "dim",
    "stands on",
    "tile, µm",
    "licence",
    "gated",
    "weights",
)


def encoders_tables() -> str:
    """Table of the encoders of tiles, then table of the published slide encoders."""
    return f"{_text(_encoders())}\n\n{_text(_slide_encoders())}"


def _encoders() -> Table:
    table = _table(ENCODER_COLUMNS)
    for name, entry in load_encoders().items():
        # Only the disk: asking the hub for each encoder would take a minute.
        weights = weights_status(name, entry, ask_hub=False)
        table.add_row(
            name,
            str(entry.dim),
            str(entry.tile_px),
            f"{entry.mpp:g}",
            escape(entry.licence),
            "yes" if entry.gated else "",
            weights.status,
        )
    return table


def _slide_encoders() -> Table:
    table = _table(SLIDE_ENCODER_COLUMNS)
    for name in published_slide_encoders():
        entry = load_slide_encoder(name)
        weights = slide_weights_status(name, entry, ask_hub=False)
        table.add_row(
            name,
            str(entry.dim),
            entry.encoder,
            f"{entry.tile_um:g}",
            escape(entry.licence),
            "yes" if entry.gated else "",
            weights.status,
        )
    return table


def _table(columns: Sequence[str]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    return table


def _text(table: Table) -> str:
    terminal = Console()
    console = Console(width=max(terminal.width, MIN_COLUMNS), highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def encoder_lines(name: str) -> Iterator[str]:
    """Description of an encoder of tiles, or of a slide encoder.

    Args:
        name: Name of the encoder.

    Raises:
        ConfigError: There is none of that name.
    """
    values: dict[str, Any]
    if name in published_slide_encoders():
        slide_entry = load_slide_encoder(name)
        weights = slide_weights_status(name, slide_entry, ask_hub=False)
        values = {"slide encoder": name, **slide_entry.model_dump()}
        values["positions"] = "needed" if slide_entry.positions else "not used"
        cropped = slide_entry.cropped.items()
        values["cropped"] = ", ".join(f"{tile}: {seen}" for tile, seen in cropped)
    else:
        name = _name_of_tile_encoder(name)
        entry = load_encoder(name)
        weights = weights_status(name, entry, ask_hub=False)
        values = {"encoder": name, **entry.model_dump(exclude_none=True)}
        values["args"] = ", ".join(f"{option}={value}" for option, value in entry.args.items())
        values["scales"] = ", ".join(map(str, entry.scales))
        values["aliases"] = ", ".join(entry.aliases)
        tiling = tiling_name(entry.tile_px, entry.mpp)
        values["tiling"] = f"{tiling}, {entry.tile_px * entry.mpp:g} µm wide"
    values["gated"] = "yes" if values["gated"] else "no"
    values["on disk"] = f"{weights.status}: {weights.message}"
    width = max(map(len, values))
    yield from (f"{key:<{width}} {value}" for key, value in values.items() if value != "")


def fetch_functions(names: Sequence[str]) -> list[tuple[str, Callable[[], Path | None]]]:
    """Functions that download the weights of encoders, by name.

    Args:
        names: Names of encoders of tiles and of slide encoders.

    Raises:
        ConfigError: There is none of a name.
    """
    from mil.encoders.download import fetch
    from mil.slide_encoders.availability import fetch_slide_weights

    published = published_slide_encoders()
    functions: list[tuple[str, Callable[[], Path | None]]] = []
    for name in names:
        if name in published:
            functions.append((name, partial(fetch_slide_weights, name, load_slide_encoder(name))))
        else:
            name_here = _name_of_tile_encoder(name)
            functions.append((name_here, partial(fetch, name_here, load_encoder(name_here))))
    return functions


def _name_of_tile_encoder(name: str) -> str:
    """Name of the entry of an encoder of tiles; others are refused with what there is."""
    encoders = load_encoders()
    entry = by_alias(name, encoders)
    if entry is None:
        check_slide_encoder(name)
        published = ", ".join(published_slide_encoders())
        raise ConfigError(
            f"{unknown_encoder(name, encoders)}; published slide encoders are: {published}"
        )
    return entry
