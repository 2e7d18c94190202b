"""Where the files of a slide are: the slide itself, its annotation, what users drew on it, and what can be fetched."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from mil.config import DatasetConfig
from mil.errors import DatasetError
from mil.io.tables import Slide


def locate(slide: Slide, slides_dir: Path, dataset: DatasetConfig) -> Path:
    """Where a slide is or should be: its `path`, else the first pattern of the dataset that exists."""
    return _locate(slide.path, slide.slide, slides_dir, dataset.slide_paths)


def locate_annotation(slide: Slide, slides_dir: Path, dataset: DatasetConfig) -> Path | None:
    """Where a slide's annotation is; None when it has none."""
    if slide.annotation:
        return slides_dir / slide.annotation
    found = _locate("", slide.slide, slides_dir, dataset.annotation_paths or [""])
    return found if found.is_file() else None


def locate_masks(
    slides: Iterable[Slide], slides_dir: Path, dataset: DatasetConfig
) -> dict[str, dict[str, Path]]:
    """What users drew for `tile`: by slide, the files of `tissue` and `region` that it has.

    Raises:
        DatasetError: the table names a mask that is not there, of a slide that is.
    """
    # A folder is listed once: asking for every pattern of every slide takes minutes on
    # a network's disk.
    listing = cache(lambda folder: set(folder.iterdir()) if folder.is_dir() else set())
    found: dict[str, dict[str, Path]] = {}
    for slide in slides:
        for kind, patterns in (("tissue", dataset.tissue_paths), ("region", dataset.region_paths)):
            named = getattr(slide, kind)
            tries = [slides_dir / named] if named else _tries(slide.slide, slides_dir, patterns)
            file = next((file for file in tries if file in listing(file.parent)), None)
            if file is not None:
                found.setdefault(slide.slide, {})[kind] = file
            elif named and (slide.url or locate(slide, slides_dir, dataset).exists()):
                raise DatasetError(
                    f"slide {slide.slide}: {kind} {named!r}: no file {tries[0]}; if this column "
                    "of the table does not "
                    "name masks, rename it"
                )
    return found


def fetchable(slides: Sequence[Slide]) -> dict[str, tuple[str, str]]:
    """Files that `fetch` can bring: URL and checksum by their path under the slides' folder."""
    files = {slide.path: (slide.url, slide.checksum) for slide in slides if slide.url}
    return files | {
        slide.annotation: (slide.annotation_url, "") for slide in slides if slide.annotation_url
    }


def _locate(path: str, slide: str, slides_dir: Path, patterns: Sequence[str]) -> Path:
    if path:
        return slides_dir / path
    tries = _tries(slide, slides_dir, patterns)
    return next((file for file in tries if file.exists()), tries[0])


def _tries(slide: str, slides_dir: Path, patterns: Sequence[str]) -> list[Path]:
    names = (slide, slide.capitalize())
    return [slides_dir / pattern.replace("{slide}", name) for pattern in patterns for name in names]
