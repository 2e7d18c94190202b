"""The named state that every slide ends in, gathered: N in, N out, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.errors import ConfigError, some
from mil.io.bags import BagTally, read_header, read_tally
from mil.io.bags.advice import remedy
from mil.io.bags.checks import check_slide
from mil.io.probe import probe
from mil.io.tiles import read_tiles


@dataclass(frozen=True)
class SlideState:
    """A slide, its named state, and the reason."""

    slide: str
    state: str
    reason: str = ""
    # Whether it is that of a precomputed bag, whose slide is not tiled here.
    precomputed: bool = field(default=False, compare=False)
    # Header of its bag and number of its tiles, where they were asked for.
    tally: BagTally | None = field(default=None, compare=False, repr=False)

    @property
    def advice(self) -> str:
        """Remedy; empty for `ok`."""
        if self.state == "ok":
            return ""
        return remedy(self.state, self.reason, precomputed=self.precomputed)


def gather(
    slides: Sequence[str], tiles_dirs: Sequence[Path], bags_dirs: Sequence[Path]
) -> list[SlideState]:
    """State of each slide.

    It comes from the slide's bag if that exists, else from its tiles file unless `ok`,
    else it is `not reached`.

    Args:
        slides: ids of the slides.
        tiles_dirs: a folder of tiles files for each encoder; empty for precomputed
            bags, where a slide without a bag is `no_bag`.
        bags_dirs: a folder of bags for each encoder, in the same order. A slide is `ok`
            if it is so for all of them.

    Raises:
        ConfigError: `tiles_dirs` and `bags_dirs` differ in length.
        FormatError: a file is damaged, or a bag is of another slide than its name.
    """
    return overall(gather_by_encoder(slides, tiles_dirs, bags_dirs))


def overall(by_encoder: Sequence[Sequence[SlideState]]) -> list[SlideState]:
    """State of each slide over all encoders: the first that is not `ok`, else `ok`.

    Args:
        by_encoder: States of the slides by each encoder.
    """
    states = []
    for of_slide in zip(*by_encoder, strict=True):
        # The first encoder that failed speaks for the slide.
        not_ok = (state for state in of_slide if state.state != "ok")
        states.append(next(not_ok, of_slide[0]))
    return states


def gather_by_encoder(
    slides: Sequence[str],
    tiles_dirs: Sequence[Path],
    bags_dirs: Sequence[Path],
    *,
    tally: bool = False,
) -> list[list[SlideState]]:
    """States of the slides by each encoder; arguments and errors as in `gather`.

    Args:
        slides: ids of the slides.
        tiles_dirs: a folder of tiles files for each encoder, or none.
        bags_dirs: a folder of bags for each encoder.
        tally: whether to count the tiles of each bag.
    """
    if tiles_dirs and len(tiles_dirs) != len(bags_dirs):
        raise ConfigError(
            f"{len(tiles_dirs)} folders of tiles, but {len(bags_dirs)} of bags; give one for "
            "each encoder, or none of tiles for precomputed bags"
        )
    tiles_or_none: Sequence[Path | None] = tiles_dirs or [None] * len(bags_dirs)
    folders = list(zip(tiles_or_none, bags_dirs, strict=True))
    probe([pair[1] / f"{slide}.h5" for slide in slides for pair in folders])
    return [[_state(slide, *pair, tally=tally) for slide in slides] for pair in folders]


def _state(slide: str, tiles_dir: Path | None, bags_dir: Path, *, tally: bool) -> SlideState:
    bag = bags_dir / f"{slide}.h5"
    if bag.exists():
        counted = read_tally(bag) if tally else None
        header = counted.header if counted else read_header(bag)
        check_slide(header, bag)
        return SlideState(slide, header.state, header.reason, tiles_dir is None, counted)
    if tiles_dir is None:
        return SlideState(slide, "no_bag", f"there is no {bag}")
    tiles = tiles_dir / f"{slide}.h5"
    if tiles.exists():
        geometry = read_tiles(tiles).geometry
        # Tiles that are ok wait for their features.
        if geometry.state != "ok":
            return SlideState(slide, geometry.state, geometry.reason)
    return SlideState(slide, "not reached")


def summary(states: Sequence[SlideState], most: int | None = None) -> str:
    """`N in, N out`, and what became of the slides that did not come out, with advice.

    Slides of the same state and reason share a line.

    Args:
        states: States of all slides.
        most: Number of lines about slides; the others are counted. None: all lines.
    """
    lost = [state for state in states if state.state != "ok"]
    counts = Counter(state.state for state in lost)
    by_state = "".join(f", {count} {name}" for name, count in sorted(counts.items()))
    lines = [f"{len(states)} in, {len(states) - len(lost)} out{by_state}"]
    alike: dict[tuple[str, str, str], list[str]] = {}
    for state in lost:
        alike.setdefault((state.state, state.reason, state.advice), []).append(state.slide)
    listed = list(alike.items())[:most]
    for (name, reason, advice), slides in listed:
        because = f": {reason}" if reason else ""
        lines.append(f"  {some(slides)}  {name}{because}; {advice}")
    others = len(lost) - sum(len(slides) for _, slides in listed)
    if others:
        lines.append(f"  {others} more slides; `mil summary` without --most lists them")
    return "\n".join(lines)
