"""Results of a study in; `ro-crate-metadata.json` beside the report out. No torch.

RO-Crate 1.1, https://w3id.org/ro/crate/1.1: JSON-LD that archives and search engines for
research data read. Written by hand, for it is a single list of a few kinds of entity.
"""

import mimetypes
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from mil.config import DatasetConfig
from mil.errors import ConfigError, FormatError
from mil.io.atomic import write_json
from mil.io.digests import releases
from mil.tasks import load_dataset
from mil.trained.manifest import file_digest
from mil.versions import TOOL_VERSION

NAME = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/crate/1.1"
# Not in the context of version 1.1.
SHA256 = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
SPDX = "https://spdx.org/licenses/"
LICENCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
# Folders of which each file is listed; of the others, which hold a large file for each
# slide, number and size.
LISTED = (
    "report_slides",
    "compare",
    "fewshot",
    "evaluate",
    "split",
    "train",
    "heatmap",
    "refine",
)
# Files beside these folders, report first.
BESIDE = ("report.html", "report.json", "config.json", "checklist_*.md")
FOLDERS = {
    "tile": "tiles of each slide, tissue outline and overview",
    "features": "feature bags of each slide",
    "score": "logits, predictions and attention of each slide",
    "embed": "vector of each slide",
    "bags": "digests of the bags",
}
ENDINGS = {".h5": "application/x-hdf5", ".geojson": "application/geo+json", ".md": "text/markdown"}


@dataclass(frozen=True)
class CrateFacts:
    """Facts that no file of the results states.

    Attributes:
        authors: Names of the people who made the study.
        licence: Licence of the results: an SPDX identifier, a URL, or a text.
        date: Day of publication, such as `2026-11-30`.
    """

    authors: tuple[str, ...]
    licence: str
    date: str


class Crate(NamedTuple):
    """Entities of a crate, and the number of files that it lists."""

    content: dict[str, Any]
    num_files: int


def run(results: Path, facts: CrateFacts, *, dataset: str = "") -> Path:
    """Describe the results of a study.

    Args:
        results: Folder of the results of one dataset, with report.html.
        facts: Authors, licence and date.
        dataset: Name or yaml of the dataset; empty: the folder's name.

    Returns:
        File that was written.

    Raises:
        FormatError: The folder holds no results of a study.
    """
    if not (results / "report.html").is_file() and not (results / "evaluate").is_dir():
        raise FormatError(
            f"{results}: holds no results of a study; give a folder such as results/DATASET, with "
            "report.html in it"
        )
    crate = describe(results, facts, _settings(dataset or results.name, named=bool(dataset)))
    write_json(results / NAME, crate.content)
    return results / NAME


def _settings(name: str, *, named: bool) -> DatasetConfig | None:
    try:
        return load_dataset(name)
    except ConfigError:
        if named:
            raise
        return None


def describe(results: Path, facts: CrateFacts, dataset: DatasetConfig | None) -> Crate:
    """Entities that describe the results.

    Args:
        results: Folder of the results.
        facts: Authors, licence and date.
        dataset: Yaml of the dataset, if it is known.
    """
    files = [_file(path, results) for path in _listed(results)]
    folders = [
        _folder(results / name, results, meaning)
        for name, meaning in FOLDERS.items()
        if (results / name).is_dir()
    ]
    authors = [
        {"@id": f"#author-{number}", "@type": "Person", "name": name}
        for number, name in enumerate(facts.authors, start=1)
    ]
    licence = _licence(facts.licence)
    title = dataset.title if dataset and dataset.title else results.name
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Multiple-instance learning on {title}",
        "description": _description(title, dataset),
        "datePublished": facts.date,
        "license": {"@id": licence["@id"]},
        "author": _ids(authors),
        "hasPart": _ids([*files, *folders]),
        "mentions": [{"@id": "#run"}],
    }
    software = {
        "@id": "#mil",
        "@type": "SoftwareApplication",
        "name": "mil",
        "softwareVersion": TOOL_VERSION,
        "softwareRequirements": releases(),
    }
    made = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": "Study with mil",
        "instrument": {"@id": "#mil"},
        "agent": _ids(authors),
        "result": {"@id": "./"},
    }
    descriptor = {
        "@id": NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": PROFILE},
        "about": {"@id": "./"},
    }
    entities = [descriptor, root, *authors, licence, software, made, *files, *folders]
    return Crate({"@context": [f"{PROFILE}/context", SHA256], "@graph": entities}, len(files))


def _description(title: str, dataset: DatasetConfig | None) -> str:
    sentences = [
        f"Results of a study of whole-slide images ({title}): report, predictions, metrics, "
        "trained heads and heatmaps. For research; not a medical device."
    ]
    if dataset and dataset.licence:
        sentences.append(f"Licence of the slides: {dataset.licence}.")
    if dataset and dataset.notes:
        sentences.append(" ".join(dataset.notes.split()))
    return " ".join(sentences)


def _licence(text: str) -> dict[str, Any]:
    """The licence as an entity: of SPDX, at a URL, or a text of its own."""
    if not text:
        return {
            "@id": "#licence",
            "@type": "CreativeWork",
            "name": "not stated: ask the authors before use",
        }
    if text.startswith(("https://", "http://")):
        return {"@id": text, "@type": "CreativeWork", "name": text}
    if LICENCE_ID.fullmatch(text):
        return {"@id": f"{SPDX}{text}", "@type": "CreativeWork", "name": text}
    return {"@id": "#licence", "@type": "CreativeWork", "name": text}


def _listed(results: Path) -> list[Path]:
    """Files that are listed one by one, report first; no link, which may lead outside."""
    paths = [path for name in BESIDE for path in sorted(results.glob(name))]
    for name in LISTED:
        paths += sorted((results / name).rglob("*"))
    return [path for path in paths if _is_result(path, results)]


def _is_result(path: Path, results: Path) -> bool:
    inside = path.relative_to(results)
    hidden = any(part.startswith(".") for part in inside.parts)
    parents = [results / parent for parent in inside.parents]
    linked = path.is_symlink() or any(parent.is_symlink() for parent in parents[:-1])
    return path.is_file() and not hidden and not linked


def _file(path: Path, results: Path) -> dict[str, Any]:
    kind = ENDINGS.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return {
        "@id": quote(path.relative_to(results).as_posix()),
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": kind or "application/octet-stream",
        "sha256": file_digest(path),
    }


def _folder(path: Path, results: Path, meaning: str) -> dict[str, Any]:
    files = [file for file in path.rglob("*") if _is_result(file, results)]
    size = sum(file.stat().st_size for file in files)
    return {
        "@id": f"{quote(path.relative_to(results).as_posix())}/",
        "@type": "Dataset",
        "name": path.name,
        "description": f"{meaning}: {len(files)} files, {size} bytes",
    }


def _ids(entities: Iterable[dict[str, Any]]) -> Sequence[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]
