"""Files of a slide's heatmap: the picture `SLIDE.png`, and others beside it."""

from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image

from mil.config import HeatmapConfig
from mil.errors import DatasetError
from mil.io.scores import MapKind

LAYER = ".geojson"
PACKED_LAYER = ".geojson.gz"
TABLE = ".csv"
RASTER = ".ome.tiff"
BRANCHES = ".branches.png"
# Pictures of the kinds of map other than attention.
PICTURES: dict[MapKind, str] = {
    "alone": ".alone.png",
    "effect": ".effect.png",
    "rollout": ".rollout.png",
}
ENDINGS = (LAYER, PACKED_LAYER, TABLE, RASTER, BRANCHES, *PICTURES.values())
# Kinds that get a picture where nothing else is asked for; rollout only of heads that have it.
DRAWN: tuple[MapKind, ...] = tuple(HeatmapConfig().kinds)
# PNGs beside `SLIDE.png`: the picture of a slide of such a name. The tile sheet is a JPEG.
OTHER_PICTURES = (BRANCHES, *PICTURES.values())
# Name under which `SLIDE.png` holds the endings of the files beside it.
BESIDE = "beside"


def beside(out: Path, ending: str) -> Path:
    """File beside a picture: `SLIDE.effect.png` of `SLIDE.png`."""
    return out.with_name(out.stem + ending)


def files_of(out: Path) -> tuple[Path, ...]:
    """Files that were written beside a picture, as it says itself; without it, the table."""
    try:
        with Image.open(out) as image:
            written = str(image.info.get(BESIDE, TABLE)).split()
    except (OSError, ValueError):
        written = [TABLE]
    return tuple(beside(out, ending) for ending in ENDINGS if ending in written)


def remove_others(out: Path, written: Collection[str]) -> None:
    """Remove files beside a picture that an earlier run wrote and this one does not.

    Args:
        out: The picture.
        written: Endings of the files that this run wrote.
    """
    for ending in ENDINGS:
        if ending not in written:
            beside(out, ending).unlink(missing_ok=True)


def check_names(slides: Iterable[str]) -> None:
    """Refuse two slides of which one would take the other's files.

    Raises:
        DatasetError: One slide is called like a picture of another.
    """
    names = set(slides)
    for name in sorted(names):
        for ending in OTHER_PICTURES:
            other = name + ending.removesuffix(".png")
            if other in names:
                raise DatasetError(
                    f"slides {name} and {other}: both would have the heatmap {other}.png; rename "
                    "one of them in the slide table"
                )
