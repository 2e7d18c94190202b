"""Which tool wrote a file, told by its keys; and all files of features in a folder."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import h5py

from mil.errors import ConfigError, FormatError
from mil.interop.external import Source
from mil.interop.untrusted import member, opened, text
from mil.io.tables import valid_id

TOOLS = ("clam", "trident", "stamp", "acmil")
SUFFIXES = (".h5", ".hdf5", ".pt")
FEW = 100  # groups of a file looked at to tell whose it is
ATLASPATCH = (
    "a file of AtlasPatch, which is not read; write its features and coords (x, y) as TRIDENT does"
)


class NoFeatures(FormatError):
    """A file that belongs to a tool's results but holds no features of tiles."""


@dataclass(frozen=True)
class Found:
    """What lies in a folder: where the features of each slide are, and which files cannot be used, with the reason."""

    sources: list[Source]
    faults: list[FormatError]


def tool_module(tool: str) -> ModuleType:
    """The module that knows a tool's layout."""
    return import_module(f"mil.interop.{tool}")


def sniff(path: Path) -> str:
    """The tool that wrote a file: clam, trident, stamp, acmil; or mil.

    Raises:
        NoFeatures: it holds something else of such a tool.
        FormatError: nobody knows what it is.
    """
    if path.suffix.lower() == ".pt":
        return "trident" if path.parent.name.startswith("features_") else "clam"
    with opened(path) as file:
        return _by_keys(file, path)


def _by_keys(file: h5py.File, path: Path) -> str:
    keys = {
        name for name in file if isinstance(name, str)
    }  # h5py gives names that are no UTF-8 as bytes
    if text(file.attrs, "format", str(path)) == "mil.bag":
        return "mil"
    if keys & {"feats", "patch_embeddings"}:
        return "stamp"
    if "features" in keys:
        return _trident_or_clam(file, path)
    if "imgs" in keys:
        raise NoFeatures(f"{path}: holds pixels of tiles, not features")
    if "coords" in keys:
        # Elsewhere than where coordinates belong it is a file of features that has lost
        # them.
        kind = (
            NoFeatures
            if path.parent.name == "patches" or "attention_scores" in keys
            else FormatError
        )
        raise kind(f"{path}: holds coordinates, not features; name the folder of features")
    if any(_holds_feat(file, name, path) for name in sorted(keys)[:FEW]):
        return "acmil"
    raise FormatError(
        f"{path}: not a file of features that is known here; it has: {', '.join(sorted(keys)[:5])}"
    )


def _holds_feat(file: h5py.File, name: str, path: Path) -> bool:
    group = member(file, name, str(path))
    return isinstance(group, h5py.Group) and bool(group.id.links.exists(b"feat"))


def _trident_or_clam(file: h5py.File, path: Path) -> str:
    features, coords = (member(file, name, str(path)) for name in ("features", "coords"))
    if isinstance(features, h5py.Group) or (
        coords is not None and getattr(coords, "shape", ())[1:] == (5,)
    ):
        raise FormatError(f"{path}: {ATLASPATCH}")
    if path.parent.name.startswith("slide_features"):
        raise NoFeatures(
            f"{path}: features of a whole slide, not of its tiles; name the folder features_ENCODER"
        )
    said = {name for part in (features, coords) if part is not None for name in part.attrs}
    return "trident" if said & {"target_magnification", "patch_size_level0", "encoder"} else "clam"


def find(path: Path, tool: str | None = None) -> Found:
    """Where features lie: in a file, or at any depth of a folder.

    Args:
        path: a file or a folder.
        tool: whose they are; None: told by their keys.

    Raises:
        FormatError: there are none, or a slide is there twice.
    """
    if not path.exists():
        raise FormatError(f"{path}: no such file or folder")
    sources: list[Source] = []
    faults: list[FormatError] = []
    passed_over: list[FormatError] = []
    for file in [path] if path.is_file() else list(_files(path)):
        try:
            sources += _sources(file, _tool(file, tool))
        except NoFeatures as error:
            passed_over.append(error)
        except FormatError as error:
            faults.append(error)
    if not sources and not faults:
        raise (
            passed_over[0]
            if passed_over
            else FormatError(f"{path}: no .h5 or .pt files in this folder or below it")
        )
    return Found(_once(sources), faults)


def _tool(path: Path, said: str | None) -> str:
    """Whose a file is: what the user says, unless it holds no features at all."""
    try:
        sniffed = sniff(path)
        return said or sniffed
    except NoFeatures:
        raise
    except FormatError:
        if said is None:
            raise
        return said


def _files(root: Path) -> Iterator[Path]:
    for file in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
        if file.suffix.lower() in SUFFIXES and not hidden and file.is_file():
            yield file


def _sources(path: Path, tool: str) -> list[Source]:
    if tool == "acmil":
        return list(tool_module(tool).slides(path))
    if not valid_id(path.stem):
        raise FormatError(f"{path}: {path.stem!r} cannot be a slide's id; rename the file")
    return [Source(tool, path.stem, path)]


def _once(sources: list[Source]) -> list[Source]:
    """One source a slide: CLAM writes the same features as .h5 and as .pt."""
    by_slide: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_slide[source.slide.lower()].append(source)
    for slide, same in by_slide.items():
        complete = [source for source in same if source.path.suffix.lower() != ".pt"]
        if len(complete) == 1 < len(same):
            same[:] = complete
        if len(same) > 1:
            places = " and ".join(source.where for source in same[:2])
            raise FormatError(
                f"slide {slide} is there twice, {places}; name the folder of one of them"
            )
    return [same[0] for same in by_slide.values()]


def bag_files(folder: Path) -> list[Path]:
    """The bags of a folder.

    Raises:
        FormatError: there are none.
    """
    files = sorted(file for file in folder.glob("*.h5") if not file.name.startswith("."))
    if not files:
        raise FormatError(f"{folder}: no bags (.h5 files) in this folder")
    return files


def one_tool(sources: list[Source], patches: Path | None) -> list[Source]:
    """The same sources, if they are all of one other tool; CLAM's with their files of coordinates.

    Raises:
        FormatError: they are bags of ours, or of several tools.
    """
    tools = sorted({source.tool for source in sources})
    if tools == ["mil"]:
        raise FormatError(f"{sources[0].path}: a bag of ours already; there is nothing to import")
    if len(tools) > 1:
        raise ConfigError(f"files of {' and '.join(tools)} together; name the folder of one")
    if tools != ["clam"]:
        return sources
    return [replace(source, patches=_patches(source, patches)) for source in sources]


def _patches(source: Source, folder: Path | None) -> Path | None:
    near = [parent / "patches" for parent in list(source.path.parents)[:3]]
    tries = [place / f"{source.slide}.h5" for place in ([folder] if folder else near)]
    return next((file for file in tries if file.is_file() and file != source.path), None)
