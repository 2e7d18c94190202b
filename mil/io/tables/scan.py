"""What lies in a folder of slides: the slides, an id for each, and the annotations that belong to them."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import openslide

from mil.errors import DatasetError
from mil.io.tables import valid_id
from mil.io.tables.conventions import SUFFIXES, without_suffix
from mil.progress import progress

ANNOTATION_SUFFIXES = (".xml", ".geojson")
ANNOTATION_FOLDERS = ("annotations", "lesion_annotations")
MAX_STEM = 140  # characters of a slide id that come from its file name


@dataclass(frozen=True)
class Found:
    """One slide of a folder.

    Attributes:
        path: its file, relative to the folder.
        names: relative paths by which a table may call it; the first gives its id.
        readable: whether OpenSlide knows its format.
        slide: its id, unique without regard to case.
    """

    path: PurePosixPath
    names: tuple[PurePosixPath, ...]
    readable: bool
    slide: str = ""


def find_slides(root: Path) -> list[Found]:
    """Every slide at any depth, in order of path; a DICOM series is one slide.

    Raises:
        DatasetError: there is none.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; name the folder of slides with --slides")
    files = sorted(_files(root))
    slides: list[Found] = []
    dicom: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    with progress("looking for slides", len(files), "files") as advance:
        for file in files:
            vendor = _vendor(root / file)
            suffix = file.suffix.lower()
            if vendor == "dicom" or suffix == ".dcm":
                dicom[file.parent].append(file)
            elif vendor or suffix in SUFFIXES:
                slides.append(Found(file, (file,), readable=vendor is not None))
            advance(1)
    for members in dicom.values():
        slides.extend(_series(root, members))
    if not slides:
        kinds = ", ".join(sorted({file.suffix.lower() or "without extension" for file in files}))
        raise DatasetError(
            f"{root}: no slides in this folder or below it; its files are: {kinds or 'none'}"
        )
    return _with_ids(sorted(slides, key=lambda found: found.path))


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
        yield from (
            PurePosixPath((here / name).relative_to(root))
            for name in names
            if not name.startswith(".")
        )


def _vendor(file: Path) -> str | None:
    try:
        return openslide.OpenSlide.detect_format(file)
    except (openslide.OpenSlideError, OSError):
        return None


def _series(root: Path, members: Sequence[PurePosixPath]) -> list[Found]:
    """The slides among the DICOM files of one folder; a file that does not open is a slide of its own."""
    series: dict[str, list[PurePosixPath]] = defaultdict(list)
    broken: list[PurePosixPath] = []
    for file in members:
        try:
            with openslide.OpenSlide(root / file) as slide:
                series[slide.properties.get("dicom.SeriesInstanceUID", str(file))].append(file)
        except (openslide.OpenSlideError, OSError):
            broken.append(file)
    if not series:  # one series, and all of it damaged
        return [_dicom(members, alone=True, readable=False)]
    slides = [_dicom(files, alone=len(series) == 1, readable=True) for files in series.values()]
    return slides + [_dicom([file], alone=False, readable=False) for file in broken]


def _dicom(files: Sequence[PurePosixPath], *, alone: bool, readable: bool) -> Found:
    folder = files[0].parent
    names = tuple(files)
    if alone and folder.name:
        # Inside a series the files are often numbered: the folder's name says more.
        names = (folder, *names) if len(names) > 1 else (*names, folder)
    return Found(files[0], names, readable)


def _with_ids(slides: Sequence[Found]) -> list[Found]:
    """Give each slide an id: its file's name; where two are alike, its folder's too, or its whole path."""
    ids = [_clean(without_suffix(found.names[0]).name) for found in slides]
    for parts in (-2, 0):
        for i in _doubled(ids):
            name = slides[i].names[0]
            ids[i] = _clean("_".join((name if parts == 0 else without_suffix(name)).parts[parts:]))
    for number, i in enumerate(_doubled(ids), 1):
        ids[i] = f"{ids[i]}_{number}"
    return [replace(found, slide=name) for found, name in zip(slides, ids, strict=True)]


def _doubled(ids: Sequence[str]) -> list[int]:
    times = Counter(name.lower() for name in ids)
    return [i for i, name in enumerate(ids) if times[name.lower()] > 1]


def _clean(name: str) -> str:
    name = re.sub(r"[/\\{}*?\"'<>|:\x00-\x1f]|\.\.+", "_", name)[-MAX_STEM:].strip()
    return name if valid_id(name) else f"_{name.lstrip('. -')}"


def find_annotations(root: Path, slides: Sequence[Found]) -> tuple[dict[str, str], list[str]]:
    """The annotation file of each slide that has one.

    It has the slide's name and lies beside it, or in a folder `annotations` there or
    above, up to beside `root`.

    Returns:
        Slide id to path, relative to `root` where it lies below it; and the files that
        have a slide's name but are something else, such as Aperio's XML.
    """
    listed: dict[Path, dict[str, Path]] = {}
    everywhere = Counter(stem for found in slides for stem in _stems(found))
    here = Counter((found.path.parent, stem) for found in slides for stem in _stems(found))
    paths: dict[str, str] = {}
    foreign: list[str] = []
    for found in slides:
        # A name that slides of several folders share says whose annotation it is only
        # in the slide's own.
        stems = sorted(_stems(found))
        near = {
            found.slide.lower(),
            *(stem for stem in stems if here[found.path.parent, stem] == 1),
        }
        far = {found.slide.lower(), *(stem for stem in stems if everywhere[stem] == 1)}
        for file in _beside(root, found.path, near, far, listed):
            path = file.relative_to(root) if file.is_relative_to(root) else file
            if _is_annotation(file):
                paths[found.slide] = path.as_posix()
                break
            foreign.append(path.as_posix())
    return paths, sorted(set(foreign))


def _stems(found: Found) -> set[str]:
    return {without_suffix(name).name.lower() for name in found.names}


def _beside(
    root: Path,
    slide: PurePosixPath,
    near: set[str],
    far: set[str],
    listed: dict[Path, dict[str, Path]],
) -> Iterator[Path]:
    own, *above = [*(root / parent for parent in slide.parents), root.parent]
    places = [(own, near), *((own / name, near) for name in ANNOTATION_FOLDERS)]
    places += [(parent / name, far) for parent in above for name in ANNOTATION_FOLDERS]
    for folder, stems in places:
        if folder not in listed:
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            listed[folder] = {
                file.name.lower(): file for file in files if not file.name.startswith(".")
            }
        names = [stem + suffix for suffix in ANNOTATION_SUFFIXES for stem in sorted(stems)]
        yield from (listed[folder][name] for name in names if name in listed[folder])


def _is_annotation(file: Path) -> bool:
    if file.suffix.lower() != ".xml":
        return True
    with file.open("rb") as opened:
        return b"<ASAP_Annotations" in opened.read(4096)
