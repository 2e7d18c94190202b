"""Paths of a slide's files: the slide, its annotation, the user's masks, and files to fetch."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

from mil.config import DatasetConfig
from mil.errors import DatasetError, some
from mil.io.tables import Slide
from mil.text import clean

# Endings of the files that `mil.io.annotations` reads, which needs too many packages for
# a plan.
ANNOTATIONS = (".xml", ".annotations", ".geojson", ".json")


def locate(slide: Slide, slides_dir: Path, dataset: DatasetConfig) -> Path:
    """Path of a slide's file, whether it exists or not.

    It is the table's `path`, else the first pattern of the dataset that exists, else
    the first pattern.
    """
    return _locate(slide.path, slide.slide, slides_dir, dataset.slide_paths)


def locate_annotation(slide: Slide, slides_dir: Path, dataset: DatasetConfig) -> Path | None:
    """Path of a slide's annotation, also of one to be fetched; None when it has none."""
    if slide.annotation:
        return existing(slides_dir / slide.annotation)
    path = _locate("", slide.slide, slides_dir, dataset.annotation_paths or [""])
    return path if path.is_file() or slide.annotation_url else None


def locate_masks(
    slides: Iterable[Slide], slides_dir: Path, dataset: DatasetConfig
) -> dict[str, dict[str, Path]]:
    """Paths of the user's masks for `tile`: by slide, its files of `tissue` and `region`.

    Raises:
        DatasetError: the table names a mask that does not exist, of a slide that does.
    """

    # A folder is listed once: asking for every pattern of every slide takes minutes on
    # a network's disk.
    @cache
    def files_in(folder: Path) -> dict[str, Path]:
        files = folder.iterdir() if folder.is_dir() else ()
        return {clean(file.name): file for file in files}

    patterns = {"tissue": dataset.tissue_paths, "region": dataset.region_paths}
    masks: dict[str, dict[str, Path]] = {}
    for slide in slides:
        for kind, kind_patterns in patterns.items():
            named = getattr(slide, kind)
            candidates = _candidates(slide.slide, slides_dir, kind_patterns)
            if named:
                candidates = [slides_dir / named]
            there = (files_in(file.parent).get(clean(file.name)) for file in candidates)
            file = next((file for file in there if file is not None), None)
            if file is not None:
                masks.setdefault(slide.slide, {})[kind] = file
            elif named and (slide.url or locate(slide, slides_dir, dataset).exists()):
                raise DatasetError(
                    f"slide {slide.slide}: {kind} {named!r}: no file {candidates[0]}; if this "
                    "column of the table does not name masks, rename it"
                )
    return masks


def check_no_braces(subject: str, path: Path | str) -> None:
    """Refuse a path that Snakemake would take for a pattern.

    Args:
        subject: Setting or slide that the path is of, for the message.
        path: The path.

    Raises:
        DatasetError: it holds a brace, which cannot be escaped.
    """
    if "{" in str(path):
        raise DatasetError(
            f"{subject}: {path}: the workflow takes {{ }} in a path for wildcards; rename it"
        )


def check_annotations(files: Mapping[str, Path | None]) -> None:
    """Refuse annotations that are no outlines by their names, before hours of computing.

    Args:
        files: Annotation by slide; None: the slide has none.

    Raises:
        DatasetError: A file is an image or of another kind.
    """
    others = {
        slide: file
        for slide, file in files.items()
        if file is not None and file.suffix.lower() not in ANNOTATIONS
    }
    if others:
        first = next(iter(others.values()))
        raise DatasetError(
            f"annotations of {some(list(others))} are no outlines, such as {first}; give .geojson "
            "or .json of QuPath, .xml of ASAP, ImageScope or HALO, or .annotations of HALO. Images "
            "can only be masks, in the columns `tissue` and `region`"
        )


def _locate(path: str, slide: str, slides_dir: Path, patterns: Sequence[str]) -> Path:
    if path:
        return existing(slides_dir / path)
    candidates = _candidates(slide, slides_dir, patterns)
    # Names as they are written come first, for folders are slow to list.
    written = next((file for file in candidates if file.exists()), None)
    if written is not None:
        return written
    return next((file for file in map(existing, candidates) if file.exists()), candidates[0])


def existing(path: Path) -> Path:
    """The file of that path, or of one that looks the same; the path itself if there is none.

    Tables hold composed letters and plain blanks; names of files copied from macOS have
    their accents written apart, others have no-break blanks.
    """
    if path.exists():
        return path
    for parent in (path.parent, _decomposed(path.parent)):
        try:
            names = _names_in(parent, parent.stat().st_mtime_ns)
        except OSError:
            continue
        if clean(path.name) in names:
            return parent / names[clean(path.name)]
    return path


def _decomposed(path: Path) -> Path:
    return Path(unicodedata.normalize("NFD", str(path)))


# A folder is listed again when its time of change is another.
@lru_cache(maxsize=64)
def _names_in(folder: Path, _changed_ns: int) -> dict[str, str]:
    return {clean(file.name): file.name for file in folder.iterdir()}


def _candidates(slide: str, slides_dir: Path, patterns: Sequence[str]) -> list[Path]:
    # Ids are capitalised in CAMELYON16's file tree of 2016.
    names = (slide, slide.capitalize())
    return [slides_dir / pattern.replace("{slide}", name) for pattern in patterns for name in names]
