"""Killed at any moment, or busy: the next run makes the same bags, and nothing is left behind."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from mil.config import EncoderConfig, FeaturesConfig, TileConfig
from mil.features.stage import Target, run
from mil.io.bags import file as bags
from mil.tile import stage as tile_stage
from tests.synthetic import tissue_slide

ENTRY = EncoderConfig(
    timm="test_resnet", dim=96, tile_px=64, mpp=0.5, weights="random", licence="ours"
)
NAMES = ("a", "b")


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slide")
    tissue_slide(folder / "s.tif", (3072, 2304), 0.25, levels=(1,), compression=None)
    tile_stage.run(
        folder / "s.tif",
        "s",
        folder / "s.h5",
        tile_px=64,
        target_mpp=0.5,
        mpp=0.25,
        config=TileConfig(),
    )
    return folder


def embed(slide, out, threads: int = 1) -> None:
    targets = [Target(name, ENTRY, out / name / "s.h5") for name in NAMES]
    torch.manual_seed(5)  # of the random weights
    run(
        slide / "s.tif",
        slide / "s.h5",
        targets,
        config=FeaturesConfig(),
        threads=threads,
        device="cpu",
    )


def files(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(slide, tmp_path_factory):
    embed(slide, tmp_path_factory.mktemp("first"))  # so that the next one imports nothing
    out = tmp_path_factory.mktemp("undisturbed")
    began = time.perf_counter()
    embed(slide, out)
    return files(out), time.perf_counter() - began


def killed_after(seconds: float, slide, out) -> bool:
    """Start a process that embeds and kill it; whether it was still at work."""
    child = os.fork()
    if child == 0:
        embed(slide, out)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_killed_at_twenty_random_moments(slide, undisturbed, tmp_path):
    expected, seconds = undisturbed
    assert set(expected) == {"a/s.h5", "b/s.h5"}
    moments = np.random.default_rng(0).uniform(0, seconds, 20)
    killed = 0
    for moment in moments:
        killed += killed_after(moment, slide, tmp_path)
        left = {name for name in files(tmp_path) if not name.split("/")[1].startswith(".partial-")}
        assert all(
            files(tmp_path)[name] == expected[name] for name in left
        )  # what is there is whole
    assert killed >= 5  # of the rest some were done before
    embed(slide, tmp_path)
    assert files(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_killed_while_a_bag_is_written(slide, undisturbed, tmp_path):
    child = os.fork()
    if child == 0:  # asked for when features and coordinates are in the file already
        bags._tile_order = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        embed(slide, tmp_path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = files(tmp_path)
    assert left.startswith("a/.partial-")
    embed(slide, tmp_path)
    assert files(tmp_path) == undisturbed[0]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 4])
def test_threads_and_a_busy_machine_change_no_bit(slide, undisturbed, tmp_path, threads):
    over = threading.Event()

    def disturb():
        while not over.is_set():
            np.sort(np.random.default_rng(0).random(100_000))

    busy = [threading.Thread(target=disturb) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        embed(slide, tmp_path, threads)
    finally:
        over.set()
        for thread in busy:
            thread.join()
    assert files(tmp_path) == undisturbed[0]
