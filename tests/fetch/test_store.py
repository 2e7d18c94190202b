"""Slides for a while: a bounded number on the disk, and nothing of the user's removed."""

import errno
import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from mil.errors import DatasetError
from mil.fetch import store
from mil.fetch.download import _path_of
from mil.fetch.store import FOLDER, SlideSource, SlideStore
from tests.messages import one_line


@pytest.fixture(autouse=True)
def fetched(monkeypatch) -> list[str]:
    """URLs that were fetched, of which the files hold their own URL."""
    urls: list[str] = []

    def run(url, out, *, checksum, by_hand):
        urls.append(url)
        assert by_hand.parent == out.parents[3]
        if url == "s3://b/none":
            raise DatasetError(f"{url}: not there")
        out.write_text(url)

    monkeypatch.setattr(store, "run", run)
    monkeypatch.setattr(store, "POLL_S", 0.001)
    return urls


def source(folder: Path, name: str, url: str = "") -> SlideSource:
    return SlideSource(folder / f"{name}.tif", url or f"s3://b/{name}")


def slides_in(folder: Path) -> list[str]:
    # Unlike `rglob`, it passes over folders that are removed meanwhile.
    names = [name for _, _, names in os.walk(folder) for name in names]
    return sorted(name for name in names if name.endswith(".tif"))


def test_a_slide_is_there_while_it_is_used(tmp_path, fetched):
    with SlideStore(tmp_path, 2).borrow(source(tmp_path, "a")) as file:
        assert file.name == "a.tif"
        assert file.read_text() == "s3://b/a"
    assert slides_in(tmp_path) == []
    assert fetched == ["s3://b/a"]


def test_the_users_own_slide_stays(tmp_path, fetched):
    (tmp_path / "a.tif").write_text("mine")
    with SlideStore(tmp_path, 1).borrow(source(tmp_path, "a")) as file:
        assert file.read_text() == "mine"
    assert slides_in(tmp_path) == ["a.tif"]
    assert fetched == []


def test_removed_when_its_use_fails(tmp_path):
    with (
        pytest.raises(RuntimeError),
        SlideStore(tmp_path, 1).borrow(source(tmp_path, "a")),
    ):
        raise RuntimeError
    assert slides_in(tmp_path) == []


@pytest.mark.parametrize("slots", [1, 3])
def test_no_more_than_its_slots_at_a_time(tmp_path, fetched, slots):
    most: list[int] = []
    names = [f"s{number}" for number in range(12)]

    def use(mine: list[str]) -> None:
        # A store of its own, as each job has.
        for name in mine:
            with SlideStore(tmp_path, slots).borrow(source(tmp_path, name)):
                most.append(len(slides_in(tmp_path)))

    threads = [threading.Thread(target=use, args=(names[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == sorted(f"s3://b/{name}" for name in names)
    assert 1 <= max(most) <= slots
    assert slides_in(tmp_path) == []


def left_by_a_killed_job(folder: Path, slot: int, name: str) -> Path:
    place = folder / FOLDER / str(slot) / source(folder, name.removesuffix(".tif")).key
    place.mkdir(parents=True)
    (place / name).write_text("left")
    return place / name


def test_what_a_killed_job_left_is_used(tmp_path, fetched):
    left_by_a_killed_job(tmp_path, 1, "b.tif")
    with SlideStore(tmp_path, 2).borrow(source(tmp_path, "b")) as file:
        assert file.read_text() == "left"
    assert fetched == []
    assert slides_in(tmp_path) == []


@pytest.mark.parametrize(
    "other",
    [
        ("s3://centre_2/b", ""),
        ("s3://b/b", "md5:" + "0" * 32),
    ],
)
def test_what_a_killed_job_left_is_no_other_slide_of_its_name(tmp_path, fetched, other):
    left_by_a_killed_job(tmp_path, 0, "b.tif")
    url, checksum = other
    wanted = SlideSource(tmp_path / "b.tif", url, checksum)
    with SlideStore(tmp_path, 1).borrow(wanted) as file:
        assert file.read_text() == url
        assert slides_in(tmp_path) == ["b.tif"]
    assert fetched == [url]


def test_slots_of_a_release_before_make_room(tmp_path):
    (tmp_path / FOLDER / "0").mkdir(parents=True)
    (tmp_path / FOLDER / "0" / "b.tif").write_text("left")
    with SlideStore(tmp_path, 1).borrow(source(tmp_path, "b")) as file:
        assert file.read_text() == "s3://b/b"
        assert slides_in(tmp_path) == ["b.tif"]


def test_what_a_killed_job_left_of_another_slide_makes_room(tmp_path):
    left_by_a_killed_job(tmp_path, 0, "b.tif")
    with SlideStore(tmp_path, 1).borrow(source(tmp_path, "a")):
        assert slides_in(tmp_path) == ["a.tif"]


def test_slots_of_an_earlier_run_are_emptied(tmp_path):
    left_by_a_killed_job(tmp_path, 5, "b.tif")
    with SlideStore(tmp_path, 2).borrow(source(tmp_path, "a")):
        assert slides_in(tmp_path) == ["a.tif"]


def test_what_has_arrived_of_a_slide_stays(tmp_path):
    partial = _path_of(left_by_a_killed_job(tmp_path, 0, "none.tif"))
    (partial.parent / "none.tif").unlink()
    partial.write_text("half")
    with (
        pytest.raises(DatasetError, match="not there"),
        SlideStore(tmp_path, 1).borrow(source(tmp_path, "none")),
    ):
        pass
    assert partial.read_text() == "half"


def test_a_job_that_waits_long_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "SILENT_POLLS", 1)
    (tmp_path / FOLDER).mkdir()
    lock = FileLock(tmp_path / FOLDER / "0.lock")
    lock.acquire()
    polls = []

    def sleep(seconds):
        polls.append(seconds)
        if len(polls) == 3:
            lock.release()

    monkeypatch.setattr(store.time, "sleep", sleep)
    with SlideStore(tmp_path, 1).borrow(source(tmp_path, "a")):
        pass
    assert capsys.readouterr().out == (
        f"stream: waits, since other jobs hold all 1 slots in {tmp_path / FOLDER}; if no other "
        "job runs, remove that folder\n"
    )


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks"), NotImplementedError()])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, error):
    def acquire(self, timeout):
        raise error

    monkeypatch.setattr(store.FileLock, "acquire", acquire)
    with (
        one_line(DatasetError, match="has no locks"),
        SlideStore(tmp_path, 1).borrow(source(tmp_path, "a")),
    ):
        pass
