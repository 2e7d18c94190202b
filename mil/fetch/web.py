"""Files at `https:`, `http:` and `file:` URLs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from ssl import SSLCertVerificationError, SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

from mil.errors import DatasetError, brief
from mil.fetch.remote import MD5_ETAG, ChangedError, CutError, Facts, Response, remedy
from mil.versions import TOOL_VERSION

# Longest silence of a server before the download is given up.
TIMEOUT_S = 60.0
# Answers of a server that is busy; others are final.
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
WITHOUT_HEAD = (405, 501)
UNSATISFIABLE_RANGE = 416
PARTIAL_CONTENT = 206


class NoHeadError(DatasetError):
    """A server gives files, but no facts about them alone."""


class Redirects(HTTPRedirectHandler):
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


@dataclass(frozen=True)
class WebFile:
    """A file that Python's own client fetches; see `mil.fetch.remote.Remote`.

    Attributes:
        url: `https:`, `http:` or `file:`.
        by_hand: Where a user may put the file, for messages.
        checked: Whether a checksum of the file is known.
    """

    url: str
    by_hand: Path
    checked: bool

    def facts(self) -> Facts:
        try:
            with self._request(self.url, "HEAD") as response:
                return _facts(response)
        except NoHeadError:
            return Facts()

    @contextmanager
    def open(self, start: int, validator: str) -> Iterator[Response]:
        # `If-Range`: of a file that is another by now, the server sends all bytes.
        headers = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}
        with self._request(self.url, "GET", headers) as response:
            facts = _facts(response)
            first = 0
            if start and response.status == PARTIAL_CONTENT:
                first, total = _range_of(response.headers.get("Content-Range", ""))
                if first != start:
                    raise ChangedError
                facts = Facts(total, facts.validator, facts.md5_etag)

            def read(count: int) -> bytes:
                try:
                    return response.read(count)
                except (HTTPException, SSLError, OSError) as error:
                    raise CutError(brief(error)) from None

            yield Response(facts, first, read)

    def part_bytes(self) -> int:
        parts = urlsplit(self.url)
        query = "&".join(filter(None, [parts.query, urlencode({"partNumber": 1})]))
        with self._request(parts._replace(query=query).geturl(), "HEAD") as response:
            return _length(response)

    @contextmanager
    def _request(
        self, url: str, method: str, headers: dict[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """Response of the server.

        Raises:
            CutError: The server does not answer now.
            ChangedError: The server has fewer bytes than were asked for.
            DatasetError: The server refuses, or the URL is malformed.
        """
        self._check_regular()
        try:
            agent = {"User-Agent": f"mil/{TOOL_VERSION}"}
            request = Request(url, headers={**agent, **(headers or {})}, method=method)
            opener = build_opener(Redirects(checked=self.checked))
            response = opener.open(request, timeout=TIMEOUT_S)
        except HTTPError as error:
            error.close()
            if error.code == UNSATISFIABLE_RANGE:
                raise ChangedError from None
            answer = f"the server answered {error.code} {error.reason}"
            if error.code in TRANSIENT:
                raise CutError(answer) from None
            kind = NoHeadError if error.code in WITHOUT_HEAD else DatasetError
            raise kind(f"{self.url}: {answer}; {remedy(self.by_hand)}") from None
        except (URLError, HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            # A missing file, a broken certificate or a malformed URL stays what it is.
            final = (InvalidURL, ValueError, SSLCertVerificationError, FileNotFoundError)
            is_final = isinstance(error, final) or isinstance(reason, final)
            if is_final or self._is_local or isinstance(reason, str):
                raise DatasetError(f"{self.url}: {brief(reason)}; {remedy(self.by_hand)}") from None
            raise CutError(brief(reason)) from None
        with response:
            yield response

    @property
    def _is_local(self) -> bool:
        return self.url.partition(":")[0].lower() == "file"

    def _check_regular(self) -> None:
        """Refuse devices and pipes, which may never end."""
        if self._is_local:
            try:
                # As the client reads it: without a host such as localhost, and what follows `#`.
                path = Path(url2pathname(Request(self.url).selector))
            except ValueError:
                # The request says what is wrong with it.
                return
            if path.exists() and not path.is_file():
                raise DatasetError(f"{self.url}: not a file; give the URL of one file")


def _facts(response: HTTPResponse) -> Facts:
    headers = response.headers
    etag = headers.get("ETag") or ""
    # Of a weak ETag, two files of other bytes may be alike.
    validator = etag if etag.startswith('"') else headers.get("Last-Modified") or ""
    is_s3 = headers.get("Server") == "AmazonS3"
    plain = headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
    md5_etag = etag.strip('"') if is_s3 and plain else ""
    if not MD5_ETAG.fullmatch(md5_etag):
        md5_etag = ""
    return Facts(_length(response), validator, md5_etag)


def _length(response: HTTPResponse) -> int:
    """Size that a server states, bytes; 0: none, or no number."""
    length = response.headers.get("Content-Length") or ""
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else 0


def _range_of(text: str) -> tuple[int, int]:
    """First byte and size of the whole file, of `bytes 5-9/10`; size 0: not stated."""
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", text.strip())
    if match is None:
        raise ChangedError
    return int(match[1]), 0 if match[2] == "*" else int(match[2])
