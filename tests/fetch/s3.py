"""A public bucket on the loopback interface, and a line to it that can be cut."""

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import boto3
from moto.server import ThreadedMotoServer


@dataclass
class Line:
    """A proxy that forwards bytes, counts them, and breaks off where it is told to.

    Attributes:
        cuts: Bytes of a file after which its answer is cut, for each of the next GETs of
            at least so many bytes.
        requests: First lines of the requests, such as `GET /bucket/key`, and their ranges.
        sent: Bytes of all answers.
    """

    target: tuple[str, int]
    cuts: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Count from here on."""
        self.cuts.clear()
        self.requests.clear()
        self.sent = 0

    def gets(self, name: str) -> list[str]:
        """Requests of a file's content."""
        return [text for text in self.requests if text.startswith("GET") and name in text]

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self.target) as server:
            request = b""
            while b"\r\n\r\n" not in request:
                if not (data := client.recv(65536)):
                    return
                request += data
            first = request.split(b" HTTP/")[0].decode()
            wanted = re.search(rb"\r\nrange: ([^\r]+)", request, re.IGNORECASE)
            with self.lock:
                self.requests.append(f"{first} {wanted[1].decode() if wanted else ''}".strip())
            # One request a connection, so that its answer ends with it.
            head, _, body = request.partition(b"\r\n\r\n")
            server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            self._answer(client, server, is_get=first.startswith("GET"))

    def _answer(self, client: socket.socket, server: socket.socket, *, is_get: bool) -> None:
        left = None
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (data := server.recv(65536)):
                break
            answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        with self.lock:
            if is_get and self.cuts and length and int(length[1]) > self.cuts[0]:
                left = self.cuts.pop(0)
        client.sendall(head + b"\r\n\r\n")
        while left != 0 and (body or (body := server.recv(65536))):
            if left is not None:
                body = body[:left]
                left -= len(body)
            with self.lock:
                self.sent += len(body)
            client.sendall(body)
            body = b""


@contextmanager
def line_to(target: tuple[str, int]) -> Iterator[tuple[str, Line]]:
    """URL of a proxy to a server, and the proxy."""
    line = Line(target)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=line.serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", line
        # Wakes the thread, which a close alone does not.
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def bucket_with(name: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server with a public bucket of these files."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-west-2",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    try:
        client.create_bucket(
            Bucket=name,
            ACL="public-read",
            CreateBucketConfiguration={"LocationConstraint": "us-west-2"},
        )
        for key, content in files.items():
            client.put_object(Bucket=name, Key=key, Body=content)
        yield host, port
    finally:
        client.delete_objects(
            Bucket=name, Delete={"Objects": [{"Key": key} for key in files] or [{"Key": "x"}]}
        )
        client.delete_bucket(Bucket=name)
        client.close()
        server.stop()


def environment(endpoint: str) -> dict[str, str]:
    """Environment in which `s3:` URLs lead to a server, and no settings of the user count."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "no_proxy": "*",
    }
