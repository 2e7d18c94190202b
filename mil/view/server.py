"""HTTP on the loopback interface: read only, for those who know the token."""

import errno
import hmac
import secrets
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from mil.errors import ConfigError
from mil.view.routes import Reply

HOST = "127.0.0.1"
TOKEN_BYTES = 24
# Names by which a browser on this machine may call the server. Others are those of a page
# elsewhere whose name was made to point here (DNS rebinding).
HOST_NAMES = ("127.0.0.1", "localhost")
# A connection on which nothing comes is closed, seconds.
IDLE_S = 60
# Nothing from another host, nothing inside another page, no form, no plug-in. Bokeh sets
# styles; it draws images of its own from data.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
TEXT = "text/plain; charset=utf-8"
REFUSED = Reply(403, TEXT, b"refused: use the address that `mil view` printed\n")
READ_ONLY = Reply(405, TEXT, b"refused: this server is read only\n")
FAILED = Reply(500, "application/json", b'{"error":"a fault of mil, see its terminal"}')


class ViewServer(ThreadingHTTPServer):
    """Server of one study.

    Args:
        reply: Answer to an address without its token; see `mil.view.routes.reply_to`.
        port: Port; 0: a free one.

    Attributes:
        token: Secret that each address begins with.

    Raises:
        ConfigError: The port is in use, or not allowed.
    """

    daemon_threads = True

    def __init__(self, reply: Callable[[str], Reply], port: int = 0) -> None:
        self.reply = reply
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            reason = "is in use" if error.errno == errno.EADDRINUSE else "is not allowed"
            raise ConfigError(
                f"port {port} {reason}; give another with --port, or leave it out for a free one"
            ) from None

    @property
    def url(self) -> str:
        """Address of the page, with the token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def is_own_host(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        return host in {f"{name}:{self.server_port}" for name in HOST_NAMES}

    def answer(self, method: str, host: str, target: str) -> Reply:
        """Answer to a request.

        Args:
            method: HTTP method.
            host: Value of the `Host` header; empty: none.
            target: Path and query with the token.
        """
        if not self.is_own_host(host):
            return REFUSED
        token, slash, rest = target.removeprefix("/").partition("/")
        # In constant time: a guess must not become better by its duration.
        known = hmac.compare_digest(unquote(token).encode("utf-8", "replace"), self.token.encode())
        if not (slash and known):
            return REFUSED
        if method not in ("GET", "HEAD"):
            return READ_ONLY
        try:
            return self.reply(f"/{rest}")
        except Exception as error:  # noqa: BLE001  one request must not end the viewer
            fault = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"view: {rest[:80]!r} failed: {fault[:300]}", file=sys.stderr)
            return FAILED

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mil"
    sys_version = ""
    timeout = IDLE_S
    server: ViewServer

    def _answer(self) -> None:
        # What a request brings is not read, so that the connection cannot go on after it.
        if self.command not in ("GET", "HEAD") or self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True
        hosts = self.headers.get_all("Host", [])
        host = hosts[0].strip() if len(hosts) == 1 else ""
        reply = self.server.answer(self.command, host, self.path)
        self.send_response(reply.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", reply.cache)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        if reply.status == READ_ONLY.status:
            self.send_header("Allow", "GET, HEAD")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: addresses hold the token."""
