"""The named state every slide ends in, gathered: N in, N out, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.io.bags import read_header
from mil.io.tiles import read_tiles

ADVICE = {
    "no_tissue": "look at its picture in tile/*/grid; lower tile.min_tissue, or outline the tissue yourself",
    "no_mpp": "give its pixel size in the csv's column `mpp` (micrometres per pixel at level 0), or leave it out",
    "unreadable": "copy it again from its source, or convert it; then check its checksum",
    "corrupt_regions": "copy it again from its source, or raise features.max_corrupt",
    "not reached": "run again; the run stopped before this slide",
}


@dataclass(frozen=True)
class SlideState:
    """A slide, its named state, and why."""

    slide: str
    state: str
    reason: str = ""


def gather(slides: Sequence[str], tiles_dirs: Sequence[Path], bags_dirs: Sequence[Path]) -> list[SlideState]:
    """State of each slide: from its bag if that exists, else from its tiles file unless `ok`, else `not reached`.

    Args:
        slides: ids.
        tiles_dirs: a folder of tiles files for each encoder.
        bags_dirs: a folder of bags for each encoder, in the same order. A slide is `ok` if it is so for all of them.
    """
    states = []
    for slide in slides:
        found = [_state(slide, *dirs) for dirs in zip(tiles_dirs, bags_dirs, strict=True)]
        states.append(next((state for state in found if state.state != "ok"), found[0]))
    return states


def _state(slide: str, tiles_dir: Path, bags_dir: Path) -> SlideState:
    if (bags_dir / f"{slide}.h5").exists():
        header = read_header(bags_dir / f"{slide}.h5")
        return SlideState(slide, header.state, header.reason)
    if (tiles_dir / f"{slide}.h5").exists():
        geometry = read_tiles(tiles_dir / f"{slide}.h5").geometry
        if geometry.state != "ok":
            return SlideState(slide, geometry.state, geometry.reason)
    return SlideState(slide, "not reached")


def summary(states: Sequence[SlideState]) -> str:
    """`N in, N out`, and a line for each slide that did not come out."""
    lost = [state for state in states if state.state != "ok"]
    counts = Counter(state.state for state in lost)
    why = "".join(f", {count} {name}" for name, count in sorted(counts.items()))
    lines = [f"{len(states)} in, {len(states) - len(lost)} out{why}"]
    for state in lost:
        reason = f": {state.reason}" if state.reason else ""
        lines.append(f"  {state.slide}  {state.state}{reason}; {ADVICE[state.state]}")
    return "\n".join(lines)
