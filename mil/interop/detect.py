"""Detection of feature files: all of them in a folder, and which tool wrote each."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import h5py

from mil.errors import ConfigError, FormatError
from mil.interop.acmil import slides as acmil_slides
from mil.interop.cohort import ExportCohort
from mil.interop.external import ExternalFeatures, FeatureFile
from mil.interop.untrusted import get_item, open_hdf5, read_text
from mil.io.bags import Bag
from mil.io.probe import probe
from mil.io.tables import id_of, valid_id
from mil.text import clean

TOOLS = ("clam", "trident", "stamp", "acmil")
SUFFIXES = (".h5", ".hdf5", ".pt")
# ACMIL's files hold a group a slide; a hundred of them tell as much as all.
MAX_GROUPS_EXAMINED = 100
# Attributes of features and coordinates that TRIDENT writes and CLAM does not.
TRIDENT_ATTRIBUTES = {"target_magnification", "patch_size_level0", "encoder"}
ATLASPATCH = (
    "a file of AtlasPatch, which cannot be imported; write its features and coords (x, y) as "
    "TRIDENT does"
)


@runtime_checkable
class ToolModule(Protocol):
    """Module `mil.interop.TOOL`, which knows the layout of one tool's files."""

    REQUIRED_FIELDS: tuple[str, ...]  # header fields, or coords, without which no export is made

    @staticmethod
    def read(file: FeatureFile) -> ExternalFeatures:
        """Read the features of one slide."""

    @staticmethod
    def bag_writer(
        out: Path, cohort: ExportCohort
    ) -> AbstractContextManager[Callable[[Bag], None]]:
        """Open an export: a function that writes one bag."""


class NoFeaturesError(FormatError):
    """A file that belongs to a tool's results but holds no features of tiles."""


@dataclass(frozen=True)
class DetectedFiles:
    """Feature files of a folder, one a slide, and the errors of those that are unusable."""

    files: list[FeatureFile]
    faults: list[FormatError]


def tool_module(tool: str) -> ToolModule:
    """Module that knows the layout of a tool's files."""
    return cast(ToolModule, import_module(f"mil.interop.{tool}"))


def detect_tool(path: Path) -> str:
    """Name of the tool that wrote a file: clam, trident, stamp, acmil; mil for a bag.

    Raises:
        NoFeaturesError: the file is one of these tools', but holds no features of tiles.
        FormatError: no tool is known that writes such a file.
    """
    if path.suffix.lower() == ".pt":
        # A tensor names no tool; TRIDENT's folders do.
        return "trident" if path.parent.name.startswith("features_") else "clam"
    with open_hdf5(path) as file:
        return _tool_by_keys(file, path)


def _tool_by_keys(file: h5py.File, path: Path) -> str:
    # h5py gives names that are no UTF-8 as bytes; none of the keys looked for is one.
    keys = {name for name in file if isinstance(name, str)}
    stored_format = read_text(file.attrs, "format", str(path))
    if stored_format == "mil.bag":
        return "mil"
    if stored_format == "mil.vectors":
        raise NoFeaturesError(
            f"{path}: holds one vector a slide, no features of tiles; `mil bags info` prints it"
        )
    # The order matters: CLAM, TRIDENT and STAMP share the key coords.
    if keys & {"feats", "patch_embeddings"}:
        return "stamp"
    if "features" in keys:
        return _trident_or_clam(file, path)
    if "imgs" in keys:
        raise NoFeaturesError(f"{path}: holds pixels of tiles, not features")
    if "coords" in keys:
        raise _only_coordinates(path, keys)
    if any(_holds_feat(file, name, path) for name in sorted(keys)[:MAX_GROUPS_EXAMINED]):
        return "acmil"
    raise FormatError(
        f"{path}: not a file of features of a supported tool; it has: {', '.join(sorted(keys)[:5])}"
    )


def _only_coordinates(path: Path, keys: set[str]) -> FormatError:
    """Error about a file of coordinates alone.

    Where coordinates belong, the file is passed over. Elsewhere it is a file of features
    that was truncated, and must be reported.
    """
    expected = path.parent.name == "patches" or "attention_scores" in keys
    kind = NoFeaturesError if expected else FormatError
    return kind(f"{path}: holds coordinates, not features; name the folder of features")


def _holds_feat(file: h5py.File, name: str, path: Path) -> bool:
    group = get_item(file, name, str(path))
    return isinstance(group, h5py.Group) and bool(group.id.links.exists(b"feat"))


def _trident_or_clam(file: h5py.File, path: Path) -> str:
    features = get_item(file, "features", str(path))
    coords = get_item(file, "coords", str(path))
    # AtlasPatch: a group of features by encoder, or coordinates of five columns.
    five_columns = coords is not None and getattr(coords, "shape", ())[1:] == (5,)
    if isinstance(features, h5py.Group) or five_columns:
        raise FormatError(f"{path}: {ATLASPATCH}")
    if path.parent.name.startswith("slide_features"):
        raise NoFeaturesError(
            f"{path}: features of a whole slide, not of its tiles; name the folder features_ENCODER"
        )
    attributes: set[str] = set()
    for item in (features, coords):
        if item is not None:
            attributes.update(item.attrs)
    return "trident" if attributes & TRIDENT_ATTRIBUTES else "clam"


def find_feature_files(path: Path, tool: str | None = None) -> DetectedFiles:
    """Feature files at a path: the file itself, or those at any depth of a folder.

    Args:
        path: a file or a folder.
        tool: name of the tool that wrote the files; None: detected from their keys.

    Raises:
        FormatError: there are none, or two for one slide.
    """
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    files: list[FeatureFile] = []
    faults: list[FormatError] = []
    passed_over: list[FormatError] = []
    candidates = [path] if path.is_file() else list(_candidates(path))
    probe([file for file in candidates if file.suffix.lower() != ".pt"])
    for candidate in candidates:
        try:
            files += _feature_files(candidate, _tool_of(candidate, tool))
        except NoFeaturesError as error:
            passed_over.append(error)
        except FormatError as error:
            faults.append(error)
    if not files and not faults:
        if passed_over:
            raise passed_over[0]
        raise FormatError(f"{path}: no .h5 or .pt files in this folder or below it")
    return DetectedFiles(_one_file_per_slide(files), faults)


def _tool_of(path: Path, stated: str | None) -> str:
    """Tool that wrote a file: the stated one, unless the file holds no features at all."""
    try:
        detected = detect_tool(path)
    # Also with --from: coordinates or pixels never become features.
    except NoFeaturesError:
        raise
    except FormatError:
        if stated is None:
            raise
        return stated
    # A detected tool can be wrong where a file lost its attributes.
    return stated or detected


def _candidates(root: Path) -> Iterator[Path]:
    for file in sorted(root.rglob("*")):
        # Hidden files are scratch files of a killed run, or of the operating system.
        hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
        if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
            yield file


def _feature_files(path: Path, tool: str) -> list[FeatureFile]:
    if tool == "acmil":
        return list(acmil_slides(path))
    # A bag of ours is called by its slide's id; others after their slide's file.
    slide = clean(path.stem) if tool == "mil" else id_of(path)
    if not valid_id(slide):
        raise FormatError(f"{path}: {slide!r} cannot be a slide's id; rename the file")
    return [FeatureFile(tool, slide, path)]


def _one_file_per_slide(files: list[FeatureFile]) -> list[FeatureFile]:
    """The files, of CLAM's .h5 and .pt with the same features only the .h5.

    Raises:
        FormatError: a slide has two files.
    """
    by_slide: dict[str, list[FeatureFile]] = defaultdict(list)
    for file in files:
        # Some file systems do not tell upper from lower case.
        by_slide[file.slide.lower()].append(file)
    unique = []
    for slide, same_slide in by_slide.items():
        with_coords = [file for file in same_slide if file.path.suffix.lower() != ".pt"]
        if len(same_slide) == 1:
            unique += same_slide
        elif len(with_coords) == 1:
            unique += with_coords
        else:
            locations = " and ".join(file.location for file in same_slide[:2])
            raise FormatError(
                f"slide {slide} is there twice, {locations}; name the folder of one of them"
            )
    return unique


def bag_files(folder: Path) -> list[Path]:
    """Bag files of a folder, sorted and ready to be opened.

    Raises:
        FormatError: there are none.
    """
    files = sorted(file for file in folder.glob("*.h5") if not file.name.startswith("."))
    if not files:
        raise FormatError(f"{folder}: no bags (.h5 files) in this folder")
    probe(files)
    return files


def files_of_one_tool(files: list[FeatureFile], patches: Path | None) -> list[FeatureFile]:
    """The same files, if one other tool wrote them all; CLAM's with their file of patches.

    Args:
        files: the feature files.
        patches: folder of CLAM's files of coordinates; None: sought near the features.

    Raises:
        FormatError: the files are bags already.
        ConfigError: several tools wrote them.
    """
    # Files of several tools may be features of the same slides.
    tools = sorted({file.tool for file in files})
    if tools == ["mil"]:
        raise FormatError(f"{files[0].path}: is a bag already; there is nothing to import")
    if len(tools) > 1:
        raise ConfigError(f"files of {' and '.join(tools)} together; name the folder of one")
    if tools != ["clam"]:
        return files
    return [replace(file, patches=_patches_file(file, patches)) for file in files]


def _patches_file(file: FeatureFile, folder: Path | None) -> Path | None:
    # CLAM's layout: features/h5_files/ID.h5 beside patches/ID.h5, three levels up at most.
    near = [parent / "patches" for parent in list(file.path.parents)[:3]]
    candidates = [place / f"{file.path.stem}.h5" for place in ([folder] if folder else near)]
    existing = (path for path in candidates if path.is_file() and path != file.path)
    return next(existing, None)
