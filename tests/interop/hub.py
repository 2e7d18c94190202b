"""A stand-in for the hub on loopback: the requests that huggingface_hub makes for a dataset."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

COMMIT = "c0ffee" * 6 + "abcd"
REPOSITORY = "someone/features"


class Hub:
    """A hub with one repository.

    Attributes:
        files: content by path; None: listed, but not there.
        gated: whether files are refused.
        cut: paths of which only the first half is sent, and how often.
        spoilt: paths of which the first byte is sent wrong, and how often.
        down: whether every connection is dropped.
        sent: paths in the order in which bodies were asked for, with the first byte.
    """

    def __init__(self):
        self.files: dict[str, bytes | None] = {}
        self.gated = False
        self.cut: dict[str, int] = {}
        self.spoilt: dict[str, int] = {}
        self.down = False
        self.sent: list[tuple[str, int]] = []

    def listing(self):
        return {
            "id": REPOSITORY,
            "sha": COMMIT,
            "siblings": [_sibling(path, content) for path, content in self.files.items()],
        }


def _sibling(path, content):
    content = content or b""
    sha = hashlib.sha256(content).hexdigest()
    lfs = {"size": len(content), "sha256": sha, "pointerSize": 134}
    return {"rfilename": path, "size": len(content), "blobId": "0" * 40, "lfs": lfs}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        if self.hub.down:
            self.close_connection = True
            return None
        path = unquote(self.path.partition("?")[0])
        if path in (f"/api/datasets/{REPOSITORY}", f"/api/datasets/{REPOSITORY}/revision/{COMMIT}"):
            return self._send(200, json.dumps(self.hub.listing()).encode(), body=body)
        start = f"/datasets/{REPOSITORY}/resolve/{COMMIT}/"
        if not path.startswith(start):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
        if self.hub.gated:
            return self._send(401, b"", {"X-Error-Code": "GatedRepo"}, body=body)
        return self._send_file(path.removeprefix(start), body=body)

    def _send_file(self, name, *, body):
        content = self.hub.files.get(name)
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        if not body:
            return self._send(200, content, headers, body=False)
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.hub.sent.append((name, first))
        if self.hub.spoilt.get(name):
            self.hub.spoilt[name] -= 1
            content = bytes([content[0] ^ 255]) + content[1:]
        whole = content[first:]
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if self.hub.cut.get(name):
            self.hub.cut[name] -= 1
            self.close_connection = True
            return self._send(206 if first else 200, whole, headers, share=0.5)
        return self._send(206 if first else 200, whole, headers)

    def _send(self, status, content, headers=None, *, body=True, share=1.0):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[: int(len(content) * share)])


@pytest.fixture
def hub(monkeypatch):
    """A hub on loopback, and the library pointed at it, without pauses between attempts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub()
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    yield server.hub
    server.shutdown()
    server.server_close()
