"""What the findings sum to: slides, tiles, weights, disk, time, and whether a run may start."""

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mil.doctor.diagnosis import Diagnosis
from mil.doctor.findings import ABSENT, EncoderFinding, SlideEncoderFinding
from mil.doctor.text import bytes_label, count_of_each, duration_label, printable, tiling_label


def totals(diagnosis: Diagnosis) -> Iterable[RenderableType]:
    """Rows on slides, tiles, weights, disk and time, then the verdict."""
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    any_present = any(slide.state not in ABSENT for slide in diagnosis.slides)
    rows = list(_counts(diagnosis, any_present))
    if any_present:
        rows.extend(_disk_and_time(diagnosis))
    for name, text in rows:
        grid.add_row(name, printable(text))
    yield ""
    yield grid
    yield ""
    faults = diagnosis.faults
    if faults:
        yield printable(f"Not ready: {'; '.join(faults)}.", "bold red")
    else:
        yield Text("Ready.", "bold green")


def _counts(diagnosis: Diagnosis, any_present: bool) -> Iterable[tuple[str, str]]:
    lost = count_of_each(slide.state for slide in diagnosis.lost)
    num_ok = len(diagnosis.slides) - len(diagnosis.lost)
    yield "slides", f"{num_ok} of {len(diagnosis.slides)} ok{f', {lost}' if lost else ''}"
    if any_present:
        at_most = "" if diagnosis.tissue else "at most "
        counts = [
            f"{at_most}{count} of {tiling_label(tiling)}"
            for tiling, count in diagnosis.tiles.items()
        ]
        yield "tiles", ", ".join(counts)
        formats = count_of_each(slide.format for slide in diagnosis.slides if slide.levels)
        yield "formats", formats or "none"
        sources = count_of_each(f"by {slide.mpp_source}" for slide in diagnosis.slides if slide.mpp)
        yield "µm/px", sources or "none"
    yield from _regions(diagnosis)
    yield from _encoders(diagnosis)


def _encoders(diagnosis: Diagnosis) -> Iterable[tuple[str, str]]:
    """Rows on the weights of encoders, and on those that are joined."""
    lines = [_weights(encoder.encoder, encoder) for encoder in diagnosis.encoders]
    lines += [_weights(encoder.slide_encoder, encoder) for encoder in diagnosis.slide_encoders]
    # Of joined encoders one may be there at several tilings.
    for line in dict.fromkeys(lines):
        yield "weights", line
    for joined in diagnosis.joined:
        yield "joined", f"{joined.encoder}: features of {joined.dim} numbers, side by side"


def _weights(name: str, finding: EncoderFinding | SlideEncoderFinding) -> str:
    return f"{name}: {finding.weights}, {finding.detail}; licence: {finding.licence}"


def _regions(diagnosis: Diagnosis) -> Iterable[tuple[str, str]]:
    """Rows on annotations and masks: how many, their classes, and those that count."""
    for kind in ("annotation", "tissue", "region"):
        files = [file for slide in diagnosis.slides for file in slide.regions if file.kind == kind]
        if not files:
            continue
        area = sum(file.area_mm2 or 0.0 for file in files)
        text = f"{len(files)} of {len(diagnosis.slides)} slides, {area:.3g} mm²"
        classes = count_of_each(name for file in files for name in file.classes)
        counted = ", ".join(dict.fromkeys(name for file in files for name in file.counted))
        if classes:
            text += f"; files by class: {classes}"
        if kind == "annotation":
            text += f"; positive region: {counted or 'none'}"
        yield f"{kind}s" if kind == "annotation" else f"{kind} masks", text


def _disk_and_time(diagnosis: Diagnosis) -> Iterable[tuple[str, str]]:
    bags = [_bags(encoder, several=bool(diagnosis.joined)) for encoder in diagnosis.encoders]
    bags += [
        f"{bytes_label(joined.bags_bytes)} for {joined.encoder}" for joined in diagnosis.joined
    ]
    free = f"{bytes_label(diagnosis.free_bytes)} free at {diagnosis.results_dir}"
    yield "disk", f"{', '.join(bags)}; {free}"
    if diagnosis.seconds_to_read is None:
        yield "reading", "time unknown: there are no tiles to measure with"
        return
    measured = ", ".join(
        f"{rate.num_tiles} of {rate.slide} at {rate.tiles_per_s:.0f}/s" for rate in diagnosis.rates
    )
    time = duration_label(diagnosis.seconds_to_read)
    yield (
        "reading",
        f"about {time} on one core, without the encoder; estimated from tiles read just now: "
        f"{measured}",
    )


def _bags(encoder: EncoderFinding, *, several: bool) -> str:
    """Size of an encoder's bags; with their tiling where an encoder may have several."""
    at = f" at {encoder.tiling}" if several else ""
    text = f"{bytes_label(encoder.bags_bytes)} of bags for {encoder.encoder}{at}"
    if not encoder.largest_bag_slide:
        return text
    largest = bytes_label(encoder.largest_bag_bytes)
    return f"{text} (the largest {largest}, of {encoder.largest_bag_slide})"
