"""Features of tiles: each belongs to its tile, for any number of threads; damage costs one tile."""

from queue import Queue

import numpy as np
import pytest

from mil.encoders.runner import ExtractionSettings
from mil.errors import UnreadableSlideError
from mil.features.extract import extract
from mil.io.slides import SlideReader, TileRequest
from tests.synthetic import spoil_tile, write_slide

SIDE = 64
COLUMNS = 12
ROWS = 8
COORDS = np.array([(x * SIDE, y * SIDE) for y in range(ROWS) for x in range(COLUMNS)], np.int32)


def colours() -> np.ndarray:
    """What the mean colour of each tile is: red tells its column, green its row."""
    return (COORDS // SIDE * [20, 30]).astype(np.float32)


class MeanColour:
    """An encoder: mean red and green of a tile times `times`; it records its batch sizes."""

    dim = 2

    def __init__(self, times: float = 1.0) -> None:
        self.times = times
        self.sizes = []

    def __call__(self, pixels):
        assert pixels.shape[1:] == (32, 32, 3)
        self.sizes.append(len(pixels))
        return pixels.float().mean((1, 2))[:, :2] * self.times


def read_all(path, coords, encoders, **changes):
    request = TileRequest(path, coords, float(SIDE), 32)
    own = {name: changes.pop(name) for name in ExtractionSettings._fields if name in changes}
    settings = ExtractionSettings(7, 2, 2)._replace(**own)
    return extract(request, encoders, settings, **changes)


def read(path, coords=COORDS, **changes):
    extracted = read_all(path, coords, [MeanColour()], **changes)
    return extracted.features[0], extracted.valid, extracted.num_tried


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "a.tif"
    small = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    small[..., :2] = colours().reshape(ROWS, COLUMNS, 2)
    write_slide(path, small.repeat(SIDE, 0).repeat(SIDE, 1), 0.5, tile=64)
    return path


def test_each_feature_belongs_to_its_tile(slide):
    features, valid, _ = read(slide)
    np.testing.assert_allclose(features, colours(), atol=0.01)
    assert features.dtype == np.float32
    assert valid.all()


def test_order_is_that_of_the_coordinates(slide):
    order = np.random.default_rng(0).permutation(len(COORDS))
    np.testing.assert_allclose(read(slide, COORDS[order])[0], colours()[order], atol=0.01)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_change_nothing(slide, threads):
    encoder = MeanColour()
    extracted = read_all(
        slide, COORDS[:30], [encoder], batch_size=8, reader_threads=threads, encoder_threads=threads
    )
    np.testing.assert_array_equal(
        extracted.features[0],
        read(slide, COORDS[:30], batch_size=30, reader_threads=1, encoder_threads=1)[0],
    )
    assert sorted(encoder.sizes) == [6, 8, 8, 8]


def test_several_encoders_share_one_reading(slide, monkeypatch):
    reads = []
    read_one = SlideReader.read
    monkeypatch.setattr(
        SlideReader, "read", lambda self, *args: (reads.append(args), read_one(self, *args))[1]
    )
    extracted = read_all(slide, COORDS[:20], [MeanColour(), MeanColour(2.0), MeanColour(-1.0)])
    assert len(reads) == 20
    for features, times in zip(extracted.features, (1, 2, -1), strict=True):
        np.testing.assert_allclose(features, colours()[:20] * times, atol=0.03)


def test_pending_batches_are_few(slide, monkeypatch):
    """Two read ahead, one waiting, one being encoded: no more, however slow the encoder is."""
    begun = Queue()
    done = []
    read_one = SlideReader.read
    monkeypatch.setattr(
        SlideReader, "read", lambda self, *args: (begun.put(args), read_one(self, *args))[1]
    )

    class Slow(MeanColour):
        def __call__(self, pixels):
            while len(seen) < min(len(done) + 4, 30):  # until reading is well ahead
                seen.append(begun.get(timeout=60))
            pending.append(len(seen) + begun.qsize() - len(done))
            done.append(len(pixels))
            return super().__call__(pixels)

    seen = []
    pending = []
    assert read_all(
        slide, COORDS[:30], [Slow()], batch_size=1, reader_threads=1, encoder_threads=1
    ).valid.all()
    assert max(pending) <= 4


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 13, 14, 15, 21, 22])
def test_at_the_borders_of_batches(slide, count):
    done = []
    features, valid, tried = read(slide, COORDS[:count], advance=done.append)
    assert tried == count
    np.testing.assert_allclose(features, colours()[:count], atol=0.01)
    assert (len(valid), valid.all()) == (count, True)
    assert sum(done) == count


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_a_bad_spot_costs_its_tile_only(slide, tmp_path, batch_size):
    path = tmp_path / "b.tif"
    bad = [5, 40, 41]
    with SlideReader(slide) as reader:
        pixels = np.asarray(reader.read_box((0.0, 0.0), (768.0, 512.0), (768, 512)))
    write_slide(path, pixels, 0.5, tile=64, compression="jpeg")
    for index in bad:  # the file's tiles are the grid's
        spoil_tile(path, index)
    features, valid, tried = read(path, batch_size=batch_size)
    assert np.flatnonzero(~valid).tolist() == bad
    assert (features[bad] == 0).all()
    assert tried == len(COORDS)
    np.testing.assert_allclose(features[valid], colours()[valid], atol=2)


def test_a_slide_with_too_many_bad_spots_is_given_up(slide, tmp_path):
    path = tmp_path / "b.tif"
    with SlideReader(slide) as reader:
        pixels = reader.read_box((0.0, 0.0), (768.0, 512.0), (768, 512))
    write_slide(path, pixels, 0.5, tile=64, compression="jpeg")
    for index in range(8, 96):
        spoil_tile(path, index)
    features, valid, tried = read(path, batch_size=16, max_unreadable=20)
    assert np.flatnonzero(valid).tolist() == list(range(8))
    assert tried == 32  # after the second batch 24 are bad
    assert (features[8:] == 0).all()
    assert read(path, batch_size=16, max_unreadable=88)[2] == 96


def test_a_slide_that_is_gone(tmp_path):
    with pytest.raises(UnreadableSlideError, match="no such file"):
        read(tmp_path / "none.tif")


def test_an_error_of_the_encoder_is_not_swallowed(slide):
    class Broken(MeanColour):
        def __call__(self, pixels):
            raise RuntimeError("a fault of its own")

    with pytest.raises(RuntimeError, match="a fault of its own"):
        read_all(slide, COORDS, [MeanColour(), Broken()])


def test_handles_are_closed(slide, monkeypatch):
    opened = []
    closed = []
    init = SlideReader.__init__
    close = SlideReader.close
    monkeypatch.setattr(
        SlideReader, "__init__", lambda self, *args: (opened.append(self), init(self, *args))[1]
    )
    monkeypatch.setattr(SlideReader, "close", lambda self: (closed.append(self), close(self))[1])
    read(slide)
    assert len(opened) >= 1
    assert {id(reader) for reader in opened} == {id(reader) for reader in closed}


def test_features_are_kept_as_they_will_be_stored(slide):
    extracted = read_all(slide, COORDS, [MeanColour(), MeanColour(1000.0)], dtype="float16")
    assert [features.dtype for features in extracted.features] == [np.float16, np.float16]
    np.testing.assert_allclose(extracted.features[0], colours(), rtol=1e-3, atol=0.01)
    too_much = colours() > 65  # a thousand times as much is more than float16 holds
    assert np.isinf(extracted.features[1]).tolist() == too_much.tolist()
