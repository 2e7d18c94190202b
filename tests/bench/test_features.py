"""`mil bench features` measures what it says, on the same tiles for all."""

import json

import pytest
from typer.testing import CliRunner

from mil.bench import features, processes
from mil.cli import app
from mil.config import EncoderConfig
from tests.synthetic import tissue_slide

ENTRY = EncoderConfig(
    timm="test_resnet", dim=96, tile_px=64, mpp=0.5, weights="random", licence="ours"
)


@pytest.fixture
def slide(tmp_path, monkeypatch):
    tissue_slide(tmp_path / "a.tif", (2048, 1536), 0.25)
    monkeypatch.setattr(features, "load_encoder", lambda _: ENTRY)
    monkeypatch.setattr(features, "encoder_name", lambda name: name)
    monkeypatch.setattr(features, "start_up_s", lambda *_: 1.5)
    monkeypatch.setattr(features, "plain_rate", lambda *_, **__: 50.0)
    return tmp_path / "a.tif"


def bench(slide, **changes):
    usual = {
        "encoders": ["tiny"],
        "threads": 2,
        "tiles": 70,
        "repeats": 1,
        "device": "cpu",
        "precision": "fp32",
        "random_weights": False,
    }
    return features.run([slide], **{**usual, **changes}).rows


@pytest.mark.slow
def test_numbers_that_fit_together(slide, monkeypatch):
    (row,) = bench(slide)
    assert (row["slide"], row["encoder"], row["device"], row["step"]) == (
        "a.tif",
        "tiny",
        "cpu, fp32",
        16,
    )
    assert row["tiles"] == 70
    assert row["speed-up"] == pytest.approx(row["encoder_tiles/s"] / 50.0)
    assert row["speed-up_kept"] == pytest.approx(row["encoder_tiles/s"] / row["plain_kept_tiles/s"])
    assert row["ratio"] == pytest.approx(
        row["together_tiles/s"] / min(row["reading_tiles/s"], row["encoder_tiles/s"])
    )
    assert row["limits"] == (
        "reading" if row["reading_tiles/s"] < row["encoder_tiles/s"] else "encoder"
    )
    assert 0 < row["busy"] <= 1
    assert float(row["cosine_least"]) > 0.99999  # the same model in the same precision
    assert row["start-up_s"] == 1.5


def test_a_slow_encoder_is_given_fewer_tiles(slide, monkeypatch):
    monkeypatch.setattr(features, "ROUND_S", 0.0)
    assert [row["tiles"] for row in bench(slide, threads=1)] == [32]


@pytest.mark.slow
def test_from_the_command_line_with_a_real_start(slide, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "start_up_s", processes.start_up_s)
    monkeypatch.setattr(features, "plain_rate", processes.plain_rate)
    monkeypatch.setattr(features, "ROUND_S", 0.0)
    result = CliRunner().invoke(
        app,
        [
            "bench",
            "features",
            str(slide),
            "--tiles",
            "32",
            "--repeats",
            "1",
            "--json",
            str(tmp_path / "o.json"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "mil bench features, threads: 1" in result.output
    (row,) = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert row["plain_tiles/s"] > 0
    assert row["start-up_s"] > 0.5  # a Python with torch cannot do it in less
