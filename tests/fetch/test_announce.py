"""What is said before anything is fetched."""

from collections import namedtuple
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from mil.errors import DatasetError
from mil.fetch import announce as module
from mil.fetch.announce import Wanted, announce
from mil.fetch.download import _path_of
from mil.fetch.remote import CutError, Facts, Response
from tests.messages import one_line

Usage = namedtuple("Usage", "total used free")
GB = 10**9


class Fake:
    def __init__(self, url: str) -> None:
        self.url = url

    def facts(self) -> Facts:
        if self.url.endswith("none"):
            raise DatasetError(f"{self.url}: the bucket answered 404")
        if self.url.endswith("dead"):
            raise CutError("no route to host")
        return Facts(int(self.url.rpartition("/")[2]))

    @contextmanager
    def open(self, start, validator):
        yield Response(Facts(), 0, BytesIO(bytes(4 << 20)).read)


@pytest.fixture
def said(monkeypatch, tmp_path):
    """Function that announces files by their sizes; it returns the lines."""
    asked: list[str] = []

    def remote_of(url, by_hand, *, checked):
        asked.append(url)
        return Fake(url)

    ticks = iter(range(1000))
    monkeypatch.setattr(module, "remote_of", remote_of)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage(0, 0, 100 * GB))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(ticks) / 1000)

    def run(*sizes: object, slots: int | None = None) -> list[str]:
        lines: list[str] = []
        files = [Wanted(f"s3://b/{size}", tmp_path / f"{n}.tif") for n, size in enumerate(sizes)]
        announce(files, Path("slides"), slots=slots, say=lines.append)
        return lines

    run.asked = asked
    return run


def test_sizes_time_and_disk(said):
    # 65 ticks of a millisecond for 4 MiB.
    assert said(30 * GB, 10 * GB) == [
        "fetch: 2 files to download, 40.0 GB, about 10 min at 64.5 MB/s; "
        "40.0 GB of disk are needed, 100.0 GB are free in slides"
    ]


def test_of_streamed_slides_the_largest_count(said):
    (line,) = said(60 * GB, 70 * GB, 10 * GB, slots=1)
    assert "140.0 GB, about" in line
    assert "70.0 GB of disk are needed for at most 1 at a time, 100.0 GB are free" in line


def test_what_has_arrived_is_not_counted(said, tmp_path):
    _path_of(tmp_path / "0.tif").write_bytes(bytes(300_000))
    assert "fetch: 1 files to download, 0.7 MB; 0.7 MB of disk" in said(1_000_000)[0]


def test_a_disk_too_small(said):
    with one_line(DatasetError) as caught:
        said(60 * GB, 50 * GB)
    message = str(caught.value)
    assert message.startswith("slides: 110.0 GB of disk are needed, but 100.0 GB are free")
    assert "fetch={keep: false}" in message
    with one_line(DatasetError) as caught:
        said(60 * GB, 50 * GB, slots=2)
    assert "slots: 1" in str(caught.value)
    with one_line(DatasetError) as caught:
        said(110 * GB, slots=1)
    assert "are free; choose a folder on a larger disk" in str(caught.value)


def test_files_that_the_server_lacks_are_named_and_the_others_counted(said):
    lines = said(1_000_000, "none", 1_000_000)
    assert lines[0] == "fetch 1.tif: s3://b/none: the bucket answered 404"
    assert "the other slides go on" in lines[1]
    assert lines[2].startswith("fetch: 2 files to download, 2.0 MB;")
    many = said(1_000_000, *["none"] * 30)
    assert len(many) == 23
    assert many[20] == "fetch: 10 more files cannot be fetched"


def test_without_a_network_one_file_is_asked_for(said):
    assert said("dead", *[GB] * 9) == [
        "fetch: 10 files to download, of unknown sizes: s3://b/dead: no route to host"
    ]
    assert said.asked == ["s3://b/dead"]


def test_what_the_demo_draws_is_not_announced(said, tmp_path):
    lines: list[str] = []
    announce([Wanted("demo:a.tif", tmp_path / "a")], tmp_path, slots=None, say=lines.append)
    assert lines == said.asked == []
