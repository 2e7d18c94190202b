"""Whether a file is the one that was asked for: its checksum, or the ETag of S3."""

import hashlib
import re
from pathlib import Path

from mil.errors import DatasetError
from mil.fetch.remote import MD5_ETAG, CutError, Remote

CHECKSUM = re.compile(r"(sha256):([0-9a-f]{64})|(md5):([0-9a-f]{32})", re.IGNORECASE)
BLOCK_BYTES = 1 << 20


def parse_checksum(text: str, url: str) -> tuple[str, str]:
    """Algorithm and digest in lower case; two empty strings for an empty checksum.

    Raises:
        DatasetError: The text is no checksum.
    """
    if not text:
        return "", ""
    match = CHECKSUM.fullmatch(text.strip())
    if not match:
        raise DatasetError(
            f"{url}: checksum {text!r} is not sha256: and 64 digits, or md5: and 32 (0-9, a-f)"
        )
    # Two of the four groups match: one algorithm and its digits.
    algorithm, digest = filter(None, match.groups())
    return algorithm.lower(), digest.lower()


def check_digest(path: Path, algorithm: str, expected: str, url: str) -> None:
    """Check a file by the digest that the slide table states.

    Raises:
        DatasetError: The file has another.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    if digest != expected:
        raise DatasetError(
            f"{url}: its {algorithm} is {digest}, not {expected}; try again, or correct the "
            "slide table"
        )


def check_etag(path: Path, etag: str, remote: Remote) -> None:
    """Check a file by the ETag of S3, if that can be computed.

    Args:
        path: File to check.
        etag: MD5 of the file; or of the MD5s of its parts, and their number.
        remote: The file at its URL.

    Raises:
        DatasetError: The file has another.
    """
    match = MD5_ETAG.fullmatch(etag)
    if match is None:
        return
    size = path.stat().st_size
    part_bytes = size
    if match[2]:
        try:
            part_bytes = remote.part_bytes()
        except (CutError, DatasetError):
            return
        # Parts of unequal sizes: nobody states which.
        if part_bytes < 1 or -(-size // part_bytes) != int(match[2]):
            return
    computed = _etag(path, part_bytes, in_parts=bool(match[2]))
    if computed != etag:
        raise DatasetError(
            f"{remote.url}: its ETag is {etag}, but that of what arrived {computed}; try again, "
            "or state its checksum in the slide table"
        )


def _etag(path: Path, part_bytes: int, *, in_parts: bool) -> str:
    digests = []
    with path.open("rb") as file:
        left = path.stat().st_size
        while True:
            md5 = hashlib.md5(usedforsecurity=False)
            in_part = min(part_bytes, left)
            while in_part and (block := file.read(min(BLOCK_BYTES, in_part))):
                md5.update(block)
                in_part -= len(block)
                left -= len(block)
            digests.append(md5)
            if left == 0 or in_part:
                break
    if not in_parts:
        return digests[0].hexdigest()
    joined = b"".join(md5.digest() for md5 in digests)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(digests)}"
