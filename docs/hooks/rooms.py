"""Draw the rooms of the house: `python -m docs.hooks.rooms` writes docs/images/rooms.svg.

Floors are the layers of the import contract in pyproject.toml; boxes and arrows are read from
the imports of the code. An arrow that follows from others is left out: where `train` imports
`trained` and `trained` imports `io`, no arrow leads from `train` to `io`. Left out too are the
arrows to the foundation (settings, errors, numbers), which nearly every room uses.
"""

import ast
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs/images/rooms.svg"
WIDTH = 1240
BOX_HEIGHT = 44
BOX_GAP = 14
FLOOR_HEIGHT = 86
LEFT = 90  # for the names of the bands
RIGHT = 20
# Rooms that many others import are as wide as the house, so that arrows reach them straight.
WIDE_FLOORS = ("cli", "io", "statistics", "config", "errors")
FIRST_OF_FOUNDATION = "statistics"
# Bands of floors from the top, each with its first room, its name and its colours.
BANDS = (
    ("cli", "entry", "#ede7f6", "#5e35b1"),
    ("fetch", "verbs", "#e3f2fd", "#1565c0"),
    ("trained", "nouns", "#e8f5e9", "#2e7d32"),
    ("statistics", "base", "#eceff1", "#546e7a"),
)


class Room(NamedTuple):
    """A package of `mil`, or a module at its top level."""

    name: str
    files: int
    imports: frozenset[str]


class Box(NamedTuple):
    """Place of a room in the picture, top left."""

    x: float
    y: float
    width: float


def floors() -> list[list[str]]:
    """Rooms by floor, from the top, as the first import contract orders them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[name.strip().removeprefix("mil.") for name in layer.split("|")] for layer in layers]


def rooms() -> dict[str, Room]:
    """The rooms of the house by name, with the other rooms that each imports."""
    names = sorted(_names())
    return {name: _room(name, names) for name in names}


def _names() -> Iterator[str]:
    for path in (ROOT / "mil").iterdir():
        if path.suffix == ".py" and path.stem != "__init__":
            yield path.stem
        elif (path / "__init__.py").exists():
            yield path.name


def _room(name: str, names: list[str]) -> Room:
    folder = ROOT / "mil" / name
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    imported = {room for path in files for room in _imported(path)}
    return Room(name, len(files), frozenset(imported & set(names) - {name}))


def _imported(path: Path) -> Iterator[str]:
    """First part below `mil` of each imported module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "mil" and len(parts) > 1:
                yield parts[1]


def arrows(house: Mapping[str, Room]) -> list[tuple[str, str]]:
    """Imports between rooms, without those that follow from two or more others."""
    below = {name: _reachable(name, house) for name in house}
    return [
        (name, target)
        for name, room in sorted(house.items())
        for target in sorted(room.imports)
        if not any(target in below[other] for other in room.imports - {target})
    ]


def _reachable(name: str, house: Mapping[str, Room]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for target in house[waiting.pop()].imports - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def draw() -> str:
    """The picture as SVG."""
    house = rooms()
    order = floors()
    boxes = _place(order, house)
    height = len(order) * FLOOR_HEIGHT + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif">',
        "<title>Rooms of mil: entry and verbs above, nouns below; arrows are imports</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_bands(order, boxes, height),
    ]
    foundation = {name for name in boxes if boxes[name].y >= boxes[FIRST_OF_FOUNDATION].y}
    parts += [
        _arrow(boxes[name], boxes[target], name, target)
        for name, target in arrows(house)
        if target not in foundation
    ]
    parts += [_box(house[name], boxes[name], order) for name in sorted(boxes)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _place(order: list[list[str]], house: Mapping[str, Room]) -> dict[str, Box]:
    """A row of boxes for each floor."""
    boxes: dict[str, Box] = {}
    for number, floor in enumerate(order):
        present = [name for name in floor if name in house]
        y = 20 + number * FLOOR_HEIGHT
        if set(present) & set(WIDE_FLOORS):
            row = _wide(present)
        elif len(present) > 4:
            row = _packed(present)
        else:
            row = _spread(present, 0.05 if number % 2 else -0.05)
        boxes |= {name: Box(round(x, 1), y, round(width, 1)) for name, x, width in row}
    return boxes


def _natural_width(name: str) -> float:
    return max(58.0, 9.2 * len(name) + 18)


def _wide(names: list[str]) -> Iterator[tuple[str, float, float]]:
    width = (WIDTH - LEFT - RIGHT - BOX_GAP * (len(names) - 1)) / len(names)
    for number, name in enumerate(names):
        yield name, LEFT + number * (width + BOX_GAP), width


def _packed(names: list[str]) -> Iterator[tuple[str, float, float]]:
    free = WIDTH - LEFT - RIGHT - sum(map(_natural_width, names))
    x = float(LEFT)
    for name in names:
        yield name, x, _natural_width(name)
        x += _natural_width(name) + free / (len(names) - 1)


def _spread(names: list[str], shift: float) -> Iterator[tuple[str, float, float]]:
    """Rooms apart from each other, and not under those of the floor above."""
    for number, name in enumerate(names, start=1):
        middle = LEFT + (WIDTH - LEFT - RIGHT) * (number / (len(names) + 1) + shift)
        yield name, middle - _natural_width(name) / 2, _natural_width(name)


def _band_of(name: str, order: list[list[str]]) -> int:
    """Number of the band that a room's floor is in."""
    floor = next(number for number, names in enumerate(order) if name in names)
    starts = [
        next(number for number, names in enumerate(order) if first in names) for first, *_ in BANDS
    ]
    return max(number for number, start in enumerate(starts) if start <= floor)


def _bands(order: list[list[str]], boxes: Mapping[str, Box], height: float) -> Iterator[str]:
    tops = [boxes[first].y - 18 for first, *_ in BANDS] + [height - 4]
    for (_, title, light, dark), top, bottom in zip(BANDS, tops, tops[1:], strict=False):
        yield (
            f'<rect x="4" y="{top}" width="{WIDTH - 8}" height="{bottom - top - 6}" rx="10" '
            f'fill="{light}" opacity="0.55"/>'
            f'<text x="20" y="{top + 28}" font-size="17" font-weight="600" fill="{dark}">'
            f"{title}</text>"
        )


def _arrow(start: Box, end: Box, name: str, target: str) -> str:
    x1 = start.x + start.width / 2
    x2 = end.x + end.width / 2
    # An arrow from or to a wide room is straight, at the other room's place.
    if start.width > WIDTH / 4:
        x1 = x2
    elif end.width > WIDTH / 4:
        x2 = x1
    y1 = start.y + BOX_HEIGHT
    y2 = end.y
    middle = (y1 + y2) / 2
    return (
        f'<path d="M{x1:.1f} {y1:.1f} C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} '
        f'{x2:.1f} {y2:.1f}" fill="none" stroke="#607d8b" stroke-width="1.2" opacity="0.6">'
        f"<title>{name} imports {target}</title></path>"
        f'<circle cx="{x2:.1f}" cy="{y2:.1f}" r="2.6" fill="#607d8b"/>'
    )


def _box(room: Room, box: Box, order: list[list[str]]) -> str:
    *_, dark = BANDS[_band_of(room.name, order)]
    plural = "file" if room.files == 1 else "files"
    x = box.x + box.width / 2
    return (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{BOX_HEIGHT}" rx="7" '
        f'fill="#ffffff" stroke="{dark}" stroke-width="1.4"/>'
        f'<text x="{x:.1f}" y="{box.y + 20}" font-size="15" text-anchor="middle" fill="#1b1f24">'
        f"{escape(room.name)}</text>"
        f'<text x="{x:.1f}" y="{box.y + 36}" font-size="11" text-anchor="middle" fill="#5b6470">'
        f"{room.files} {plural}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
