"""A stream of tiles: the same for any number of workers, in any process, and bounded."""

import gc
import multiprocessing
import os
import pickle
import resource
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader, TileBatch, TileRequest
from mil.io.slides.stream import stream
from mil.tile.grid import grid
from tests.io.slides.test_blocks import count_decoding
from tests.synthetic import spoil_tile, write_slide

SIZE = (1400, 1100)
SIDE = 150.7
TILE_PX = 100
MPP = 0.25
stream_module = import_module("mil.io.slides.stream")  # the package gives the function that name


def noise(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> list[Path]:
    """Three slides, of which the second has a damaged block."""
    folder = tmp_path_factory.mktemp("slides")
    for number in range(3):
        write_slide(folder / f"{number}.tif", noise(number), MPP, (1, 2), tile=128)
    spoil_tile(folder / "1.tif", 14)
    return [folder / f"{number}.tif" for number in range(3)]


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    resource_tracker.ensure_running()  # keeps a pipe, for spawning
    gc.collect()  # files of other tests
    before = open_files(), threading.active_count()
    yield
    gc.collect()
    assert (open_files(), threading.active_count()) == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def request(slide: Path, coords: np.ndarray | None = None) -> TileRequest:
    return TileRequest(slide, grid(SIZE, SIDE) if coords is None else coords, SIDE, TILE_PX)


def alone(slide: Path, coords: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What tiles look like read one by one."""
    wanted = request(slide, coords)
    pixels = np.zeros((len(wanted.coords), TILE_PX, TILE_PX, 3), np.uint8)
    readable = []
    with SlideReader(slide) as reader:
        for row, (x, y) in enumerate(wanted.coords):
            try:
                pixels[row] = reader.read(float(x), float(y), SIDE, TILE_PX)
                readable.append(True)
            except UnreadableSlideError:
                readable.append(False)
    return pixels, np.array(readable, bool)


@pytest.fixture(scope="module")
def expected(slides) -> list[tuple[np.ndarray, np.ndarray]]:
    return [alone(slide) for slide in slides]


def joined(batches: list[TileBatch]) -> tuple[np.ndarray, np.ndarray]:
    assert [batch.first for batch in batches] == list(
        np.cumsum([0, *[len(batch.pixels) for batch in batches[:-1]]])
    )
    return np.concatenate([b.pixels for b in batches]), np.concatenate(
        [b.readable for b in batches]
    )


@pytest.mark.slow
@settings(max_examples=12)
@given(workers=st.integers(1, 5), batch_size=st.integers(1, 70), order=st.permutations([0, 1, 2]))
def test_the_same_for_any_workers_and_batches(slides, expected, workers, batch_size, order):
    requests = [request(slides[number]) for number in order]
    batches = list(stream(requests, batch_size=batch_size, workers=workers))
    assert all(len(batch.pixels) <= batch_size for batch in batches)
    seen = [batch.request for batch in batches]
    assert [
        number for number, wanted in enumerate(requests) for _ in range(seen.count(wanted))
    ] == [requests.index(wanted) for wanted in seen]  # slide after slide, never mixed
    for wanted, number in zip(requests, order, strict=True):
        pixels, readable = joined([batch for batch in batches if batch.request is wanted])
        np.testing.assert_array_equal(pixels, expected[number][0])
        np.testing.assert_array_equal(readable, expected[number][1])
    assert [int((~readable).sum()) for _, readable in expected] == [0, 4, 0]


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.integers(-200, 1500), st.integers(-200, 1200)), max_size=12),
    st.integers(1, 4),
)
def test_any_tiles_in_any_order(slides, corners, workers):
    coords = np.array(corners, np.int32).reshape(-1, 2)
    pixels, readable = joined(
        list(stream([request(slides[0], coords)], batch_size=5, workers=workers))
    )
    np.testing.assert_array_equal(pixels, alone(slides[0], coords)[0])
    assert readable.all()


def test_no_slides_and_no_tiles(slides):
    assert list(stream([], batch_size=4, workers=2)) == []
    (batch,) = stream([request(slides[0], np.empty((0, 2), np.int32))], batch_size=4, workers=2)
    assert (batch.pixels.shape, batch.error) == ((0, TILE_PX, TILE_PX, 3), None)


def child(reader: SlideReader, sending) -> None:
    with reader, ThreadPoolExecutor(3) as pool:
        tiles = list(
            pool.map(
                lambda c: reader.read(float(c[0]), float(c[1]), SIDE, TILE_PX), grid(SIZE, SIDE)
            )
        )
        sending.send(np.stack(tiles))


@pytest.mark.parametrize(
    ("method", "decoder"),
    [
        ("fork", "auto"),
        pytest.param("fork", "openslide", marks=pytest.mark.slow),
        pytest.param("spawn", "auto", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_reader_crosses_to_another_process(slides, expected, method, decoder):
    context = multiprocessing.get_context(method)
    ends = [context.Pipe(duplex=False) for _ in range(2 if method == "fork" else 1)]
    with SlideReader(slides[0], decoder) as reader, ThreadPoolExecutor(2) as pool:
        reading = threading.Event()

        def read_on() -> None:
            while not reading.is_set():
                for x, y in grid(SIZE, SIDE):
                    reader.read(float(x), float(y), SIDE, TILE_PX)

        busy = [
            pool.submit(read_on) for _ in range(2)
        ]  # the parent's locks are taken when the child begins
        children = [context.Process(target=child, args=(reader, sending)) for _, sending in ends]
        for process in children:
            process.start()
        found = [receiving.recv() for receiving, _ in ends]
        for process, pair in zip(children, ends, strict=True):
            process.join(30)
            assert process.exitcode == 0
            process.close()
            for end in pair:
                end.close()
        reading.set()
        for future in busy:
            future.result(30)
    for tiles in found:
        np.testing.assert_array_equal(tiles, expected[0][0])


def test_a_closed_child_does_not_close_the_parents_slide(slides, expected):
    with SlideReader(slides[0], "openslide") as reader:
        reader.read(0.0, 0.0, SIDE, TILE_PX)
        pid = os.fork()
        if pid == 0:
            reader.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        np.testing.assert_array_equal(reader.read(0.0, 0.0, SIDE, TILE_PX), expected[0][0][0])


def test_a_reader_can_be_pickled(slides, expected):
    with SlideReader(slides[0], "openslide") as reader:
        data = pickle.dumps(reader)
    with pickle.loads(data) as again:
        assert (again.path, again.decoder) == (slides[0], "openslide")
        np.testing.assert_array_equal(again.read(0.0, 0.0, SIDE, TILE_PX), expected[0][0][0])


@pytest.mark.parametrize(
    "workers",
    [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)],
)
def test_each_block_is_decoded_once_in_a_stream(tmp_path, monkeypatch, workers):
    write_slide(tmp_path / "a.tif", noise(0, (4096, 1100)), MPP, tile=128)
    counts = []

    class Counted(SlideReader):
        def expect(self, *tiles):
            super().expect(*tiles)
            counts.append(count_decoding(monkeypatch, self, 0))

    monkeypatch.setattr(stream_module, "SlideReader", Counted)
    wanted = TileRequest(tmp_path / "a.tif", grid((4096, 1100), 100.0), 100.0, 100)
    for _ in stream([wanted], batch_size=16, workers=workers):
        pass
    (calls,) = counts
    assert len(calls) == 32 * 9
    assert set(calls.values()) == {1}


class Noticed(SlideReader):
    """Writes down when it opens and closes."""

    log: list[tuple[str, str]]

    def __init__(self, path, *how):
        super().__init__(path, *how)
        self.log.append(("open", path.name))

    def close(self):
        self.log.append(("close", self.path.name))
        super().close()


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(Noticed, "log", [], raising=False)
    monkeypatch.setattr(stream_module, "SlideReader", Noticed)
    return Noticed.log


def test_the_next_slide_opens_before_the_first_ends_and_all_are_closed(slides, log):
    batches = stream([request(slide) for slide in slides], batch_size=8, workers=1)
    for batch in batches:
        if batch.request.slide == slides[0] and batch.first + 16 >= len(batch.request.coords):
            break
    wait_for(lambda: ("open", "1.tif") in log)
    assert ("close", "0.tif") not in log
    list(batches)
    for kind in ("open", "close"):
        assert [name for what, name in log if what == kind] == ["0.tif", "1.tif", "2.tif"]


def wait_for(condition) -> None:
    done = threading.Event()
    for _ in range(1000):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError("never")


def test_requests_are_taken_when_their_turn_comes(slides):
    taken = []

    def requests():
        for number in range(100):
            taken.append(number)
            yield request(slides[0], np.zeros((8, 2), np.int32))

    batches = stream(requests(), batch_size=8, workers=2)
    next(batches)
    assert len(taken) <= 4
    batches.close()


def test_opening_holds_nobody_up(slides, monkeypatch):
    """While one slide takes long to open, the batches of the one before come."""
    go = threading.Event()

    class Slow(SlideReader):
        def __init__(self, path, *how):
            if path == slides[1]:
                assert go.wait(20)
            super().__init__(path, *how)

    monkeypatch.setattr(stream_module, "SlideReader", Slow)
    few = grid(SIZE, SIDE)[:16]
    batches = stream([request(slide, few) for slide in slides[:2]], batch_size=8, workers=2)
    assert [next(batches).request.slide for _ in range(2)] == [slides[0]] * 2
    go.set()
    assert [batch.request.slide for batch in batches] == [slides[1]] * 2


def test_slides_that_do_not_open_cost_only_themselves(slides, expected, tmp_path):
    (tmp_path / "text.tif").write_text("not a slide")
    bad = [tmp_path / "text.tif", tmp_path / "none.tif"]
    order = [bad[0], slides[0], bad[1], bad[0], slides[2], bad[1]]
    requests = [request(slide) for slide in order]
    batches = list(stream(requests, batch_size=7, workers=3))
    for wanted in requests:
        mine = [batch for batch in batches if batch.request is wanted]
        assert mine
        if wanted.slide in bad:
            assert all(batch.error is not None and not batch.readable.any() for batch in mine)
            assert str(mine[0].error).startswith(str(wanted.slide))
        else:
            np.testing.assert_array_equal(joined(mine)[0], expected[slides.index(wanted.slide)][0])
            assert all(batch.error is None for batch in mine)


def test_a_consumer_that_stops_early(slides, log):
    batches = stream([request(slide) for slide in slides], batch_size=4, workers=3)
    next(batches)
    batches.close()
    assert sorted(kind for kind, _ in log) == ["close", "open"]


def test_a_consumer_that_raises(slides):
    with pytest.raises(ZeroDivisionError):
        for batch in stream([request(slide) for slide in slides], batch_size=4, workers=3):
            len(batch.pixels) / 0


def test_requests_that_raise(slides):
    def requests():
        yield request(slides[0])
        raise OSError("the list of slides is gone")

    with pytest.raises(OSError, match="the list of slides"):
        list(stream(requests(), batch_size=4, workers=2))


def test_a_bug_while_reading_comes_out(slides, monkeypatch):
    monkeypatch.setattr(SlideReader, "read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(stream([request(slides[0])], batch_size=4, workers=2))


@pytest.mark.slow
def test_memory_is_bounded_on_a_wide_slide(tmp_path):
    """30000 x 2048 pixels are 184 MB; reading takes no more than cache and batches may hold."""
    block = simplejpeg.encode_jpeg(np.full((512, 512, 3), 150, np.uint8), quality=80)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(
            iter([block] * (59 * 4)),
            shape=(2048, 30000, 3),
            dtype=np.uint8,
            tile=(512, 512),
            photometric="ycbcr",
            compression="jpeg",
            metadata=None,
        )
    wanted = TileRequest(tmp_path / "a.tif", grid((30000, 2048), 512.0), 512.0, 224)
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        tiles = sum(
            int(batch.readable.sum()) for batch in stream([wanted], batch_size=32, workers=2)
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tiles == 58 * 4
    room = 3 * 30512 * 512 * 3  # three rows of blocks
    assert peak < room + 60 * 2**20
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before
    ) * 1024 < room + 120 * 2**20
