"""The diagnosis as text: table of slides, a line for each problem, totals, verdict."""

from collections import Counter
from collections.abc import Iterable, Sequence
from io import StringIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mil.doctor.findings import ABSENT, Diagnosis, EncoderFinding, SlideFinding

# Columns of a terminal from which on sizes in millimetres, sources and decoders are
# shown.
WIDE = 110
# And from which on sizes in pixels are, too.
WIDEST = 140
# More slides than this that are missing, or share a reason or a warning, are named in one
# paragraph instead of a line each.
MANY = 10
# Width of a file or a pipe, in which no line is broken.
UNBOUND = 100_000


def show(diagnosis: Diagnosis, width: int | None, *, colour: bool = False) -> str:
    """Text of a diagnosis, with a line break at its end.

    Args:
        diagnosis: Findings to show.
        width: Width of the terminal, columns; None: a file or a pipe, where each problem
            is one line however long.
        colour: Whether to use the terminal's colours.
    """
    out = StringIO()
    console = Console(
        file=out,
        width=width or UNBOUND,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
    )
    for part in (*_slides(diagnosis, width), *_problems(diagnosis, width), *_totals(diagnosis)):
        console.print(part)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def clean(text: str) -> str:
    """Text from an untrusted file, safe to print.

    Control and formatting characters could steer a terminal or hide text; each is replaced.
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _text(text: str, style: str = "") -> Text:
    # A Text, not a string, in which rich would take [red] of a file's text for markup.
    return Text(clean(text), style)


def _slides(diagnosis: Diagnosis, width: int | None) -> Iterable[RenderableType]:
    present = [slide for slide in diagnosis.slides if slide.state not in ABSENT]
    yield _text(
        f"mil doctor: {diagnosis.dataset}, {len(diagnosis.slides)} slides in "
        f"{diagnosis.slides_dir}",
        "bold",
    )
    if not present:
        return
    columns = _columns(diagnosis, width or UNBOUND)
    gap = 2 if (width or UNBOUND) >= WIDE else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for name in columns:
        numeric = name in ("µm/px", "mm²") or name.endswith(("tiles", "mpp"))
        folds = name in ("slide", "levels")
        table.add_column(
            name, overflow="fold", no_wrap=not folds, justify="right" if numeric else "left"
        )
    for slide in present:
        cells = _cells(slide, diagnosis)
        table.add_row(*(_cell(cells[name], slide) for name in columns))
    yield ""
    yield table
    if width is not None and width < WIDE:
        yield Text(
            f"(sizes and sources are shown from {WIDE} columns on, and always in a pipe)", "dim"
        )


def _columns(diagnosis: Diagnosis, width: int) -> list[str]:
    wide = width >= WIDE
    widest = width >= WIDEST
    return [
        "slide",
        "state",
        "format",
        *(["decoder"] if wide else []),
        *(["px"] if widest else []),
        *(["mm"] if wide else []),
        "levels",
        "µm/px",
        *(["by"] if wide else []),
        "mm²",
        *_tiles_columns(diagnosis),
    ]


def _tiles_columns(diagnosis: Diagnosis) -> list[str]:
    return (
        ["tiles"] if len(diagnosis.tiles) == 1 else [_spaced(tiling) for tiling in diagnosis.tiles]
    )


def _cell(text: str, slide: SlideFinding) -> Text:
    styles = {"ok": "green", "ok !": "yellow"}
    return _text(text, styles.get(text, "red" if text == slide.state else ""))


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
        "mm": " x ".join(map(_mm, slide.size_mm)) if slide.size_mm else "",
        "levels": " ".join(f"{level.downsample:.3g}" for level in slide.levels),
        "µm/px": f"{slide.mpp:.4g}" if slide.mpp else "",
        "by": slide.mpp_source,
        "mm²": "" if first is None or first.tissue_mm2 is None else f"{first.tissue_mm2:.2f}",
        **dict(zip(_tiles_columns(diagnosis), tile_counts, strict=True)),
    }


def _problems(diagnosis: Diagnosis, width: int | None) -> Iterable[RenderableType]:
    """A heading for each state and remedy, a line for each slide; then warnings."""
    # Slides of one state may need different remedies.
    by_remedy: dict[tuple[str, str], list[SlideFinding]] = {}
    for slide in diagnosis.lost:
        by_remedy.setdefault((slide.state, diagnosis.advice(slide)), []).append(slide)
    for (state, remedy), slides in by_remedy.items():
        yield ""
        if state == "missing" and diagnosis.how_to_get:
            remedy += f". {diagnosis.how_to_get}"
        heading = Text.assemble((f"{state} ({len(slides)})", "bold red"))
        yield heading + _text(f": {remedy}")
        if state in ABSENT and len(slides) > MANY:
            yield _indented(_text(", ".join(slide.slide for slide in slides)))
        else:
            yield from _by_text([(slide.slide, slide.reason) for slide in slides], width)
    if diagnosis.table_notes:
        yield ""
        yield Text(f"slide table ({len(diagnosis.table_notes)})", "bold yellow")
        for note in diagnosis.table_notes:
            yield _indented(_text(note))
    warnings = [(slide.slide, text) for slide in diagnosis.slides for text in slide.warnings]
    if warnings:
        yield ""
        yield Text(f"warnings ({len(warnings)})", "bold yellow")
        yield from _by_text(warnings, width)


def _by_text(pairs: Sequence[tuple[str, str]], width: int | None) -> Iterable[RenderableType]:
    """A line for each slide; what is true of many is one paragraph with all their names."""
    slides: dict[str, list[str]] = {}
    for name, text in pairs:
        slides.setdefault(text, []).append(name)
    for text, names in slides.items():
        if len(names) > MANY:
            yield _indented(_text(f"{len(names)} slides: {text}"))
            yield _indented(_indented(_text(", ".join(names))))
    few = [(name, text) for name, text in pairs if len(slides[text]) <= MANY]
    if few:
        yield _lines(few, width)


def _spaced(tiling: str) -> str:
    return tiling.replace("_", " ")


def _mm(length: float) -> str:
    return f"{length:.1f}" if length >= 1 else f"{length:.1g}"


def _lines(pairs: Sequence[tuple[str, str]], width: int | None) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    # A long name may take two fifths of the line; the reason has the rest.
    widest_name = None if width is None else max(12, width * 2 // 5)
    grid.add_column(overflow="fold", max_width=widest_name)
    grid.add_column(overflow="fold")
    for name, text in pairs:
        grid.add_row(_text(name), _text(text))
    return _indented(grid)


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _totals(diagnosis: Diagnosis) -> Iterable[RenderableType]:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    any_present = any(slide.state not in ABSENT for slide in diagnosis.slides)
    rows = list(_counts(diagnosis, any_present))
    if any_present:
        rows.extend(_disk_and_time(diagnosis))
    for name, text in rows:
        grid.add_row(name, _text(text))
    yield ""
    yield grid
    yield ""
    faults = diagnosis.faults
    if faults:
        yield _text(f"Not ready: {'; '.join(faults)}.", "bold red")
    else:
        yield Text("Ready.", "bold green")


def _counts(diagnosis: Diagnosis, any_present: bool) -> Iterable[tuple[str, str]]:
    lost = _counted(slide.state for slide in diagnosis.lost)
    num_ok = len(diagnosis.slides) - len(diagnosis.lost)
    yield "slides", f"{num_ok} of {len(diagnosis.slides)} ok{f', {lost}' if lost else ''}"
    if any_present:
        at_most = "" if diagnosis.tissue else "at most "
        counts = [
            f"{at_most}{count} of {_spaced(tiling)}" for tiling, count in diagnosis.tiles.items()
        ]
        yield "tiles", ", ".join(counts)
        formats = _counted(slide.format for slide in diagnosis.slides if slide.levels)
        yield "formats", formats or "none"
        sources = _counted(f"by {slide.mpp_source}" for slide in diagnosis.slides if slide.mpp)
        yield "µm/px", sources or "none"
    yield from _regions(diagnosis)
    # Of joined encoders one may be there at several tilings.
    weights = [
        f"{encoder.encoder}: {encoder.weights}, {encoder.detail}; licence: {encoder.licence}"
        for encoder in diagnosis.encoders
    ]
    weights += [
        f"{encoder.slide_encoder}: {encoder.weights}, {encoder.detail}; licence: {encoder.licence}"
        for encoder in diagnosis.slide_encoders
    ]
    for line in dict.fromkeys(weights):
        yield "weights", line
    for joined in diagnosis.joined:
        parts = f"features of {joined.dim} numbers, side by side"
        yield "joined", f"{joined.encoder}: {parts}"


def _regions(diagnosis: Diagnosis) -> Iterable[tuple[str, str]]:
    """Rows on annotations and masks: how many, their classes, and those that count."""
    for kind in ("annotation", "tissue", "region"):
        files = [file for slide in diagnosis.slides for file in slide.regions if file.kind == kind]
        if not files:
            continue
        area = sum(file.area_mm2 or 0.0 for file in files)
        text = f"{len(files)} of {len(diagnosis.slides)} slides, {area:.3g} mm²"
        classes = _counted(name for file in files for name in file.classes)
        counted = ", ".join(dict.fromkeys(name for file in files for name in file.counted))
        if classes:
            text += f"; files by class: {classes}"
        if kind == "annotation":
            text += f"; positive region: {counted or 'none'}"
        yield f"{kind}s" if kind == "annotation" else f"{kind} masks", text


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def _disk_and_time(diagnosis: Diagnosis) -> Iterable[tuple[str, str]]:
    bags = [_bags(encoder, several=bool(diagnosis.joined)) for encoder in diagnosis.encoders]
    bags += [f"{_bytes(joined.bags_bytes)} for {joined.encoder}" for joined in diagnosis.joined]
    yield (
        "disk",
        f"{', '.join(bags)}; {_bytes(diagnosis.free_bytes)} free at {diagnosis.results_dir}",
    )
    if diagnosis.seconds_to_read is None:
        yield "reading", "time unknown: there are no tiles to measure with"
        return
    measured = ", ".join(
        f"{rate.num_tiles} of {rate.slide} at {rate.tiles_per_s:.0f}/s" for rate in diagnosis.rates
    )
    time = _duration(diagnosis.seconds_to_read)
    yield (
        "reading",
        f"about {time} on one core, without the encoder; estimated from tiles read just now: "
        f"{measured}",
    )


def _bags(encoder: EncoderFinding, *, several: bool) -> str:
    """Size of an encoder's bags; with their tiling where an encoder may have several."""
    at = f" at {encoder.tiling}" if several else ""
    text = f"{_bytes(encoder.bags_bytes)} of bags for {encoder.encoder}{at}"
    largest = f" (the largest {_bytes(encoder.largest_bag_bytes)}, of {encoder.largest_bag_slide})"
    return text + (largest if encoder.largest_bag_slide else "")


def _bytes(count: int | float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
