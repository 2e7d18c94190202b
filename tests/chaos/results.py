"""What a run left on the disk: digests of all results, and what should not be there."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tests.chaos.study import Study

# All that may differ between two undisturbed runs; anything else must be equal to the byte.
# Seconds that slides took.
TIMES = re.compile(r"/parts/[^/]+\.times$")
# A digest of, among others, the times of the bag files.
INPUTS = re.compile(r"/inputs\.sha256$")
# Of the report: when files were written, and the section of what the stages took.
REPORT = re.compile(r"/report\.html$")
# Where the store's chain has a slide table of its own, its digest.
TABLE = re.compile(rb"demo_mini\.csv [0-9a-f]{64}")
WRITTEN = re.compile(rb"<tr><th scope=\"row\">written</th>.*")
TOOK = re.compile(rb"<tr><td>(tile|features|score|heatmap|refine)\b.*</tr>")

SCRATCH = re.compile(r"(^|/)\.(partial|fetch)-")


class File(NamedTuple):
    """A file as it stands."""

    inode: int
    time_ns: int
    digest: str


def files_of(study: Study, *folders: str) -> dict[str, File]:
    """Files below folders of a study, by their path in it."""
    files = {}
    for folder in folders or ("results", "data"):
        for path in sorted((study.folder / folder).rglob("*")):
            # Jobs of a killed run may live on, and rename what they wrote.
            with suppress(FileNotFoundError):
                if path.is_file():
                    name = str(path.relative_to(study.folder))
                    stat = path.stat()
                    files[name] = File(stat.st_ino, stat.st_mtime_ns, digest(name, path))
    return files


def digest(name: str, path: Path) -> str:
    """Digest of what must not differ of a file."""
    if TIMES.search(name) or INPUTS.search(name):
        return "may differ"
    content = path.read_bytes()
    if REPORT.search(name):
        content = TABLE.sub(b"", TOOK.sub(b"", WRITTEN.sub(b"", content)))
    return sha256(content).hexdigest()


def differences(expected: Mapping[str, File], files: Mapping[str, File]) -> list[str]:
    """Results that are lost, added, or not as in the undisturbed run, a line each."""
    lines = [f"lost: {name}" for name in expected if name not in files]
    lines += [f"left behind: {name}" for name in files if name not in expected]
    return lines + changed(expected, files)


def changed(expected: Mapping[str, File], files: Mapping[str, File]) -> list[str]:
    """Results that are there, but not as in the undisturbed run."""
    return [
        f"differs: {name}"
        for name, file in files.items()
        if name in expected and file.digest != expected[name].digest
    ]


def half_written(
    expected: Mapping[str, File], files: Mapping[str, File], damaged: Iterable[str]
) -> list[str]:
    """What a fault left under the name of a result that is not that result, whole."""
    lines = [f"half-written, {line}" for line in changed(expected, files)]
    known = {f"half-written, differs: {name}" for name in damaged}
    added = [name for name in files if name not in expected and not SCRATCH.search(name)]
    return [line for line in lines if line not in known] + [
        f"unknown: {name}" for name in added if not name.endswith("/checkpoint.safetensors")
    ]


def made_again(
    before: Mapping[str, File], after: Mapping[str, File], exempt: Iterable[str] = ()
) -> list[str]:
    """Files that were whole before a run, and were written by it all the same."""
    patterns = [re.compile(pattern) for pattern in exempt]
    return [
        f"made again: {name}"
        for name, file in before.items()
        if name in after
        and after[name][:2] != file[:2]
        and not any(pattern.search(name) for pattern in patterns)
    ]


def _is_of_snakemake(path: Path) -> bool:
    """Whether it is the empty folder that Snakemake cannot remove when it is killed."""
    return path.is_dir() and path.name.startswith("snakemake") and not any(path.iterdir())


def left_behind(study: Study) -> list[str]:
    """Temporary files, locks and records that a finished run leaves."""
    records = study.folder / ".snakemake"
    left = [path for name in ("locks", "incomplete") for path in (records / name).glob("*")]
    left += [path for path in (records / "mil_run.json",) if path.exists()]
    temporary = list(study.temporary.iterdir()) if study.temporary.is_dir() else []
    left += [path for path in temporary if not _is_of_snakemake(path)]
    left += [
        path
        for folder in ("results", "data", "logs")
        for path in (study.folder / folder).rglob("*")
        if SCRATCH.search(path.name) or path.name == "checkpoint.safetensors"
    ]
    return [f"left behind: {path.relative_to(study.folder)}" for path in left]
