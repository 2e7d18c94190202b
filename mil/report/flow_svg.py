"""The flow diagram, drawn as SVG: boxes from the slide table down to the splits."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from mil.report.flow import Flow, count

# Lengths are pixels of the diagram, which is scaled to the page.
WIDTH = 900
LINE = 19
PADDING = 12
GAP = 34
BOX = 250  # width of a box
SIDE = 330  # width of the box of exclusions
LONGEST = 44  # characters of a line


class Box(NamedTuple):
    """A box: its top left corner, its width, and lines, of which the first is a heading."""

    x: float
    y: float
    width: float
    lines: Sequence[str]
    colour: str = "#1f5fa8"

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 2 * PADDING

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def flow_svg(flow: Flow) -> str:
    """Diagram of a flow, as an inline SVG; all text is escaped."""
    lost = _exclusions(flow)
    left = (WIDTH - SIDE - GAP - BOX) / 2 if lost else (WIDTH - BOX) / 2
    table = Box(left, 4, BOX, ["slide table", *flow.table.lines])
    side = Box(left + BOX + GAP, table.bottom + 8, SIDE, lost, "#a35200") if lost else None
    below = table.bottom + GAP if side is None else max(table.bottom + GAP, side.bottom + 10)
    usable = Box(left, below, BOX, ["slides with features", *flow.usable.lines])
    drawn = [_box(table), _box(usable), _arrow(table.middle, table.bottom, usable.y)]
    if side is not None:
        middle = side.y + side.height / 2
        drawn += [_box(side), _side_arrow(table.middle, side.x, middle)]
    bottom = usable.bottom
    splits = [[split.title, *split.lines] for split in flow.splits]
    if flow.unassigned:
        splits.append(["in no split", count(flow.unassigned, "slide")])
    if splits:
        boxes = _row(splits, usable.bottom + 2 * GAP)
        drawn += [_box(box) for box in boxes]
        drawn.append(_fork(usable, boxes))
        bottom = max(box.bottom for box in boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 6:g}" '
        f'class="flow" role="img" aria-label="{escape(_description(flow))}">{"".join(drawn)}</svg>'
    )


def _exclusions(flow: Flow) -> list[str]:
    lines = flow.exclusions
    if flow.unreadable_tiles:
        lines.append(f"{count(flow.unreadable_tiles, 'tile')} of other slides: unreadable")
    return ["not used", *lines] if lines else []


def _row(columns: Sequence[Sequence[str]], y: float) -> list[Box]:
    """Boxes side by side over the whole width."""
    width = min(BOX, (WIDTH - GAP * (len(columns) - 1) / 2 - 8) / len(columns))
    gap = GAP / 2
    total = len(columns) * width + (len(columns) - 1) * gap
    left = (WIDTH - total) / 2
    return [
        Box(left + number * (width + gap), y, width, lines, "#2c6e49")
        for number, lines in enumerate(columns)
    ]


def _box(box: Box) -> str:
    rows = [
        f'<text x="{box.x + PADDING:g}" y="{box.y + PADDING + LINE * (number + 0.75):g}"'
        f"{_weight(number, box.colour)}>{escape(_short(line))}</text>"
        for number, line in enumerate(box.lines)
    ]
    return (
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="5" '
        f'fill="#fff" stroke="{box.colour}" stroke-width="1.5"/>{"".join(rows)}'
    )


def _weight(number: int, colour: str) -> str:
    return f' font-weight="600" fill="{colour}"' if number == 0 else ""


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _line(points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="#5b6470" stroke-width="1.3"/>'


def _head(x: float, y: float, dx: float, dy: float) -> str:
    """Head of an arrow that ends at (x, y) in the direction (dx, dy)."""
    corners = [(x, y), (x - 8 * dx - 4 * dy, y - 8 * dy - 4 * dx)]
    corners.append((x - 8 * dx + 4 * dy, y - 8 * dy + 4 * dx))
    points = " ".join(f"{a:g},{b:g}" for a, b in corners)
    return f'<polygon points="{points}" fill="#5b6470"/>'


def _arrow(x: float, top: float, bottom: float) -> str:
    return _line([(x, top), (x, bottom)]) + _head(x, bottom, 0, 1)


def _side_arrow(x: float, right: float, y: float) -> str:
    return _line([(x, y), (right, y)]) + _head(right, y, 1, 0)


def _fork(box: Box, below: Sequence[Box]) -> str:
    """Arrows from a box to those below it."""
    turn = box.bottom + GAP
    parts = [_line([(box.middle, box.bottom), (box.middle, turn)])]
    for target in below:
        parts.append(_line([(box.middle, turn), (target.middle, turn)]))
        parts.append(_arrow(target.middle, turn, target.y))
    return "".join(parts)


def _description(flow: Flow) -> str:
    """The diagram in a sentence, for readers that do not see it."""
    splits = [f"{split.title}: {', '.join(split.lines)}" for split in flow.splits]
    parts = [
        f"Slide table: {', '.join(flow.table.lines)}",
        *_exclusions(flow),
        f"slides with features: {', '.join(flow.usable.lines)}",
        *splits,
    ]
    return "; ".join(parts)
