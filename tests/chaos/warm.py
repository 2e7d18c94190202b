"""Jobs forked from one process that has imported everything: a third of the computing.

A run's `mil` is then a small client in the run's process group. Its job dies with it, and
it dies as its job does.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What the stages of a run import.
MODULES = (
    "timm",
    "torch",
    "mil.cli",
    "mil.compare.stage",
    "mil.encoders.build",
    "mil.evaluate.stage",
    "mil.features.part",
    "mil.heatmap.part",
    "mil.report.stage",
    "mil.score.stage",
    "mil.split.stage",
    "mil.tile.part",
    "mil.train.stage",
    "mil.trained.card",
)
CLIENT = """#!{python} -S
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(connection, [b" "], [0, 1, 2])
connection.sendall(json.dumps(request).encode() + b"\\n")
status = connection.recv(8).decode()
code = int(status or 1)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def warm_mil() -> Iterator[Path]:
    """Folder with a `mil` whose jobs are forked from a process that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="warm_") as name:
        address = f"{name}/socket"
        client = Path(name) / "mil"
        client.write_text(CLIENT.format(python=sys.executable, address=address))
        client.chmod(0o755)
        server = subprocess.Popen(
            [sys.executable, "-c", f"from tests.chaos.warm import serve; serve({address!r})"],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            assert server.stdout is not None
            if server.stdout.readline().strip() != b"warm":
                raise RuntimeError("the process that jobs are forked from did not start")
            yield Path(name)
        finally:
            server.kill()
            server.communicate()


def serve(address: str) -> None:
    """Fork a job for each client, end it with the client, and tell the client how it ended."""
    for name in MODULES:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("warm", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                _begin(listener, selector)
            elif isinstance(key.fileobj, socket.socket):
                # Its job has ended just now.
                if key.fileobj.fileno() < 0:
                    continue
                # Its end: the client is dead, and a dead client's job is not to live.
                selector.unregister(key.fileobj)
                with suppress(ProcessLookupError):
                    os.kill(key.data, signal.SIGKILL)
            else:
                pid, client = key.data
                _, status = os.waitpid(pid, 0)
                selector.unregister(key.fileobj)
                os.close(key.fd)
                with suppress(KeyError):
                    selector.unregister(client)
                with client, suppress(OSError):
                    client.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _begin(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    client, _ = listener.accept()
    _, descriptors, _, _ = socket.recv_fds(client, 1, 3)
    request = b""
    while not request.endswith(b"\n"):
        part = client.recv(1 << 16)
        if not part:
            # Killed before it had asked.
            client.close()
            for descriptor in descriptors:
                os.close(descriptor)
            return
        request += part
    pid = os.fork()
    if pid == 0:
        client.close()
        _run(json.loads(request), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    selector.register(client, selectors.EVENT_READ, pid)
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, client))


def _run(request: dict, descriptors: list[int]) -> None:
    """Run the command line as the program `mil` does, and end this process."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        tempfile.tempdir = None
        sys.argv = ["mil", *request["argv"]]
        from mil.cli import main

        main()
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        else:
            code = error.code or 0
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
