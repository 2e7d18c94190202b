"""URL in, file out."""

import hashlib
import re
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

from mil.errors import DatasetError
from mil.io.atomic import atomic_path
from mil.progress import progress
from mil.versions import TOOL_VERSION

SCHEMES = ("https", "http", "file", "demo")
# Longest silence of a server before the download is given up.
TIMEOUT_S = 60.0
MEGABYTE = 1 << 20
CHECKSUM = re.compile(r"(sha256):([0-9a-f]{64})|(md5):([0-9a-f]{32})", re.IGNORECASE)


def run(url: str, out: Path, *, checksum: str = "") -> int:
    """Fetch one file; it appears once it is complete and its checksum is right.

    Args:
        url: `https:`, `http:` or `file:`; or `demo:NAME`, which draws a slide or writes an
            annotation of the demo.
        out: File to write.
        checksum: Expected checksum, `sha256:HEX` or `md5:HEX`; empty: not checked.

    Returns:
        Size of the file, bytes.

    Raises:
        DatasetError: The URL cannot be fetched, or the file has another checksum.
    """
    scheme, _, name = url.partition(":")
    scheme = scheme.lower()
    if scheme not in SCHEMES or not name:
        supported = ", ".join(f"{scheme}:" for scheme in SCHEMES)
        raise DatasetError(
            f"{url!r}: cannot be fetched, only {supported}; "
            f"download the file by hand and put it at {out}"
        )
    algorithm, digest = _parse_checksum(checksum, url)
    with atomic_path(out) as scratch:
        if scheme == "demo":
            # Here, so that fetching from the network imports nothing of the demo.
            from mil.demo.stage import make

            make(name, scratch)
        else:
            _download(url, scratch, out, checked=bool(algorithm))
        if algorithm:
            _check_digest(scratch, algorithm, digest, url)
        return scratch.stat().st_size


def _parse_checksum(text: str, url: str) -> tuple[str, str]:
    """Algorithm and digest in lower case; two empty strings for an empty checksum."""
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


def _check_digest(path: Path, algorithm: str, expected: str, url: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    if digest != expected:
        raise DatasetError(
            f"{url}: its {algorithm} is {digest}, not {expected}; try again, or correct the "
            "slide table"
        )


class _Redirects(HTTPRedirectHandler):
    """Follows redirects that are no less safe than the URL that was asked for."""

    def __init__(self, *, checked: bool) -> None:
        self._checked = checked

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme.lower()
        # A checksum tells whether a file was changed on its way.
        if scheme == "https" or (scheme == "http" and (req.type == "http" or self._checked)):
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        reason = f"{msg}, a redirect to {newurl}, which is not https:"
        raise HTTPError(req.full_url, code, reason, headers, fp)


def _check_regular(url: str) -> None:
    """Refuse devices and pipes, which may never end."""
    scheme, _, name = url.partition(":")
    if scheme.lower() == "file":
        path = Path(url2pathname(name.removeprefix("//")))
        if path.exists() and not path.is_file():
            raise DatasetError(f"{url}: not a file; give the URL of one file")


def _download(url: str, scratch: Path, out: Path, *, checked: bool) -> None:
    """Copy what a URL names to `scratch`.

    Args:
        url: `https:`, `http:` or `file:`.
        scratch: File to write.
        out: File that it becomes, for messages.
        checked: Whether a checksum of the file is known.
    """
    remedy = f"check the url and the network, or download it by hand and put it at {out}"
    _check_regular(url)
    try:
        request = Request(url, headers={"User-Agent": f"mil/{TOOL_VERSION}"})
        opener = build_opener(_Redirects(checked=checked))
        with opener.open(request, timeout=TIMEOUT_S) as response:
            expected = int(response.headers.get("Content-Length") or 0)
            received = _copy(response, scratch, url, expected)
    except HTTPError as error:
        error.close()
        status = f"{error.code} {error.reason}"
        raise DatasetError(f"{url}: the server answered {status}; {remedy}") from None
    except (URLError, HTTPException, SSLError, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DatasetError(f"{url}: {reason}; {remedy}") from None
    # Python's HTTP client does not report a server that stops early.
    if received < expected:
        raise DatasetError(f"{url}: truncated, {received} of {expected} bytes arrived; try again")


def _copy(response: HTTPResponse, scratch: Path, url: str, expected: int) -> int:
    """Write a response to a file.

    Args:
        response: Open response of the server.
        scratch: File to write.
        url: URL, whose file name is shown beside the progress.
        expected: Size of the file, bytes; 0 where the server does not state it.

    Returns:
        Number of bytes received.
    """
    name = Path(urlsplit(url).path).name
    received = 0
    with scratch.open("wb") as file, progress(name, max(1, expected // MEGABYTE), "MB") as advance:
        while chunk := response.read(MEGABYTE):
            file.write(chunk)
            # Progress counts whole megabytes, and a chunk may be smaller than one.
            previous_mb = received // MEGABYTE
            received += len(chunk)
            advance(received // MEGABYTE - previous_mb)
    return received
