"""torchmil: a .npy file of features for each slide, and one of corners, in level-0 pixels."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Shaped

from mil.errors import FormatError, brief
from mil.interop.untrusted import check_feature_shape, finite_rows

# A slide of two million tiles of 1024 float32 features.
MAX_MEMBER_BYTES = 8 << 30
# Features are noise to a compressor; corners are not.
MAX_RATIO = 100
MAX_MEMBERS = 1_000_000
# Headers of long names and other attributes, which `tarfile` reads as a whole.
MAX_HEADER_BYTES = 1 << 20
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Member(tarfile.TarInfo):
    """A member of an archive, whose headers take no more memory than a name needs."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in HEADERS and member.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        return member


def read_npy(path: Path, location: str) -> Shaped[np.ndarray, "..."]:
    """Numbers of a .npy file; nothing is unpickled, and no claimed size is believed.

    Args:
        path: The file.
        location: Name for messages.

    Raises:
        FormatError: It is no such file, or is truncated.
    """
    try:
        # Mapped, so that a shape larger than the file is refused and takes no memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged header fails in as many ways as Python's parser has
        reason = brief(error)
        raise FormatError(
            f"{location}: not a .npy file of numbers, cut short or damaged ({reason})"
        ) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise FormatError(f"{location}: holds no numbers")
    return array


def read_npy_features(path: Path, location: str) -> Shaped[np.ndarray, "tiles dim"]:
    """Features of each tile, all finite.

    Args:
        path: File of one slide.
        location: Name for messages.

    Raises:
        FormatError: They cannot be features.
    """
    array = read_npy(path, location)
    check_feature_shape(array.shape, array.dtype.kind, location)
    return finite_rows(np.array(array), location)


@contextmanager
def npy_members(
    archive: Path, scratch: Path, location: str
) -> Iterator[Iterator[tuple[str, Path]]]:
    """Name and file of each .npy of an archive, one after the other.

    Each file is there until the next one is asked for. Nothing but the content of
    regular files is taken from the archive, under names of our own.

    Args:
        archive: The .tar.gz.
        scratch: File to unpack to.
        location: Name of the archive for messages.

    Raises:
        FormatError: The archive is damaged, or claims far more than it has.
    """
    # A pipe would be waited for without end.
    if not archive.is_file():
        raise FormatError(f"{location}: not a file")
    try:
        with tarfile.open(archive, "r|*", tarinfo=_Member) as opened:
            yield _members(opened, archive, scratch, location)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = brief(error)
        raise FormatError(f"{location}: not a .tar.gz, cut short or damaged ({reason})") from None
    finally:
        scratch.unlink(missing_ok=True)


def _members(
    opened: tarfile.TarFile, archive: Path, scratch: Path, location: str
) -> Iterator[tuple[str, Path]]:
    total = 0
    most = MAX_RATIO * archive.stat().st_size
    for number, member in enumerate(opened):
        total += member.size
        if number >= MAX_MEMBERS or member.size > MAX_MEMBER_BYTES or total > most:
            raise FormatError(f"{location}: claims to hold far more than its size")
        name = PurePosixPath(member.name)
        if not member.isfile() or name.suffix != ".npy":
            continue
        content = opened.extractfile(member)
        if content is None:
            continue
        with scratch.open("wb") as unpacked:
            while block := content.read(1 << 20):
                unpacked.write(block)
        yield name.stem, scratch
