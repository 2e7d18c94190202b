"""URL in, file out."""

import hashlib
import re
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from mil.errors import DatasetError
from mil.io.atomic import atomic_path
from mil.progress import progress
from mil.versions import TOOL_VERSION

SCHEMES = ("https", "http", "file", "demo")
TIMEOUT_S = 60.0  # without a byte
MEGABYTE = 1 << 20
CHECKSUM = re.compile(r"(sha256):([0-9a-f]{64})|(md5):([0-9a-f]{32})", re.IGNORECASE)


def run(url: str, out: Path, *, checksum: str = "") -> int:
    """Fetch one file; it appears under its name when it is whole and its checksum is right.

    Args:
        url: `https:`, `http:` or `file:`; or `demo:NAME`, which makes a slide or
            annotation of the demo.
        out: where to put it.
        checksum: `sha256:HEX` or `md5:HEX`; empty: not checked.

    Returns:
        Size of the file, bytes.

    Raises:
        DatasetError: the URL cannot be fetched, or the file is not the one the checksum
            is of.
    """
    scheme, _, rest = url.partition(":")
    if scheme.lower() not in SCHEMES or not rest:
        kinds = ", ".join(f"{name}:" for name in SCHEMES)
        raise DatasetError(
            f"{url!r}: cannot be fetched, only {kinds}; get the file by hand and put it at {out}"
        )
    algorithm, digest = _checksum(checksum, url)
    with atomic_path(out) as scratch:
        if scheme.lower() == "demo":
            # Here, so that fetching from the network needs nothing of the demo.
            from mil.demo.stage import make

            make(rest, scratch)
        else:
            _download(url, scratch, out)
        if algorithm:
            with scratch.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if found != digest:
                raise DatasetError(
                    f"{url}: its {algorithm} is {found}, not {digest}; try again, or correct the "
                    "slide table"
                )
        return scratch.stat().st_size


def _checksum(text: str, url: str) -> tuple[str, str]:
    if not text:
        return "", ""
    match = CHECKSUM.fullmatch(text.strip())
    if not match:
        raise DatasetError(
            f"{url}: checksum {text!r} is not sha256: and 64 digits, or md5: and 32 (0-9, a-f)"
        )
    algorithm, digest = filter(None, match.groups())
    return algorithm.lower(), digest.lower()


def _download(url: str, scratch: Path, out: Path) -> None:
    by_hand = f"check the url and the network, or get it by hand and put it at {out}"
    try:
        request = Request(url, headers={"User-Agent": f"mil/{TOOL_VERSION}"})
        with urlopen(request, timeout=TIMEOUT_S) as response:
            expected = int(response.headers.get("Content-Length") or 0)
            received = _copy(response, scratch, url, expected)
    except HTTPError as error:
        error.close()
        raise DatasetError(
            f"{url}: the server says {error.code} {error.reason}; {by_hand}"
        ) from None
    except (URLError, HTTPException, SSLError, TimeoutError, ConnectionError, ValueError) as error:
        raise DatasetError(f"{url}: {getattr(error, 'reason', error)}; {by_hand}") from None
    # Python's HTTP client does not say when a server stops early.
    if received < expected:
        raise DatasetError(f"{url}: cut short, {received} of {expected} bytes came; try again")


def _copy(response: HTTPResponse, scratch: Path, url: str, expected: int) -> int:
    """Write what comes; returns how many bytes did."""
    name = Path(urlsplit(url).path).name
    received = 0
    with scratch.open("wb") as file, progress(name, max(1, expected // MEGABYTE), "MB") as advance:
        while chunk := response.read(MEGABYTE):
            file.write(chunk)
            done = received // MEGABYTE
            received += len(chunk)
            advance(received // MEGABYTE - done)
    return received
