"""Who is answered, and what: the token, the host, methods, and addresses that lead nowhere."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import ConfigError
from mil.view.page import BOKEH, SCRIPTS, STYLES, page_html
from mil.view.routes import EMPTY_PNG, Reply, reply_to
from mil.view.server import POLICY, ViewServer
from mil.view.shown import Shown
from mil.view.study import HeadFolder, Study, find_study
from tests.messages import one_line


@pytest.fixture(scope="module")
def shown(folder):
    shown = Shown(find_study(folder / "results" / "d", slides_dir=folder / "slides"))
    yield shown
    shown.close()


@pytest.fixture
def server(shown):
    with ViewServer(lambda target: reply_to(shown, target)) as server:
        yield server


def status(server: ViewServer, method="GET", host=None, target=None) -> int:
    host = f"127.0.0.1:{server.server_port}" if host is None else host
    return server.answer(method, host, target or f"/{server.token}/study").status


def test_the_address_that_was_printed_is_answered(server):
    assert status(server) == 200
    assert status(server, host=f"localhost:{server.server_port}") == 200
    assert status(server, "HEAD") == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "", "[::1]:1"]
)
def test_a_foreign_host_is_refused(server, host):
    assert status(server, host=host.format(port=server.server_port)) == 403


@pytest.mark.parametrize(
    "target", ["/", "/study", "//study", "/{token}x/study", "/{half}/study", "/é/study", "/{token}"]
)
def test_a_wrong_token_is_refused(server, target):
    token = server.token
    assert status(server, target=target.format(token=token, half=token[:-1])) == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(server, method):
    assert status(server, method) == 405


def test_tokens_are_long_and_never_the_same(shown):
    def reply(target):
        return Reply(200, "", b"")

    with ViewServer(reply) as one, ViewServer(reply) as other:
        assert one.token != other.token
        assert len(one.token) == 32


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../etc/passwd",
        "/static/..%2f..%2fpyproject.toml",
        "/static/%2fetc%2fpasswd",
        "/static/page.html",
        "/slide/../../etc/passwd/thumbnail",
        "/slide/s1",
        "/slide/%2e%2e/thumbnail",
        "/slide/9999999999",
        "/slide/0/pixels/0/0/-1",
        "/etc/passwd",
        "/study/",
        "/slide/0/pixels/0/0",
    ],
)
def test_paths_lead_nowhere(shown, path):
    assert reply_to(shown, path).status == 404


@pytest.mark.parametrize(
    ("path", "code", "error"),
    [
        ("/slide/7", 404, "no slide number 7"),
        ("/slide/0/map?kind=../x", 404, "no kind of map"),
        ("/slide/0/map?head=9", 404, "no head 9"),
        ("/slide/0/map?head=x", 400, "not a number"),
        ("/slide/0/map?head=-1", 404, "no head -1"),
        ("/slide/0/map?kind=effect&column=99", 404, "no prediction 99"),
        ("/slide/0/map?member=5", 404, "no head 5"),
        ("/slide/0/map?scale=<script>", 404, "no scale"),
        ("/slide/0/map?colours=__class__", 404, "no colour map"),
        ("/slide/0/tile/99999", 404, "no tile 99999"),
        ("/slide/0/at?x=nan&y=a", 400, "not a number"),
        ("/slide/0/map?" + "&".join(f"a{n}=1" for n in range(99)), 400, "not a number"),
    ],
)
def test_values_that_cannot_be_are_one_line(shown, path, code, error):
    reply = reply_to(shown, path)
    message = json.loads(reply.body)["error"]
    assert (reply.status, "\n" in message) == (code, False)
    assert error in message


def test_tiles_beyond_the_slide_are_empty(shown):
    assert reply_to(shown, "/slide/0/pixels/0/99/99").body == EMPTY_PNG
    assert reply_to(shown, "/slide/0/layer/9/0/0").body == EMPTY_PNG


def test_a_point_at_infinity_has_no_tile(shown):
    assert reply_to(shown, "/slide/0/at?x=nan&y=1e400").body == b"null"


def test_the_page_loads_only_files_that_are_served(shown):
    page = page_html()
    for name in (*BOKEH, *SCRIPTS, *STYLES):
        assert f'"static/{name}"' in page
        assert reply_to(shown, f"/static/{name}").status == 200
    assert "http" not in page.replace("http-equiv", "")


def test_headers_forbid_other_hosts_and_guessing_of_types(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        connection = http.client.HTTPConnection(*server.server_address[:2])
        connection.request("GET", f"{urlsplit(server.url).path}")
        reply = connection.getresponse()
        body = reply.read()
        connection.request("POST", "/x", body=b"y")
        refused = connection.getresponse()
        refused.read()
        connection.close()
    finally:
        server.shutdown()
        thread.join()
    assert (reply.status, body) == (200, page_html().encode())
    assert reply.headers["Content-Security-Policy"] == POLICY
    assert "unsafe-eval" not in POLICY
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert (refused.status, refused.headers["Connection"]) == (403, "close")


def test_a_fault_ends_one_request_only(capsys):
    def fail(target):
        raise KeyError("x\ny")

    with ViewServer(fail) as server:
        assert status(server) == 500
    error = capsys.readouterr().err
    assert (error.count("\n"), server.token in error) == (1, False)


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with one_line(ConfigError, match=f"port {port} is in use; give another with --port"):
            ViewServer(lambda target: Reply(200, "", b""), port)


def test_a_study_without_heads_is_shown(tmp_path):
    shown = Shown(Study(tmp_path, [HeadFolder("t", "e", "r", tmp_path / "none")]))
    assert shown.describe()["slides"] == []
    assert json.loads(reply_to(shown, "/study").body)["heads"][0]["title"] == "r · e"


def test_a_slide_without_an_export_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["view", str(tmp_path), "--slide", "s1"])
    assert isinstance(result.exception, ConfigError)


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(shown):
    # A shell starts programs in the background deaf to SIGINT; a terminal does not.
    command = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from mil.cli import main; sys.argv[1:] = ['view', sys.argv[1], '--no-browser']; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(shown.study.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("view http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("view ended\n")
