"""Inputs tried in forked workers with limits; every fault of a reader becomes a finding."""

import contextlib
import errno
import faulthandler
import functools
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mil.config import heads
from mil.errors import MilError
from tests.fuzz.doors import BY_NAME, Door, OurFaultError
from tests.fuzz.inputs import input_of, write
from tests.fuzz.watch import ForbiddenActionError, forbid

# A hang: more than this in a reader's own time, or this much longer on a busy machine, where a
# second of computing may take half a minute.
SECONDS = 5.0
PATIENCE = 24.0
# More memory than this beyond what the worker holds is a finding; the limit that the system
# enforces is twice that, so that the machine stays usable.
LARGEST_BYTES = 1 << 30
# Errors of the system that the command line turns into one line.
MENDABLE = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
MENDABLE |= {errno.ENAMETOOLONG, errno.EROFS}
# Nobody reads more of an error.
LONGEST_MESSAGE = 5000
MOST_LINES = 50
# Inputs that one worker tries; memory that readers leak is gone with it.
CHUNK = 200
POLL_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
# Progress of a worker, shared with its parent: index of the input (MAKING minus the index while
# it is made), and its begin in process time and by the clock, seconds. Each is stored at once:
# struct would zero all first, and the parent may look in between.
INDEX, BEGAN, BEGAN_CLOCK = 0, 8, 16
PROGRESS_BYTES = 24
DOUBLE = struct.Struct("<d")
MAKING = -1

Job = tuple[str, int]


@dataclass(frozen=True)
class Finding:
    """A fault of a reader.

    Attributes:
        door: name of the door.
        number: number of the input.
        kind: class of the exception, or `hang`, `crash`, `memory`, `forbidden`, `lines`,
            `unnamed`.
        place: line of mil that the exception came from.
        message: message of the exception.
    """

    door: str
    number: int
    kind: str
    place: str
    message: str

    @property
    def repeat(self) -> str:
        """Command that repeats it."""
        return f"python -m tests.fuzz --repeat {self.door} {self.number}"


@dataclass
class Totals:
    """Inputs and seconds of each door, and its slowest input."""

    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_number: int = 0
    refused: int = 0

    def add(self, number: int, seconds: float, *, refused: bool) -> None:
        self.inputs += 1
        self.refused += refused
        self.seconds += seconds
        if seconds > self.slowest:
            self.slowest, self.slowest_number = seconds, number


@dataclass
class _Worker:
    pid: int
    jobs: Sequence[Job]
    progress: mmap.mmap
    folder: Path
    report: int
    stack: Any

    def close(self) -> None:
        os.close(self.report)
        self.stack.close()
        self.progress.close()


class Pool:
    """Workers that try inputs.

    Args:
        workers: number of processes.
        seconds: time that an input may take.
        largest_bytes: memory that an input may take.
    """

    def __init__(
        self, workers: int, seconds: float = SECONDS, largest_bytes: int = LARGEST_BYTES
    ) -> None:
        self.seconds = seconds
        self.largest_bytes = largest_bytes
        self.totals: dict[str, Totals] = {}
        self._number = workers
        self._workers: list[_Worker] = []
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
        self._canary = self._folder / "canary_of_the_fuzz_harness"

    def run(self, jobs: Sequence[Job]) -> Iterator[Finding]:
        """Findings of all inputs, in any order."""
        size = max(min(CHUNK, -(-len(jobs) // self._number)), 1)
        waiting = [jobs[start : start + size] for start in range(0, len(jobs), size)][::-1]
        try:
            while waiting or self._workers:
                while waiting and len(self._workers) < self._number:
                    self._workers.append(self._fork(waiting.pop()))
                time.sleep(POLL_S)
                for worker in list(self._workers):
                    left, findings = self._look_after(worker)
                    yield from findings
                    if left is not None:
                        self._workers.remove(worker)
                        if left:
                            waiting.append(left)
        finally:
            for worker in self._workers:
                _kill(worker.pid)
                worker.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _fork(self, jobs: Sequence[Job]) -> _Worker:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        progress = mmap.mmap(-1, PROGRESS_BYTES)
        _tell(progress, MAKING, 0.0)
        report = os.open(folder.with_suffix(".report"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        stack = folder.with_suffix(".stack").open("w+")
        with warnings.catch_warnings():
            # Python 3.12 warns of forks beside threads; there are none.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setpgid(0, 0)
                self._work(jobs, progress, folder, report, stack)
                status = 0
            except BaseException:  # noqa: BLE001  a fault of the harness: the parent tells it
                os.write(report, f"harness {traceback.format_exc()}\n".encode())
            finally:
                os._exit(status)
        return _Worker(pid, jobs, progress, folder, report, stack)

    def _look_after(self, worker: _Worker) -> tuple[Sequence[Job] | None, list[Finding]]:
        """Jobs that a worker has left, None while it works, and what it found."""
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        index = int(_told(worker.progress, INDEX))
        began = _told(worker.progress, BEGAN)
        began_clock = _told(worker.progress, BEGAN_CLOCK)
        reason = ""
        if not pid:
            reason = self._overdue(worker, began, began_clock)
            if not reason:
                return None, []
            os.kill(worker.pid, signal.SIGUSR1)
            time.sleep(0.3)
            _kill(worker.pid)
        else:
            _kill(worker.pid, wait=False)
        findings = self._reported(worker)
        place = _place_in_dump(worker)
        worker.close()
        if pid and os.waitstatus_to_exitcode(status) == 0:
            return [], findings
        making = index < 0
        if making:
            index = MAKING - index
        door, number = worker.jobs[index]
        if making:
            findings.append(Finding(door, number, "harness", place, "the input cannot be made"))
            return worker.jobs[index + 1 :], findings
        if reason:
            findings.append(Finding(door, number, "hang", place, reason))
        else:
            end = os.waitstatus_to_exitcode(status)
            findings.append(Finding(door, number, "crash", place, f"exit code {end}"))
        return worker.jobs[index + 1 :], findings

    def _overdue(self, worker: _Worker, began: float, began_clock: float) -> str:
        taken = _process_time(worker.pid) - began
        if taken > self.seconds:
            return f"over {self.seconds:g} s of computing"
        if time.monotonic() - began_clock > self.seconds * PATIENCE:
            return f"over {self.seconds * PATIENCE:g} s"
        return ""

    def _reported(self, worker: _Worker) -> list[Finding]:
        """Findings that a worker has written before its end."""
        findings = []
        text = os.pread(worker.report, os.fstat(worker.report).st_size, 0).decode()
        text, _, fault = text.partition("harness ")
        if fault:
            print(f"FAULT OF THE HARNESS: {fault}", file=sys.stderr, flush=True)
        for line in text.splitlines():
            if line.startswith("total "):
                for door, values in json.loads(line[6:]).items():
                    self._add(door, Totals(**values))
            elif line.startswith("{"):
                findings.append(Finding(**json.loads(line)))
        return findings

    def _add(self, door: str, more: Totals) -> None:
        total = self.totals.setdefault(door, Totals())
        total.inputs += more.inputs
        total.refused += more.refused
        total.seconds += more.seconds
        if more.slowest > total.slowest:
            total.slowest, total.slowest_number = more.slowest, more.slowest_number

    # --- in the worker
    def _work(
        self, jobs: Sequence[Job], progress: mmap.mmap, folder: Path, report: int, stack: Any
    ) -> None:
        faulthandler.enable(stack, all_threads=False)
        faulthandler.register(signal.SIGUSR1, stack, all_threads=False)
        peak = _settle(folder, 2 * self.largest_bytes)
        actions = os.open(folder.with_suffix(".actions"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        forbid(folder, self._canary, actions)
        totals: dict[str, Totals] = {}
        for index, (name, number) in enumerate(jobs):
            began = time.process_time()
            _tell(progress, MAKING - index, began)
            door = BY_NAME[name]
            inside, out = folder / "in", folder / "out"
            for each in (inside, out):
                shutil.rmtree(each, ignore_errors=True)
                each.mkdir()
            write(input_of(door, number), inside)
            began = time.process_time()
            _tell(progress, index, began)
            peak.reset()
            done = os.fstat(actions).st_size
            finding, refused = attempt(door, number, inside, out)
            seconds = time.process_time() - began
            taken = peak.taken()
            if finding is None and taken > self.largest_bytes:
                finding = Finding(name, number, "memory", "", f"takes {taken >> 20} MB")
            # Whatever became of the exception on its way, or in a child process.
            action = os.pread(actions, 1000, done).decode("utf-8", "replace").strip()
            if action:
                place = finding.place if finding else ""
                finding = Finding(name, number, "forbidden", place, action)
            if finding is not None:
                os.write(report, f"{json.dumps(asdict(finding))}\n".encode())
            totals.setdefault(name, Totals()).add(number, seconds, refused=refused)
        content = json.dumps({name: asdict(total) for name, total in totals.items()})
        os.write(report, f"total {content}\n".encode())


def _tell(progress: mmap.mmap, index: int, began: float) -> None:
    """Store which input is at work; the times first, so that it never looks overdue."""
    for place, value in ((BEGAN_CLOCK, time.monotonic()), (BEGAN, began), (INDEX, float(index))):
        progress[place : place + 8] = DOUBLE.pack(value)


def _told(progress: mmap.mmap, place: int) -> float:
    return float(DOUBLE.unpack_from(progress, place)[0])


class _Peak:
    """Largest memory that this process has taken since it was reset, bytes."""

    def __init__(self) -> None:
        self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._held = 0

    def _field(self, name: bytes) -> int:
        text = os.pread(self._status, 4096, 0)
        return int(text.partition(name)[2].split(None, 1)[0]) << 10

    def reset(self) -> None:
        os.write(self._clear, b"5")
        self._held = self._field(b"VmRSS:")

    def taken(self) -> int:
        return self._field(b"VmHWM:") - self._held


def _settle(folder: Path, most_bytes: int) -> _Peak:
    """Limits and surroundings of a worker."""
    os.chdir(folder)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = str(folder)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + most_bytes, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Looking through all installed packages takes longer than most inputs.
    heads.entry_points = functools.cache(heads.entry_points)
    return _Peak()


def attempt(door: Door, number: int, inside: Path, out: Path) -> tuple[Finding | None, bool]:
    """Enter a door with an input.

    Returns:
        A finding if the reader is at fault, and whether it refused the input.
    """

    def found(kind: str, error: BaseException | None, message: str) -> Finding:
        place = "" if error is None else _place(error)
        return Finding(door.name, number, kind, place, " ".join(message.split())[:300])

    try:
        for line in door.enter(inside, out) or ():
            if "\n" in line:
                return found("lines", None, line), False
    except MilError as error:
        message = str(error)
        if _has_memory_error(error):
            return found("memory", error, message), True
        if not _is_short(message):
            return found("lines", error, message), True
        names = {path.name for path in inside.rglob("*")} | {str(inside), str(out)}
        if door.named and not any(name in message for name in names):
            return found("unnamed", error, message), True
        return None, True
    except OSError as error:
        # The command line turns these into one line.
        if error.errno in MENDABLE and error.filename:
            return None, True
        return found(type(error).__name__, error, str(error)), False
    except OurFaultError as error:
        return found("caught", error, str(error)), False
    except ForbiddenActionError as error:
        return found("forbidden", error, str(error)), False
    except BaseException as error:  # noqa: BLE001  that is what is sought
        kind = "memory" if isinstance(error, MemoryError) else type(error).__name__
        return found(kind, error, str(error)), False
    return None, False


def _is_short(message: str) -> bool:
    """Whether a message is one line, or one line and a list of faults, and what to try."""
    first, *others = message.splitlines() or [""]
    if others and others[-1].startswith("try: "):
        others.pop()
    listed = first.endswith(":") and all(line.lstrip().startswith("- ") for line in others)
    return len(message) < LONGEST_MESSAGE and (not others or (listed and len(others) < MOST_LINES))


def _has_memory_error(error: BaseException) -> bool:
    """Whether more memory than the limit was asked for on the way."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return False
        if isinstance(cause, MemoryError):
            return True
        cause = cause.__context__
    return False


def _place(error: BaseException) -> str:
    """Innermost line of mil, and innermost line at all where that is another library's."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/mil/" in frame.filename]
    if not ours:
        ours = frames[-1:]
    last = ours[-1]
    place = f"{last.filename.rpartition('/mil/')[2]}:{last.lineno} {last.name}"
    if frames[-1] is not last:
        inner = frames[-1]
        place += f" < {Path(inner.filename).name}:{inner.lineno} {inner.name}"
    return place


def _place_in_dump(worker: _Worker) -> str:
    """Innermost line of mil in the stack that faulthandler wrote."""
    worker.stack.seek(0)
    lines = [line.strip() for line in worker.stack if line.startswith("  File")]
    ours = [line for line in lines if "/mil/" in line]
    chosen = ours[0].rpartition("/mil/")[2] if ours else ""
    if lines and lines[0] not in ours[:1]:
        chosen += f" < {lines[0].rpartition('/')[2]}"
    return chosen.replace('", line ', ":").replace(" in ", " ")


def _process_time(pid: int) -> float:
    """Seconds of computing of a process, without its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _kill(pid: int, *, wait: bool = True) -> None:
    """End a worker and its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if wait:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
