"""Pictures on a disk that fills up."""

import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from mil.io.pictures import write_jpeg


@contextmanager
def files_of_at_most(size: int):
    """A write that comes to the limit is short, as on a disk that becomes full with it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_picture_is_whole_or_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    path = tmp_path / "a.jpg"
    write_jpeg(path, image, quality=90)
    size = path.stat().st_size
    image.save(tmp_path / "b.jpg", quality=90)
    assert (tmp_path / "b.jpg").read_bytes() == path.read_bytes()
    with files_of_at_most(size - 50):
        # That of Pillow ends well, and 50 bytes are missing.
        image.save(tmp_path / "b.jpg", quality=90)
        with pytest.raises(OSError, match="too large"):
            write_jpeg(path, image, quality=90)
    assert (tmp_path / "b.jpg").stat().st_size == size - 50
