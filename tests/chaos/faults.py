"""Faults: each strikes a run, and is mended before the same command is given again."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import mounts
from tests.chaos.moments import POLL_S, Moment, reached
from tests.chaos.study import Study, jobs_of, kill_group

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class Struck:
    """What a fault did to a run.

    Attributes:
        code: Exit code of the run; None: it was killed.
        shown: What it showed.
        hit: Whether the fault came before the run's end.
        damaged: Files that the fault itself changed.
    """

    code: int | None
    shown: str
    hit: bool = True
    damaged: tuple[str, ...] = ()


Strike = Callable[[Study], Struck]


def nothing(study: Study) -> None:
    """The user does nothing but give the same command again."""


@dataclass(frozen=True)
class Fault:
    """A fault and what is expected of a run that meets it.

    Attributes:
        kind: Kind, for the counts.
        name: Name of this one.
        strike: Starts a run and brings the fault about.
        expected: Patterns of lines that the user must be shown.
        may_pass: Whether the run may also end well, because it mends the fault itself.
        exempt: Patterns of files that may be made again after it, though they are whole.
        mend: What the user does before the same command.
    """

    kind: str
    name: str
    strike: Strike
    expected: tuple[str, ...] = ()
    may_pass: bool = False
    exempt: tuple[str, ...] = ()
    mend: Callable[[Study], None] = nothing


@dataclass(frozen=True)
class Chain:
    """Faults of one study, one after another, and a run to its end.

    Attributes:
        name: Name of the chain.
        faults: Faults; the same command follows each.
        is_finished: Whether the study starts from its end, not from its slides.
        disk: Size of a disk of its own for the study, MB; 0: none.
        is_remote: Whether some slides are in a store, to which the faults cut the line.
    """

    name: str
    faults: tuple[Fault, ...]
    is_finished: bool = False
    disk: int = 0
    is_remote: bool = False

    @property
    def needs_mounts(self) -> bool:
        """Whether it needs disks of its own."""
        return bool(self.disk) or any(fault.kind == "read-only" for fault in self.faults)


def kill_all(moment: Moment) -> Strike:
    """Kill a run and all its jobs at once, as a power cut does."""

    def strike(study: Study) -> Struck:
        with study.started() as process:
            hit = reached(study, moment, process)
            kill_group(process.pid)
            code = process.wait()
        return Struck(None if hit else code, study.shown(), hit)

    return strike


def kill_run(moment: Moment) -> Strike:
    """Kill Snakemake alone: its jobs live on, and the next run has to wait for them."""

    def strike(study: Study) -> Struck:
        with study.started(ends_jobs=False) as process:
            hit = reached(study, moment, process)
            process.kill()
            code = process.wait()
        return Struck(None if hit else code, study.shown(), hit)

    return strike


def kill_job(moment: Moment) -> Strike:
    """Kill one job's process, as a system short of memory does."""

    def strike(study: Study) -> Struck:
        with study.started() as process:
            hit = reached(study, moment, process)
            jobs = jobs_of(process.pid)
            for pid in jobs[:1]:
                os.kill(pid, signal.SIGKILL)
            code = process.wait()
        return Struck(code, study.shown(), hit and bool(jobs))

    return strike


def fill_disk(share: float, kilobytes: int) -> Strike:
    """Run on a disk that holds only a share of what is still to be written.

    Args:
        share: Share of it, 0 to 1.
        kilobytes: Size of all that an undisturbed run writes.
    """

    def strike(study: Study) -> Struck:
        used = mounts.used_kilobytes(study.folder)
        written = used - study.slides_kilobytes()
        mounts.resize(study.folder, used + int(share * max(kilobytes - written, 0)))
        code, shown = study.run()
        mounts.resize(study.folder, used + 10**6)
        return Struck(code, shown, code != 0)

    return strike


def make_read_only(moment: Moment, folder: str) -> Strike:
    """Make a folder read-only in mid-run, as a file system does after an error."""

    def strike(study: Study) -> Struck:
        with study.started() as process:
            hit = reached(study, moment, process)
            with mounts.read_only(study.folder / folder):
                code = process.wait()
        return Struck(code, study.shown(), hit)

    return strike


def take_slide_away(moment: Moment, slide: str) -> Strike:
    """Take a slide away in mid-run; it is given back, with its old time, after the run."""

    def strike(study: Study) -> Struck:
        file = study.folder / "data/demo_mini" / slide
        kept = study.folder.with_name(f"{study.folder.name}.{slide}")
        with study.started() as process:
            hit = reached(study, moment, process)
            shutil.move(file, kept)
            code = process.wait()
        shutil.move(kept, file)
        return Struck(code, study.shown(), hit)

    return strike


def cut_off(sent_bytes: int) -> Strike:
    """Cut the line to the store in the middle of a slide; it is back before the next run.

    Args:
        sent_bytes: Bytes of a slide after which the line is dead.
    """

    def strike(study: Study) -> Struck:
        line = study.line
        assert line is not None, "the study has no store"
        line.die_after(sent_bytes)
        code, shown = study.run()
        hit = line.is_dead
        line.revive()
        return Struck(code, shown, hit)

    return strike


def flip(path: Path) -> None:
    """Change one byte in 509 of the latter half of a file, where its numbers are."""
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content), 509):
        content[place] ^= 0x41
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Cut a file to two thirds."""
    os.truncate(path, path.stat().st_size * 2 // 3)


def silently(how: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same damage, but the file's time of change stays, as on a failing disk."""

    def damage(path: Path) -> None:
        stat = path.stat()
        how(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return damage


def corrupt(name: str, how: Callable[[Path], None], until: str = "") -> Strike:
    """Corrupt a file between two runs.

    Args:
        name: File, its path in the study.
        how: What happens to it.
        until: Last stage of a run before that; empty: all is there already.
    """

    def strike(study: Study) -> Struck:
        if until:
            code, shown = study.run("--until", until)
            if code:
                return Struck(code, shown, hit=False)
        how(study.folder / name)
        code, shown = study.run()
        return Struck(code, shown, damaged=(name,))

    return strike


def damage_checkpoint(how: Callable[[Path], None]) -> Strike:
    """Kill a training that has saved a checkpoint, and damage that.

    The head that was finished from it is removed too, as where a cluster clears what a
    job that failed has written.

    Args:
        how: What happens to the checkpoint.
    """

    def strike(study: Study) -> Struck:
        with study.started() as process:
            while process.poll() is None and not _checkpoints(study):
                time.sleep(POLL_S)
            kill_group(process.pid)
            process.wait()
        checkpoints = _checkpoints(study)
        if not checkpoints:
            return Struck(process.returncode, study.shown(), hit=False)
        how(checkpoints[0])
        for path in checkpoints[0].parent.iterdir():
            if path.name != CHECKPOINT:
                path.unlink()
        return Struck(None, study.shown())

    return strike


def _checkpoints(study: Study) -> list[Path]:
    return sorted((study.folder / "results").rglob(CHECKPOINT))


# Advice of an error, and the file that it is about.
DELETE = re.compile(r"(?P<path>(results|data)/[^\s:;]+): .*?delete (it|this one)")


def follow_advice(study: Study) -> None:
    """Delete the files of a run that its errors say to delete."""
    for path in advised(study.shown()):
        (study.folder / path).unlink(missing_ok=True)


def advised(shown: str) -> list[str]:
    """Files that the errors of a run say to delete."""
    return [match["path"] for match in DELETE.finditer(shown)]


def files_named(shown: str, names: Sequence[str]) -> list[str]:
    """Files of these that a run's output does not name."""
    return [name for name in names if name not in shown]
