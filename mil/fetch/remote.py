"""A file at a URL: its facts, and its bytes from any position on."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from mil.errors import DatasetError

SCHEMES = ("https", "http", "s3", "file", "demo")
# An ETag of a file that S3 received in parts ends in their number.
MD5_ETAG = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,4}))?")


class CutError(Exception):
    """The connection failed or broke off; a later attempt may succeed."""


class ChangedError(Exception):
    """The file at the URL is another than the one whose first bytes have arrived."""


@dataclass(frozen=True)
class Facts:
    """What a server states of a file.

    Attributes:
        size: Size, bytes; 0: not stated.
        validator: Text that changes with the file, such as its ETag; empty: none.
        md5_etag: ETag that is an MD5, or one of parts; empty: none.
    """

    size: int = 0
    validator: str = ""
    md5_etag: str = ""


class Response(NamedTuple):
    """Bytes of a file on their way.

    Attributes:
        facts: What the server states of the whole file.
        start: Position of the first byte: the one asked for, or 0.
        read: Function that returns at most so many further bytes; none at the end.
    """

    facts: Facts
    start: int
    read: Callable[[int], bytes]


class Remote(Protocol):
    """A file at a URL."""

    @property
    def url(self) -> str:
        """The URL."""

    def facts(self) -> Facts:
        """What the server states of the file.

        Raises:
            CutError: The server does not answer.
            DatasetError: The server does not give the file.
        """

    def open(self, start: int, validator: str) -> AbstractContextManager[Response]:
        """The file's bytes from a position on.

        Args:
            start: Position of the first byte.
            validator: Validator of the file whose bytes before `start` have arrived.

        Raises:
            CutError: The server does not answer.
            ChangedError: The file has another validator now.
            DatasetError: The server does not give the file.
        """

    def part_bytes(self) -> int:
        """Size of the first of the parts in which S3 received the file, bytes; 0: not known."""


def remote_of(url: str, by_hand: Path, *, checked: bool = False) -> Remote:
    """The file at a URL of any scheme but `demo:`.

    Args:
        url: `https:`, `http:`, `s3:` or `file:`.
        by_hand: Where a user may put the file, for messages.
        checked: Whether a checksum of the file is known.

    Raises:
        DatasetError: The URL is malformed or of another scheme.
    """
    scheme, _, rest = url.partition(":")
    if scheme.lower() not in SCHEMES or not rest:
        supported = ", ".join(f"{scheme}:" for scheme in SCHEMES)
        raise DatasetError(
            f"{url!r}: cannot be fetched, only {supported}; "
            f"download the file by hand and put it at {by_hand}"
        )
    # Each scheme imports its own library.
    if scheme.lower() == "s3":
        from mil.fetch.s3 import S3File

        return S3File.of(url, by_hand)
    from mil.fetch.web import WebFile

    return WebFile(url, by_hand, checked)


def remedy(by_hand: Path) -> str:
    """What to do about a file that does not arrive."""
    return f"check the url and the network, or download it by hand and put it at {by_hand}"
