"""A file on its way to the disk: what has arrived stays, and a later run goes on there."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import FileIO
from pathlib import Path

from mil.errors import DatasetError
from mil.fetch.checks import check_digest, check_etag
from mil.fetch.remote import ChangedError, CutError, Facts, Remote, Response, remedy
from mil.io.disk import system_error
from mil.progress import progress

MEGABYTE = 1 << 20
# Bytes that are read at once: the last read of a connection that breaks off is lost.
READ_BYTES = 1 << 16
# Pauses between attempts that bring no further byte, seconds; then the download is given up.
WAITS_S = (1.0, 2.0, 4.0, 8.0)
# Prefix of what has arrived so far, beside the file that it becomes.
PREFIX = ".fetch-"


def download(remote: Remote, out: Path, by_hand: Path, *, algorithm: str, digest: str) -> int:
    """Download a file; it appears once it is complete and checked.

    Args:
        remote: The file at its URL.
        out: File to write.
        by_hand: Where a user may put the file, for messages.
        algorithm: Algorithm of the digest; empty: the ETag of S3 is checked, if there is one.
        digest: Expected digest.

    Returns:
        Size of the file, bytes.

    Raises:
        DatasetError: The file does not arrive, or is another.
    """
    with _partial_of(out, remote.url) as partial:
        _receive(remote, partial, by_hand)
        try:
            if algorithm:
                check_digest(partial.path, algorithm, digest, remote.url)
            else:
                check_etag(partial.path, partial.facts.md5_etag, remote)
        except DatasetError:
            # Other bytes on top of these would be as wrong.
            partial.restart()
            raise
        return partial.complete(out)


def received_bytes(out: Path) -> int:
    """Bytes of a file that have arrived in an earlier run."""
    with suppress(OSError):
        return _path_of(out).stat().st_size
    return 0


def _path_of(out: Path) -> Path:
    # A digest, since the file's own name may be as long as names can be.
    return out.with_name(PREFIX + blake2b(out.name.encode(), digest_size=8).hexdigest())


class _Partial:
    """What has arrived of a file, and a note of which file that is."""

    def __init__(self, out: Path, url: str, file: FileIO) -> None:
        self.path = _path_of(out)
        self.note = self.path.with_name(f"{self.path.name}.json")
        self.url = url
        self.file = file
        self.facts = self._noted()
        if not self.facts.validator:
            self.restart()
        self.received = self.file.seek(0, os.SEEK_END)

    def _noted(self) -> Facts:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            facts = Facts(int(note["size"]), str(note["validator"]), str(note["md5_etag"]))
            return facts if note["url"] == self.url else Facts()
        except (OSError, ValueError, KeyError, TypeError):
            return Facts()

    def restart(self) -> None:
        self.facts = Facts()
        self.note.unlink(missing_ok=True)
        self.file.truncate(0)
        self.received = self.file.seek(0)

    def begin(self, facts: Facts) -> None:
        """Note which file the bytes are of."""
        if facts != self.facts:
            self.facts = facts
            note = {"url": self.url, **vars(facts)}
            self.note.write_text(json.dumps(note), encoding="utf-8")

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[self.file.write(view) :]
        self.received += len(chunk)

    def complete(self, out: Path) -> int:
        os.fsync(self.file.fileno())
        self.path.replace(out)
        self.note.unlink(missing_ok=True)
        return self.received

    def leave(self) -> None:
        """Leave only what a later run can go on with."""
        if self.received and self.facts.validator:
            return
        self.note.unlink(missing_ok=True)
        # Gone where it has become the file.
        self.path.unlink(missing_ok=True)


@contextmanager
def _partial_of(out: Path, url: str) -> Iterator[_Partial]:
    """What has arrived of a file, for this process alone.

    Raises:
        OSError: The folder cannot be written to, the disk is full, or `out` is itself a
            folder; it names `out`.
        DatasetError: Another process downloads the file.
    """
    if out.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    path = _path_of(out)
    try:
        with FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
            _lock(file, path, out)
            partial = _Partial(out, url, file)
            try:
                yield partial
            finally:
                partial.leave()
    except OSError as error:
        fault = system_error(error, path, out)
        if fault is None:
            raise
        raise fault from None


def _lock(file: FileIO, path: Path, out: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, its owner may have made it the complete file.
        is_ours = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except BlockingIOError:
        is_ours = False
    # Some file systems know no locks.
    except OSError:
        return
    if not is_ours:
        raise DatasetError(f"{out}: another process downloads it; let that end, then run again")


def _receive(remote: Remote, partial: _Partial, by_hand: Path) -> None:
    """Receive all bytes that are lacking, over as many connections as that takes."""
    failures = 0
    most = partial.received
    total = max(1, partial.facts.size // MEGABYTE)
    while True:
        try:
            _receive_once(remote, partial, by_hand.name, total)
            return
        except ChangedError:
            partial.restart()
            reason = "the file changed while it was downloaded"
        except CutError as cut:
            reason = str(cut)
        failures = 0 if partial.received > most else failures
        most = max(most, partial.received)
        if failures == len(WAITS_S):
            raise DatasetError(f"{remote.url}: {reason}{_arrived(partial)}; {remedy(by_hand)}")
        time.sleep(WAITS_S[failures])
        failures += 1


def _arrived(partial: _Partial) -> str:
    if not (partial.received and partial.facts.validator):
        return ""
    return f" after {partial.received / 1e6:.0f} MB, with which the next run goes on"


def _receive_once(remote: Remote, partial: _Partial, name: str, total: int) -> None:
    if partial.facts.size and partial.received == partial.facts.size:
        return
    # Nobody could tell whether further bytes are of the same file.
    if not partial.facts.validator:
        partial.restart()
    with remote.open(partial.received, partial.facts.validator) as response:
        if response.start != partial.received:
            partial.restart()
        partial.begin(_facts_of(response, partial))
        expected = partial.facts.size
        with progress(name, max(total, expected // MEGABYTE), "MB") as advance:
            advance(partial.received // MEGABYTE)
            while chunk := response.read(READ_BYTES):
                # Progress counts whole megabytes, and a chunk is smaller than one.
                previous_mb = partial.received // MEGABYTE
                partial.write(chunk)
                if expected and partial.received > expected:
                    raise ChangedError
                advance(partial.received // MEGABYTE - previous_mb)
    # Python's HTTP client does not report a server that stops early.
    if partial.received < expected:
        raise CutError(f"truncated, {partial.received} of {expected} bytes arrived")


def _facts_of(response: Response, partial: _Partial) -> Facts:
    """Facts of the whole file, of which the bytes before the response's have arrived.

    Raises:
        ChangedError: The response is of another file: a server may ignore `If-Range`.
    """
    stated = response.facts
    if not response.start:
        return stated
    noted = partial.facts
    # Of a part, a server need not state what it stated of the whole.
    if stated.validator not in ("", noted.validator):
        raise ChangedError
    if stated.size and noted.size and stated.size != noted.size:
        raise ChangedError
    return Facts(noted.size or stated.size, noted.validator, noted.md5_etag)
