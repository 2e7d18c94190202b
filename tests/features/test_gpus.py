"""Slides on several devices: the same bags as on one, and which GPUs are taken."""

from dataclasses import replace

import pytest
import torch

from mil.config import EncoderConfig, FeaturesConfig, TileConfig
from mil.device import visible_gpus
from mil.errors import ConfigError
from mil.features import gpus
from mil.features.gpus import encode_in_processes, encode_slides
from mil.features.part import FeatureJob, FeatureSettings
from mil.features.stage import Target
from mil.io.part_jobs import SlideResult
from mil.tile import stage as tile_stage
from tests.synthetic import tissue_slide

ENTRY = EncoderConfig(
    timm="test_resnet", dim=96, tile_px=64, mpp=0.5, weights="random", licence="ours"
)
SLIDES = ("a", "b", "c")


def jobs_in(folder, settings: FeatureSettings) -> list[FeatureJob]:
    return [
        FeatureJob(
            slide,
            folder / f"{slide}.tif",
            folder / f"{slide}.h5",
            (Target("tiny", ENTRY, folder / "bags" / f"{slide}.h5"),),
            settings,
        )
        for slide in SLIDES
    ]


@pytest.mark.slow
def test_several_devices_give_the_bags_of_one(tmp_path):
    for number, slide in enumerate(SLIDES, start=1):
        tissue_slide(tmp_path / f"{slide}.tif", (1024 * number, 768), 0.25)
        tile_stage.run(
            tmp_path / f"{slide}.tif",
            slide,
            tmp_path / f"{slide}.h5",
            tile_px=64,
            target_mpp=0.5,
            mpp=0.25,
            config=TileConfig(),
        )
    settings = FeatureSettings(FeaturesConfig(), 2, "cpu")
    jobs = jobs_in(tmp_path, settings)
    # One that fails harms no other, on any device.
    jobs.insert(1, replace(jobs[0], slide="absent", tiles=tmp_path / "absent.h5"))
    bags = [tmp_path / "bags" / f"{slide}.h5" for slide in SLIDES]
    one = {result.slide: result for result in encode_slides(jobs, settings)}
    expected = [bag.read_bytes() for bag in bags]
    for bag in bags:
        bag.unlink()
    several = encode_in_processes(jobs, settings, {"CPU 1": {}, "CPU 2": {}})
    two = {result.slide: result for result in several}
    assert [bag.read_bytes() for bag in bags] == expected
    assert {slide for slide, result in two.items() if result.failed} == {"absent"}
    assert two["absent"] == one["absent"]
    assert [two[slide].digests for slide in SLIDES] == [one[slide].digests for slide in SLIDES]
    again = list(encode_in_processes(jobs[2:], settings, {"CPU 1": {}, "CPU 2": {}}))
    assert [result.line for result in again] == ["", ""]


@pytest.fixture
def three_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_are_those_that_the_environment_leaves(three_gpus, monkeypatch):
    assert visible_gpus() == ["0", "1", "2"]
    assert visible_gpus(2) == ["0", "1"]
    # CUDA ends the list at an id that it does not know, and counts those before it.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-8a, 2,-1")
    assert visible_gpus() == ["5", "GPU-8a", "2"]
    with pytest.raises(ConfigError, match="--devices 4: 3 GPUs are visible here"):
        visible_gpus(4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_each_gpu_has_a_process_that_sees_no_other(three_gpus, monkeypatch, tmp_path):
    seen = []

    def in_processes(jobs, settings, environments):
        seen.append(environments)
        yield SlideResult("a", "", ())

    monkeypatch.setattr(gpus, "encode_in_processes", in_processes)
    monkeypatch.setattr(gpus, "run_jobs", lambda *_: [SlideResult("a", "here", ())])
    settings = FeatureSettings(FeaturesConfig(), 2, "auto")
    jobs = jobs_in(tmp_path, settings)
    list(encode_slides(jobs, settings))
    list(encode_slides(jobs, settings, 2))
    # No process waits for a slide that will not come.
    list(encode_slides(jobs[:2], settings))
    visible = [[values["CUDA_VISIBLE_DEVICES"] for values in named.values()] for named in seen]
    assert visible == [["0", "1", "2"], ["0", "1"], ["0", "1"]]
    assert list(seen[0]) == ["GPU 0", "GPU 1", "GPU 2"]
    on_one = [(jobs, settings, 1), (jobs[:1], settings, None), (jobs, replaced("cpu"), None)]
    for arguments in on_one:
        assert [result.line for result in encode_slides(*arguments)] == ["here"]


def replaced(device: str) -> FeatureSettings:
    return FeatureSettings(FeaturesConfig(), 2, device)
