"""Blocks: decoded once, kept while there is room, failures reach everybody who waits."""

import math
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mil.errors import UnreadableSlideError
from mil.io.slides import SlideReader
from mil.io.slides.blocks import FAILURE_BYTES, BlockCache, BlockError
from mil.io.slides.levels import Level
from mil.io.slides.window import assemble, bounding_box, count_uses
from mil.tile.grid import grid
from tests.synthetic import spoil_tile, write_slide

TIMEOUT_S = 10
BLOCK = np.zeros((10, 10, 3), np.uint8)


def test_a_block_is_dropped_after_its_last_expected_use():
    cache = BlockCache(1000)
    decoded = []
    cache.expect({"a": 2, "b": 1})
    for key in ("a", "b", "a"):
        cache.get(key, lambda key=key: decoded.append(key) or BLOCK.copy())
    assert (decoded, list(cache._blocks), cache._bytes) == (["a", "b"], [], 0)
    for _ in range(2):  # more often than expected: decoded again, then kept as any other
        cache.get("b", lambda: decoded.append("again") or BLOCK.copy())
    assert (decoded, list(cache._blocks), cache._bytes) == (["a", "b", "again"], ["b"], 300)


def never():
    raise AssertionError("decoded again")


def test_a_block_is_decoded_once():
    cache = BlockCache(1000)
    first = cache.get("a", lambda: BLOCK)
    assert cache.get("a", never) is first


def test_two_who_want_the_same_block_wait_for_one():
    cache = BlockCache(1000)
    began = threading.Event()
    go = threading.Event()
    calls = []

    def slow():
        calls.append(1)
        began.set()
        assert go.wait(TIMEOUT_S)
        return BLOCK

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(cache.get, "a", slow)]
        assert began.wait(TIMEOUT_S)
        futures += [pool.submit(cache.get, "a", slow) for _ in range(2)]
        other = cache.get("b", lambda: BLOCK)  # nobody else is held up
        assert other is BLOCK
        go.set()
        assert all(future.result(TIMEOUT_S) is BLOCK for future in futures)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error", [BlockError("damaged"), ValueError("a bug"), KeyboardInterrupt()], ids=repr
)
def test_who_waits_for_a_failure_hears_of_it(error):
    cache = BlockCache(1000)
    began = threading.Event()
    go = threading.Event()

    def fail():
        began.set()
        assert go.wait(TIMEOUT_S)
        raise error

    found = []

    def ask():
        try:
            cache.get("a", fail)
        except BaseException as caught:  # noqa: BLE001
            found.append(type(caught))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    threads[0].start()
    assert began.wait(TIMEOUT_S)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert found == [type(error)] * 3


def test_damage_is_remembered_and_other_errors_are_not():
    cache = BlockCache(10_000)
    for key, error in (("damage", BlockError("damaged")), ("bug", ValueError("a bug"))):
        with pytest.raises(type(error), match=str(error)):
            cache.get(key, lambda error=error: (_ for _ in ()).throw(error))
    with pytest.raises(BlockError, match="damaged") as caught:
        cache.get("damage", never)
    assert cache.get("bug", lambda: BLOCK) is BLOCK
    assert (
        caught.value.__context__ is None
    )  # nothing that held the first one's frames, and the data in them


def held(cache: BlockCache) -> int:
    sizes = [future.result() for future in cache._blocks.values()]
    return sum(FAILURE_BYTES if isinstance(found, str) else found.nbytes for found in sizes)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40), st.booleans()), max_size=200),
    st.integers(0, 20_000),
)
def test_memory_is_bounded_and_blocks_are_the_right_ones(wanted, max_bytes):
    cache = BlockCache(max_bytes)
    damaged = {key for key, _, bad in wanted if bad}
    for key, side, _ in wanted:

        def decode(key=key, side=side):
            if key in damaged:
                raise BlockError(str(key))
            return np.full((side, side, 3), key, np.uint8)

        if key in damaged:
            with pytest.raises(BlockError, match=f"^{key}$"):
                cache.get(key, decode)
        else:
            assert (cache.get(key, decode) == key).all()
        assert held(cache) == cache._bytes <= max_bytes


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_the_least_recently_used_goes_first(keys):
    cache = BlockCache(3 * BLOCK.nbytes)
    order = []
    decoded = []
    for key in keys:
        cache.get(key, lambda key=key: decoded.append(key) or BLOCK.copy())
        if key in order:
            order.remove(key)
        order = [*order, key][-3:]
        assert list(cache._blocks) == order


def count_decoding(monkeypatch, reader: SlideReader, number: int) -> Counter:
    calls: Counter = Counter()
    blocks = reader.blocks(number)
    lock = threading.Lock()
    read = blocks.read

    def counted(column, row):
        with lock:
            calls[column, row] += 1
        return read(column, row)

    monkeypatch.setattr(blocks, "read", counted)
    return calls


@given(
    st.sampled_from([(1.0, 1.0), (2.0, 2.0), (1.9998, 2.0005), (3.8998, 3.9)]),
    st.floats(20, 700),
    st.lists(st.tuples(st.integers(-300, 4000), st.integers(-300, 3000)), min_size=1, max_size=12),
)
def test_uses_are_counted_as_windows_ask_for_blocks(down, side, corners):
    level = Level(1900, 1300, *down)
    blocks = SimpleNamespace(width_px=240, height_px=256, read=never)
    asked: Counter = Counter()

    def block(column, row):
        asked[column, row] += 1
        return np.zeros((256, 240, 3), np.uint8)

    for x, y in corners:
        box = bounding_box(
            x / down[0], y / down[1], x / down[0] + side / down[0], y / down[1] + side / down[1]
        )
        assemble(level, blocks, block, box)
    assert count_uses(level, blocks, np.array(corners), side) == asked


@pytest.mark.parametrize("decoder", ["auto", "openslide"])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_row_by_row_each_block_is_decoded_once(tmp_path, monkeypatch, workers, decoder):
    # tiles begin and end inside blocks
    size = (2000, 1600)
    side = 224 * 0.25 / 0.243
    write_slide(
        tmp_path / "a.tif",
        np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8),
        0.25,
        tile=128,
    )
    with SlideReader(tmp_path / "a.tif", decoder) as reader:
        corners = grid(size, side)
        cache = reader._blocks.cache
        held = []
        reader.expect(corners, side, 224)
        calls = count_decoding(monkeypatch, reader, 0)

        def read(corner):
            reader.read(float(corner[0]), float(corner[1]), side, 224)
            held.append(cache._bytes)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(read, corners))
        # Nothing is kept that nobody will ask for.
        assert (cache._bytes, len(cache._blocks)) == (0, 0)
    if workers == 1:
        assert max(held) <= 4 * 2048 * 128 * 3  # rows of blocks that two rows of tiles share
    touched = [math.ceil(int(length // side) * side / 128) for length in size]
    assert len(calls) == touched[0] * touched[1]
    assert set(calls.values()) == {1}


def test_two_threads_at_a_damaged_block_both_hear_and_it_is_tried_twice_only(tmp_path, monkeypatch):
    write_slide(tmp_path / "a.tif", np.full((512, 512, 3), 90, np.uint8), 0.25, compression="jpeg")
    spoil_tile(tmp_path / "a.tif", 1)
    with SlideReader(tmp_path / "a.tif") as reader:
        calls = count_decoding(monkeypatch, reader, 0)
        barrier = threading.Barrier(4)

        def read(_):
            barrier.wait(10)
            with pytest.raises(UnreadableSlideError, match="cannot be decoded") as caught:
                reader.read(300.0, 10.0, 100.0, 50)
            return str(caught.value)

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(read, range(4)))) == 1
        assert calls == {(1, 0): 1}
        assert (reader.read(10.0, 300.0, 100.0, 50) == 90).all()


def test_a_closed_slide_does_not_read_another_file(tmp_path):
    for name, grey in (("a.tif", 90), ("b.tif", 40)):
        write_slide(tmp_path / name, np.full((512, 512, 3), grey, np.uint8), 0.25, compression=None)
    with SlideReader(tmp_path / "a.tif") as reader:
        blocks = reader.blocks(0)
    with (
        SlideReader(tmp_path / "b.tif"),
        pytest.raises(ValueError, match="closed"),
    ):  # it has a's number now
        blocks.fetch(0)
