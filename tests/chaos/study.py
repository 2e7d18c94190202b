"""A study in a folder of its own: its run started, waited for, and copied as it stands."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mil.fetch.stage import run as fetch
from mil.io.tables import read_dataset

if TYPE_CHECKING:
    from tests.chaos.store import MortalLine

ROOT = Path(__file__).parents[2]
DATASET = "demo_mini"
HEAD = "abmil"
CONFIG = (f"dataset={DATASET}", f"head={HEAD}")
# Of a run that hangs; a busy machine takes a minute for a few seconds of computing.
SECONDS = 1800


@dataclass
class Study:
    """A folder in which the small demo runs.

    Attributes:
        folder: Folder that the run is started in.
        config: Settings of the run, `key=value`.
        variables: Environment variables of the run beside those of this process.
        line: Line to the store of its slides; None: they are all here.
    """

    folder: Path
    config: Sequence[str] = CONFIG
    variables: Mapping[str, str] = field(default_factory=dict)
    line: "MortalLine | None" = None

    @property
    def output(self) -> Path:
        """File that holds what the last run showed its user; on no disk of the study's."""
        return self.folder.with_name(f"{self.folder.name}.shown")

    @property
    def began(self) -> Path:
        """Empty file whose time of change is that of the last run's begin."""
        return self.folder.with_name(f"{self.folder.name}.began")

    @property
    def temporary(self) -> Path:
        """Folder of the run's temporary files."""
        return self.folder / "temporary"

    @contextmanager
    def started(self, *arguments: str, ends_jobs: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        """A run in a process group of its own, which does not outlive the block.

        Args:
            *arguments: Further arguments of Snakemake.
            ends_jobs: Whether its jobs are ended too.
        """
        self.temporary.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
        command += ["--cores", "2", *arguments, "--config", *self.config]
        variables = {"COLUMNS": "200", "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        self.began.touch()
        with self.output.open("wb") as shown:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **variables, **self.variables},
                stdout=shown,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                if ends_jobs:
                    kill_group(process.pid)
                process.kill()
                process.wait()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code of a run to its end, and what it showed."""
        with self.started(*arguments) as process:
            code = process.wait(timeout=SECONDS)
        return code, self.shown()

    def shown(self) -> str:
        """What the last run showed its user."""
        return self.output.read_text(errors="replace")

    def slides_kilobytes(self) -> int:
        """Size of the slides."""
        files = (self.folder / "data").rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file()) // 1024

    def copied(self, folder: Path) -> "Study":
        """A copy of the folder as it stands: content and times; nothing is shared."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        return Study(folder, self.config, self.variables)


def new_study(folder: Path) -> Study:
    """A folder with the demo's slides, so that a run of it fetches nothing."""
    config, table = read_dataset(DATASET)
    slides = folder / config.folder(DATASET)
    for row in table:
        fetch(row.url, slides / row.path)
        if row.annotation_url:
            fetch(row.annotation_url, slides / row.annotation)
    return Study(folder)


def kill_group(leader: int) -> None:
    """Kill all processes of a group that are left."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    # Until the last one has closed its files.
    while _is_group_alive(leader):
        time.sleep(0.01)


def _is_group_alive(leader: int) -> bool:
    return any(group == leader and state != "Z" for _, group, state, _ in processes())


def jobs_of(leader: int) -> list[int]:
    """Numbers of the running `mil` commands of a run."""
    return [
        pid
        for pid, group, state, words in processes()
        # After Python's own options.
        if group == leader and state != "Z" and "mil" in [Path(word).name for word in words[1:3]]
    ]


def processes() -> Iterator[tuple[int, int, str, list[str]]]:
    """Number, group, state and command line of all processes."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        yield int(entry.name), int(fields[2]), fields[0], words
