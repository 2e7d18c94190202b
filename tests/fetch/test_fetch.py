"""Fetching: whole or not at all, checked, and one line when it fails."""

import hashlib
import os
import threading
from collections.abc import Iterator
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from urllib.error import HTTPError
from urllib.parse import quote, unquote
from urllib.request import Request

import pytest

from mil.errors import DatasetError
from mil.fetch import download, web
from mil.fetch.remote import Facts, remote_of
from mil.fetch.stage import run
from tests.messages import one_line

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than one read
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class CutShort(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 10)

    def log_message(self, *args):
        pass


class Elsewhere(BaseHTTPRequestHandler):
    """Redirects to the URL that the query names."""

    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", unquote(self.path.partition("?")[2]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def serve(handler) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "WAITS_S", (0.0, 0.0))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "a slide.tif").write_bytes(CONTENT)
    return folder


@pytest.fixture(scope="module")
def site(shelf):
    yield from serve(partial(Quiet, directory=str(shelf)))


@pytest.fixture(scope="module")
def bad_site():
    yield from serve(CutShort)


@pytest.fixture(scope="module")
def other_site():
    yield from serve(Elsewhere)


def fails(url: str, out: Path, **options: str) -> str:
    """The message, after nothing is seen to be left."""
    with one_line(DatasetError) as caught:
        run(url, out, **options)
    message = str(caught.value)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
    return message


@pytest.mark.parametrize(
    "checksum", ["", f"sha256:{SHA256}", f"md5:{MD5}", f"SHA256:{SHA256.upper()}"]
)
def test_file_url(shelf, tmp_path, checksum):
    out = tmp_path / "new" / "slide.tif"
    assert run((shelf / "a slide.tif").as_uri(), out, checksum=checksum) == len(CONTENT)
    assert out.read_bytes() == CONTENT
    assert list(out.parent.iterdir()) == [out]


def test_http(site, tmp_path):
    out = tmp_path / "slide.tif"
    assert run(f"{site}/a%20slide.tif", out, checksum=f"sha256:{SHA256}") == len(CONTENT)
    assert out.read_bytes() == CONTENT


def test_not_on_the_server(site, tmp_path):
    message = fails(f"{site}/other.tif", tmp_path / "x" / "slide.tif")
    assert message.startswith(f"{site}/other.tif: the server answered 404")
    assert "by hand" in message


def test_redirects_to_the_web_are_followed(site, other_site, tmp_path):
    out = tmp_path / "slide.tif"
    assert run(f"{other_site}/a?{quote(f'{site}/a%20slide.tif')}", out) == len(CONTENT)


@pytest.mark.parametrize("target", ["ftp://host/a.tif", "file:///etc/hostname", "data:,x"])
def test_redirects_to_other_schemes_are_refused(other_site, tmp_path, target):
    message = fails(f"{other_site}/a?{quote(target)}", tmp_path / "x" / "slide.tif")
    assert target in message


@pytest.mark.parametrize(("checked", "followed"), [(True, True), (False, False)])
def test_https_is_left_for_http_only_with_a_checksum(checked, followed):
    handler = web.Redirects(checked=checked)
    request = Request("https://host/a")
    if followed:
        new = handler.redirect_request(request, None, 302, "Found", Message(), "http://host/b")
        assert new.full_url == "http://host/b"
    else:
        with pytest.raises(HTTPError, match="redirect to http://host/b, which is not https:"):
            handler.redirect_request(request, None, 302, "Found", Message(), "http://host/b")


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_not_a_file_is_refused(tmp_path, kind):
    source = {"device": Path("/dev/zero"), "pipe": tmp_path / "pipe", "folder": tmp_path}[kind]
    os.mkfifo(tmp_path / "pipe")
    message = fails(source.as_uri(), tmp_path / "x" / "slide.tif")
    assert message == f"{source.as_uri()}: not a file; give the URL of one file"


@pytest.mark.parametrize("url", ["file://localhost/dev/zero", "file:///dev/zero#x"])
def test_a_device_by_another_url_is_refused(tmp_path, url):
    assert fails(url, tmp_path / "x" / "slide.tif").endswith("give the URL of one file")


def test_server_stops_early(bad_site, tmp_path):
    assert "truncated, 10 of 1000 bytes" in fails(
        f"{bad_site}/slide.tif", tmp_path / "x" / "slide.tif"
    )


def test_no_server(tmp_path):
    # Port 9 (discard): nothing listens there.
    message = fails("http://127.0.0.1:9/slide.tif", tmp_path / "x" / "slide.tif")
    assert "refused" in message
    assert "check the url and the network" in message


def test_missing_file(tmp_path):
    assert "No such file" in fails((tmp_path / "none.tif").as_uri(), tmp_path / "x" / "slide.tif")


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_wrong_checksum_leaves_nothing(shelf, tmp_path, algorithm):
    wrong = "0" * len(hashlib.new(algorithm).hexdigest())
    url = (shelf / "a slide.tif").as_uri()
    message = fails(url, tmp_path / "x" / "slide.tif", checksum=f"{algorithm}:{wrong}")
    assert f"not {wrong}" in message


def test_wrong_checksum_leaves_the_old_file(shelf, tmp_path):
    out = tmp_path / "slide.tif"
    out.write_text("old")
    with pytest.raises(DatasetError):
        run((shelf / "a slide.tif").as_uri(), out, checksum=f"md5:{'0' * 32}")
    assert out.read_text() == "old"


@pytest.mark.parametrize(
    "checksum", ["sha1:abc", SHA256, "md5:" + "0" * 31, "sha256:" + "g" * 64, "md5:" + "0" * 64]
)
def test_checksum_of_another_kind(shelf, tmp_path, checksum):
    assert repr(checksum) in fails(
        (shelf / "a slide.tif").as_uri(), tmp_path / "x" / "s.tif", checksum=checksum
    )


@pytest.mark.parametrize("url", ["ftp://host/a.tif", "/data/a.tif", "a.tif", "", "http:"])
def test_unknown_scheme(tmp_path, url):
    message = fails(url, tmp_path / "x" / "slide.tif")
    assert message.startswith(repr(url))
    assert "https:, http:, s3:, file:, demo:" in message


@pytest.mark.parametrize(
    "url", ["http://[broken/a.tif", "file://[broken/a.tif", "https://", "http://a b/c.tif"]
)
def test_malformed_url(tmp_path, url):
    assert url in fails(url, tmp_path / "x" / "slide.tif")


def test_demo(tmp_path, monkeypatch):
    demo = pytest.importorskip("mil.demo.stage")
    monkeypatch.setattr(demo, "make", lambda name, out: out.write_text(f"{name} {out.suffix}"))
    out = tmp_path / "demo.tif"
    assert run("demo:slide_001", out) == len("slide_001 .tif")
    assert out.read_text() == "slide_001 .tif"


class InParts(BaseHTTPRequestHandler):
    """Sends from any position on, and cuts its first answers; the ETag changes on request."""

    cuts: ClassVar[list[int]] = []
    starts: ClassVar[list[int]] = []
    etag = '"one"'
    content = CONTENT
    minds_if_range = True

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-").partition("=")[2].rstrip("-"))
        if self.minds_if_range and self.headers.get("If-Range") not in (None, self.etag):
            start = 0
        self.starts.append(start)
        content = self.content
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        if self.etag:
            self.send_header("ETag", self.etag)
        self.end_headers()
        self.wfile.write(content[start:][: self.cuts.pop(0) if self.cuts else None])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def cut_site():
    yield from serve(InParts)


@pytest.fixture
def cuts(cut_site, monkeypatch):
    monkeypatch.setattr(InParts, "cuts", [])
    monkeypatch.setattr(InParts, "starts", [])
    return InParts


def test_goes_on_where_the_connection_was_cut(cuts, cut_site, tmp_path):
    cuts.cuts += [1_000_000, 300_000]
    out = tmp_path / "slide.tif"
    assert run(f"{cut_site}/slide.tif", out, checksum=f"md5:{MD5}") == len(CONTENT)
    assert cuts.starts == [0, 1_000_000, 1_300_000]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("etag", ['"one"', '"two"'])
def test_a_later_run_goes_on_but_not_with_another_file(cuts, cut_site, tmp_path, monkeypatch, etag):
    cuts.cuts += [1_000_000, 0, 0]
    out = tmp_path / "slide.tif"
    with one_line(DatasetError) as caught:
        run(f"{cut_site}/slide.tif", out)
    assert "with which the next run goes on" in str(caught.value)
    assert not out.exists()
    monkeypatch.setattr(InParts, "etag", etag)
    cuts.starts.clear()
    run(f"{cut_site}/slide.tif", out)
    assert out.read_bytes() == CONTENT
    assert cuts.starts == ([1_000_000] if etag == '"one"' else [0])
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("etag", "content"), [('"two"', CONTENT[::-1]), ('"one"', CONTENT[::-1] + b"x")]
)
def test_bytes_of_two_files_are_not_joined(cuts, cut_site, tmp_path, monkeypatch, etag, content):
    cuts.cuts += [1_000_000, 0, 0]
    out = tmp_path / "slide.tif"
    with one_line(DatasetError):
        run(f"{cut_site}/slide.tif", out)
    monkeypatch.setattr(InParts, "minds_if_range", False)
    monkeypatch.setattr(InParts, "etag", etag)
    monkeypatch.setattr(InParts, "content", content)
    run(f"{cut_site}/slide.tif", out)
    assert out.read_bytes() == content


def test_without_a_validator_nothing_is_joined(cuts, cut_site, tmp_path, monkeypatch):
    monkeypatch.setattr(InParts, "minds_if_range", False)
    monkeypatch.setattr(InParts, "etag", "")
    cuts.cuts += [1_000_000]
    run(f"{cut_site}/slide.tif", tmp_path / "slide.tif")
    assert cuts.starts == [0, 0]


def test_a_file_that_became_complete_meanwhile_is_not_emptied(shelf, tmp_path, monkeypatch):
    out = tmp_path / "slide.tif"
    lock = download.fcntl.flock

    def complete_before(file, flags):
        # The other process, between opening and locking.
        download._path_of(out).rename(out)
        out.write_text("complete")
        lock(file, flags)

    monkeypatch.setattr(download.fcntl, "flock", complete_before)
    with one_line(DatasetError) as caught:
        run((shelf / "a slide.tif").as_uri(), out)
    assert "another process downloads it" in str(caught.value)
    assert out.read_text() == "complete"


def test_two_at_once_do_not_write_one_file(cuts, cut_site, tmp_path):
    out = tmp_path / "slide.tif"
    with download._partial_of(out, "other"), one_line(DatasetError) as caught:
        run(f"{cut_site}/slide.tif", out)
    assert "another process downloads it" in str(caught.value)


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "x", "²"])
def test_a_size_that_is_no_number(length):
    response = Message()
    response["Content-Length"] = length
    assert web._facts(SimpleNamespace(headers=response)) == Facts()


def test_a_server_that_tells_no_sizes(cut_site, tmp_path):
    # Its handler knows no HEAD.
    assert remote_of(f"{cut_site}/slide.tif", tmp_path).facts() == Facts()
