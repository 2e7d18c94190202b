"""Table of the slides, with as many columns as the terminal has room for."""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mil.doctor.diagnosis import Diagnosis
from mil.doctor.findings import ABSENT, SlideFinding
from mil.doctor.text import UNBOUND, mm_label, printable, tiling_label

# Columns of a terminal from which on sizes in millimetres, sources and decoders are
# shown.
WIDE = 110
# And from which on sizes in pixels are, too.
WIDEST = 140
# Columns of the table before those of tiles, and widths that some of them need.
COLUMNS = ("slide", "state", "format", "decoder", "px", "mm", "levels", "µm/px", "by", "mm²")
SMALLEST_WIDTH = {"decoder": WIDE, "px": WIDEST, "mm": WIDE, "by": WIDE}


def slide_table(diagnosis: Diagnosis, width: int | None) -> Iterable[RenderableType]:
    """Heading, and a row for each slide whose file exists.

    Args:
        diagnosis: Findings to show.
        width: Width of the terminal, columns; None: a file or a pipe.
    """
    present = [slide for slide in diagnosis.slides if slide.state not in ABSENT]
    yield printable(
        f"mil doctor: {diagnosis.dataset}, {len(diagnosis.slides)} slides in "
        f"{diagnosis.slides_dir}",
        "bold",
    )
    if not present:
        return
    yield ""
    yield _table(present, diagnosis, width or UNBOUND)
    if width is not None and width < WIDE:
        yield Text(
            f"(sizes and sources are shown from {WIDE} columns on, and always in a pipe)", "dim"
        )


def _table(slides: Sequence[SlideFinding], diagnosis: Diagnosis, width: int) -> Table:
    gap = 2 if width >= WIDE else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    columns = _columns(diagnosis, width)
    for name in columns:
        numeric = name in ("µm/px", "mm²") or name.endswith(("tiles", "mpp"))
        folds = name in ("slide", "levels")
        table.add_column(
            name, overflow="fold", no_wrap=not folds, justify="right" if numeric else "left"
        )
    for slide in slides:
        cells = _cells(slide, diagnosis)
        table.add_row(*(_styled(cells[name], slide) for name in columns))
    return table


def _columns(diagnosis: Diagnosis, width: int) -> list[str]:
    names = [*COLUMNS, *_tiles_columns(diagnosis)]
    return [name for name in names if width >= SMALLEST_WIDTH.get(name, 0)]


def _tiles_columns(diagnosis: Diagnosis) -> list[str]:
    if len(diagnosis.tiles) == 1:
        return ["tiles"]
    return [tiling_label(tiling) for tiling in diagnosis.tiles]


def _cells(slide: SlideFinding, diagnosis: Diagnosis) -> dict[str, str]:
    tilings = [slide.tilings.get(name) for name in diagnosis.tiles]
    first = tilings[0]
    # Without tissue detection the whole grid is counted: an upper bound.
    at_most = "" if diagnosis.tissue else "≤ "
    tile_counts = [
        f"{at_most}{tiling.num_tiles}" if tiling and tiling.num_tiles else "" for tiling in tilings
    ]
    return {
        "slide": slide.slide,
        "state": "ok !" if slide.state == "ok" and slide.warnings else slide.state,
        "format": slide.vendor,
        "decoder": slide.decoder,
        "px": f"{slide.size_px[0]} x {slide.size_px[1]}" if slide.size_px else "",
        "mm": " x ".join(map(mm_label, slide.size_mm)) if slide.size_mm else "",
        "levels": " ".join(f"{level.downsample:.3g}" for level in slide.levels),
        "µm/px": f"{slide.mpp:.4g}" if slide.mpp else "",
        "by": slide.mpp_source,
        "mm²": "" if first is None or first.tissue_mm2 is None else f"{first.tissue_mm2:.2f}",
        **dict(zip(_tiles_columns(diagnosis), tile_counts, strict=True)),
    }


def _styled(text: str, slide: SlideFinding) -> Text:
    styles = {"ok": "green", "ok !": "yellow"}
    return printable(text, styles.get(text, "red" if text == slide.state else ""))
