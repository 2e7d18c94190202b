"""Scan of a folder of slides: the slides, an id for each, and their annotations."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import openslide

from mil.errors import DatasetError
from mil.io.tables.conventions import SUFFIXES, without_suffix
from mil.io.tables.ids import clean_id, id_of
from mil.progress import progress
from mil.text import clean

ANNOTATION_SUFFIXES = (".xml", ".annotations", ".geojson")
ANNOTATION_FOLDERS = ("annotations", "lesion_annotations")
# Bytes of an XML file in which its root element stands, and its first region.
HEAD_BYTES = 65536
# ASAP's root, or the root and a region of ImageScope and HALO: Aperio's scanner writes the
# root alone.
ANNOTATION = re.compile(rb"<ASAP_Annotations\b|<Annotations\b.*?<Region[\s>]", re.DOTALL)


@dataclass(frozen=True)
class SlideFile:
    """One slide of a folder.

    Attributes:
        path: the slide's file, relative to the folder.
        names: relative paths by which a table may call it; the first gives its id.
        readable: whether OpenSlide knows its format.
        slide: the slide's id, unique without regard to case.
    """

    path: PurePosixPath
    names: tuple[PurePosixPath, ...]
    readable: bool
    slide: str = ""


def find_slides(root: Path) -> list[SlideFile]:
    """Every slide at any depth, in order of path; a DICOM series is one slide.

    Raises:
        DatasetError: the folder does not exist, or holds no slide.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; name the folder of slides with --slides")
    files = sorted(_files(root))
    slides: list[SlideFile] = []
    dicom: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    with progress("looking for slides", len(files), "files") as advance:
        for file in files:
            vendor = _vendor(root / file)
            suffix = file.suffix.lower()
            if vendor == "dicom" or suffix == ".dcm":
                dicom[file.parent].append(file)
            elif vendor or suffix in SUFFIXES:
                slides.append(SlideFile(file, (file,), readable=vendor is not None))
            advance(1)
    for members in dicom.values():
        slides.extend(_dicom_slides(root, members))
    if not slides:
        kinds = sorted({file.suffix.lower() or "without extension" for file in files})
        raise DatasetError(
            f"{root}: no slides in this folder or below it; its files are: "
            f"{', '.join(kinds) or 'none'}"
        )
    return _with_ids(sorted(slides, key=lambda slide: slide.path))


def _files(root: Path) -> Iterator[PurePosixPath]:
    # Folders may be links to other disks; a link to a folder above must not send us
    # round in circles.
    seen: set[Path] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        here = Path(folder)
        if here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield PurePosixPath((here / name).relative_to(root))


def _vendor(file: Path) -> str | None:
    try:
        return openslide.OpenSlide.detect_format(file)
    except (openslide.OpenSlideError, OSError):
        return None


def _dicom_slides(root: Path, members: Sequence[PurePosixPath]) -> list[SlideFile]:
    """The slides among the DICOM files of one folder.

    A file that does not open is a slide of its own.
    """
    series: dict[str, list[PurePosixPath]] = defaultdict(list)
    broken: list[PurePosixPath] = []
    for file in members:
        try:
            with openslide.OpenSlide(root / file) as slide:
                series[slide.properties.get("dicom.SeriesInstanceUID", str(file))].append(file)
        except (openslide.OpenSlideError, OSError):
            broken.append(file)
    # One series, and all of it damaged.
    if not series:
        return [_dicom_slide(members, alone=True, readable=False)]
    alone = len(series) == 1
    slides = [_dicom_slide(files, alone=alone, readable=True) for files in series.values()]
    return slides + [_dicom_slide([file], alone=False, readable=False) for file in broken]


def _dicom_slide(files: Sequence[PurePosixPath], *, alone: bool, readable: bool) -> SlideFile:
    """A slide of one DICOM series.

    Args:
        files: files of the series.
        alone: whether its folder holds no other series.
        readable: whether OpenSlide opens it.
    """
    folder = files[0].parent
    names = tuple(files)
    if alone and folder.name:
        # Inside a series the files are often numbered: the folder's name says more.
        names = (folder, *names) if len(names) > 1 else (*names, folder)
    return SlideFile(files[0], names, readable)


def _with_ids(slides: Sequence[SlideFile]) -> list[SlideFile]:
    """Give each slide an id: its file's name.

    Where two are alike, the folder's name goes before it, then the whole path, then a
    number behind it.
    """
    ids = [id_of(slide.names[0]) for slide in slides]
    for i in _duplicates(ids):
        ids[i] = clean_id("_".join(without_suffix(slides[i].names[0]).parts[-2:]))
    for i in _duplicates(ids):
        # With its extension: `a.svs` and `a.tif` may lie in one folder.
        ids[i] = clean_id("_".join(slides[i].names[0].parts))
    # Cleaning may make two paths alike.
    for number, i in enumerate(_duplicates(ids), 1):
        ids[i] = f"{ids[i]}_{number}"
    return [replace(slide, slide=name) for slide, name in zip(slides, ids, strict=True)]


def _duplicates(ids: Sequence[str]) -> list[int]:
    """Indices of ids that stand there more than once, without regard to case."""
    times = Counter(name.lower() for name in ids)
    return [i for i, name in enumerate(ids) if times[name.lower()] > 1]


def find_annotations(root: Path, slides: Sequence[SlideFile]) -> tuple[dict[str, str], list[str]]:
    """The annotation file of each slide that has one.

    It has the slide's name and lies beside it, or in a folder `annotations` there or
    above, up to beside `root`.

    Args:
        root: folder of the slides.
        slides: the slides in it.

    Returns:
        Slide id to path, relative to `root` where it lies below it; and the files that
        have a slide's name but are no annotation, such as Aperio's XML.
    """
    listings: dict[Path, dict[str, Path]] = {}
    stems_by_slide = {slide.slide: _stems(slide) for slide in slides}
    in_all = Counter(stem for stems in stems_by_slide.values() for stem in stems)
    in_folder: Counter[tuple[PurePosixPath, str]] = Counter()
    for slide in slides:
        in_folder.update((slide.path.parent, stem) for stem in stems_by_slide[slide.slide])
    paths: dict[str, str] = {}
    others: set[str] = set()
    for slide in slides:
        # A name that slides of several folders share tells whose annotation it is only
        # in the slide's own folder.
        stems = stems_by_slide[slide.slide]
        near = {slide.slide.lower()}
        near |= {stem for stem in stems if in_folder[slide.path.parent, stem] == 1}
        far = {slide.slide.lower()} | {stem for stem in stems if in_all[stem] == 1}
        for file in _annotation_candidates(root, slide.path, near, far, listings):
            path = file.relative_to(root) if file.is_relative_to(root) else file
            if _is_annotation(file):
                paths[slide.slide] = path.as_posix()
                break
            others.add(path.as_posix())
    return paths, sorted(others)


def _stems(slide: SlideFile) -> set[str]:
    return {clean(without_suffix(name).name).lower() for name in slide.names}


def _annotation_candidates(
    root: Path,
    slide: PurePosixPath,
    near: set[str],
    far: set[str],
    listings: dict[Path, dict[str, Path]],
) -> Iterator[Path]:
    """Files with a slide's name where its annotation may lie, nearest first.

    Args:
        root: folder of the slides.
        slide: path of the slide, relative to `root`.
        near: names that tell the slide in its own folder, small letters.
        far: names that tell the slide anywhere.
        listings: files of folders by name in small letters, filled as folders are read.
    """
    own, *above = [*(root / parent for parent in slide.parents), root.parent]
    searched = [(own, near), *((own / name, near) for name in ANNOTATION_FOLDERS)]
    searched += [(parent / name, far) for parent in above for name in ANNOTATION_FOLDERS]
    for folder, stems in searched:
        if folder not in listings:
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            visible = (file for file in files if not file.name.startswith("."))
            listings[folder] = {clean(file.name).lower(): file for file in visible}
        for suffix in ANNOTATION_SUFFIXES:
            for stem in sorted(stems):
                file = listings[folder].get(stem + suffix)
                if file is not None:
                    yield file


def _is_annotation(file: Path) -> bool:
    if file.suffix.lower() == ".geojson":
        return True
    with file.open("rb") as opened:
        return ANNOTATION.search(opened.read(HEAD_BYTES)) is not None
