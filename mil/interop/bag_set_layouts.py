"""Layouts of public bag sets: which files hold which slides, and what is read from them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mil.config import BagSetConfig
from mil.errors import FormatError
from mil.interop import clam
from mil.interop.convert import whole_pixels
from mil.interop.external import ExternalFeatures, FeatureFile
from mil.interop.hub_files import RemoteFile
from mil.interop.parquet import rows
from mil.interop.torchmil import npy_members, read_npy, read_npy_features
from mil.interop.untrusted import MAX_COORDINATE
from mil.io.tables import SPLITS

# What is downloaded, read and removed at a time, by layout.
UNITS = {"clam": "slides", "torchmil": "archives", "parquet": "tables"}


@dataclass(frozen=True)
class Portion:
    """Files of a repository that are downloaded, read and removed together.

    Attributes:
        files: The files: features, then corners if there are any.
        slides: Slides in them; empty where only reading tells.
        split: Split of all of them, where the name of the file tells.
    """

    files: tuple[RemoteFile, ...]
    slides: tuple[str, ...] = ()
    split: str = ""

    @property
    def size(self) -> int:
        """Size of the files, bytes."""
        return sum(file.size for file in self.files)

    @property
    def name(self) -> str:
        """Path of the features in the repository."""
        return self.files[0].path


@dataclass(frozen=True)
class PublishedBag:
    """Features of one slide, and its number of a label where the file holds one."""

    slide: str
    external: ExternalFeatures
    label: int | None = None


def portions(
    entry: BagSetConfig, slides: Sequence[str], files: Mapping[str, RemoteFile]
) -> list[Portion]:
    """Portions of a set, in the order in which they are fetched.

    Args:
        entry: The set.
        slides: Slides of the set's dataset; empty for a set that holds its own labels.
        files: Files of the repository, by path.

    Raises:
        FormatError: The repository has none of the files.
    """
    by_layout = {"clam": _of_slides, "torchmil": _of_archives, "parquet": _of_tables}
    of_entry = by_layout[entry.layout](entry, slides, files)
    if not of_entry:
        folders = sorted({path.rpartition("/")[0] or "." for path in files})[:5]
        raise FormatError(
            f"{entry.repository}: has no files {entry.features}; its folders are "
            f"{', '.join(folders)}; correct the entry in configs/bag_sets.yaml"
        )
    return of_entry


def _of_slides(
    entry: BagSetConfig, slides: Sequence[str], files: Mapping[str, RemoteFile]
) -> list[Portion]:
    features = _by_slide(entry.features, files)
    coords = _by_slide(entry.coords, files)
    present = [slide for slide in slides if slide in features]
    return [
        Portion((features[slide], *([coords[slide]] if slide in coords else [])), (slide,))
        for slide in present
    ]


def _by_slide(pattern: str, files: Mapping[str, RemoteFile]) -> dict[str, RemoteFile]:
    expression = _expression(pattern)
    matches = {path: expression.fullmatch(path) for path in files}
    return {match["slide"]: files[path] for path, match in matches.items() if match}


def _expression(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern)
    for written, meaning in {
        r"\*\*/": r"(?:[^/]+/)*",
        r"\*": r"[^/]*",
        r"\{slide\}": r"(?P<slide>[^/]+)",
        r"\{split\}": rf"(?P<split>{'|'.join(SPLITS)})",
    }.items():
        text = text.replace(written, meaning)
    return re.compile(text)


def _of_archives(
    entry: BagSetConfig, slides: Sequence[str], files: Mapping[str, RemoteFile]
) -> list[Portion]:
    if entry.features not in files:
        return []
    coords = [files[entry.coords]] if entry.coords in files else []
    return [Portion((files[entry.features], *coords), tuple(slides))]


def _of_tables(
    entry: BagSetConfig, slides: Sequence[str], files: Mapping[str, RemoteFile]
) -> list[Portion]:
    expression = _expression(entry.features)
    matches = ((path, expression.fullmatch(path)) for path in sorted(files))
    return [Portion((files[path],), split=match["split"]) for path, match in matches if match]


def published_bags(
    entry: BagSetConfig,
    portion: Portion,
    paths: Sequence[Path],
    scratch: Path,
    first_row: int = 0,
) -> Iterator[PublishedBag]:
    """Features of each slide in a portion.

    Args:
        entry: The set.
        portion: The portion.
        paths: Its files on this disk.
        scratch: File to unpack to.
        first_row: Number of the portion's first row within its split, for slides without
            an id.

    Raises:
        FormatError: A file cannot be what it should be.
    """
    if entry.layout == "clam":
        yield _of_clam(entry, portion, paths)
    elif entry.layout == "torchmil":
        yield from _of_torchmil(entry, portion, paths, scratch)
    else:
        for number, row in enumerate(rows(paths[0], entry.first_feature, portion.name), first_row):
            external = ExternalFeatures(features=row.features)
            yield PublishedBag(f"{portion.split}_{number:03d}", external, row.label)


def _of_clam(entry: BagSetConfig, portion: Portion, paths: Sequence[Path]) -> PublishedBag:
    slide = portion.slides[0]
    patches = paths[1] if len(paths) > 1 else None
    # The set's authors state that both files have the tiles in one order.
    external = clam.read_in_one_order(FeatureFile("clam", slide, paths[0], patches=patches))
    return PublishedBag(slide, _without_first(external, entry))


def _without_first(external: ExternalFeatures, entry: BagSetConfig) -> ExternalFeatures:
    return replace(external, features=external.features[:, entry.first_feature :])


def _of_torchmil(
    entry: BagSetConfig, portion: Portion, paths: Sequence[Path], scratch: Path
) -> Iterator[PublishedBag]:
    slides = set(portion.slides)
    corners = {}
    if len(paths) > 1:
        location = portion.files[1].path
        with npy_members(paths[1], scratch, location) as members:
            for name, path in members:
                if name in slides:
                    corners[name] = _whole_corners(path, f"{location}: {name}")
    with npy_members(paths[0], scratch, portion.name) as members:
        for name, path in members:
            if name not in slides:
                continue
            location = f"{portion.name}: {name}"
            features = read_npy_features(path, location)
            coords = corners.get(name)
            if coords is not None and coords.shape != (len(features), 2):
                raise FormatError(
                    f"{location}: corners of shape {coords.shape} for {len(features)} tiles"
                )
            external = ExternalFeatures(features=features, coords=coords)
            yield PublishedBag(name, _without_first(external, entry))


def _whole_corners(path: Path, location: str) -> Int[np.ndarray, "..."]:
    coords = read_npy(path, location)
    if abs(coords.astype(float)).max(initial=0) > MAX_COORDINATE:
        raise FormatError(f"{location}: corners that no slide has")
    return whole_pixels(coords, location)
