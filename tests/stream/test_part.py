"""Slides of a part, streamed: fetched once, tiled and encoded while they are there, removed."""

from pathlib import Path

import h5py
import pytest

from mil.config import EncoderConfig, FeaturesConfig, TileConfig
from mil.errors import DatasetError
from mil.features.part import FeatureSettings
from mil.fetch import store
from mil.io.tables.parts import WHOLE
from mil.stream import stage
from mil.stream.part import Streamed, stream_part
from mil.tile.part import TileSettings
from mil.tile.stage import files_beside
from tests.messages import one_line

ENTRY = EncoderConfig(timm="resnet18", dim=8, tile_px=64, mpp=0.5, weights="random", licence="l")
TABLE = "slide,path,url,label\na,a.tif,s3://b/a,n\nb,b.tif,s3://b/none,t\nc,c.tif,s3://b/c,t\n"


@pytest.fixture
def study(tmp_path, monkeypatch) -> dict[str, list[str]]:
    """A dataset of three slides in a bucket that lacks one; what is done is written down."""
    (tmp_path / "toy.csv").write_text(TABLE)
    (tmp_path / "toy.yaml").write_text("classes: [n, t]\n")
    done: dict[str, list[str]] = {"fetched": [], "tiled": [], "encoded": []}

    def write(path: Path, digest: str) -> None:
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file.attrs.update({"made_from": str(digest), "complete": True})

    def fetch(url, out, *, checksum, by_hand):
        if url.endswith("none"):
            raise DatasetError(f"{url}: the bucket answered 404")
        done["fetched"].append(url)
        out.write_text(url)

    def tile(job, stale):
        assert job.file.read_text() == f"s3://b/{job.slide}"
        done["tiled"].append(job.out.parent.name + "/" + job.slide)
        (job.out.parent / "grid").mkdir(parents=True, exist_ok=True)
        for file in files_beside(job.out):
            file.touch()
        write(job.out, stale[0].digest)
        return f"{job.slide}: ok"

    def encode(job, stale):
        assert job.file.exists()
        for output in stale:
            done["encoded"].append(output.path.parent.name + "/" + job.slide)
            write(output.path, output.digest)
        return f"{job.slide}: ok, 3 tiles"

    monkeypatch.setattr(store, "run", fetch)
    monkeypatch.setattr(stage, "tile_slide", tile)
    monkeypatch.setattr(stage, "encode_slide", encode)
    return done


def streamed(folder: Path, encoder: str, tiling: str = "t", mpp: float = 0.5) -> Streamed:
    settings = TileSettings(64, mpp, TileConfig())
    return Streamed(encoder, ENTRY, folder / tiling, folder / encoder, settings)


def results(folder: Path, *encoders: Streamed):
    return list(
        stream_part(
            str(folder / "toy.yaml"),
            folder / "slides",
            encoders,
            FeatureSettings(FeaturesConfig(), 1, "cpu"),
            WHOLE,
            slots=1,
            trust_urls=False,
        )
    )


def test_each_slide_is_fetched_once_for_all_encoders(tmp_path, study):
    encoders = [
        streamed(tmp_path, "e1"),
        streamed(tmp_path, "e2", "u", 1.0),
        streamed(tmp_path, "e3"),
    ]
    a, b, c = results(tmp_path, *encoders)
    assert study["fetched"] == ["s3://b/a", "s3://b/c"]
    assert study["tiled"] == ["t/a", "u/a", "t/c", "u/c"]
    assert study["encoded"][:3] == ["e1/a", "e3/a", "e2/a"]
    assert list((tmp_path / "slides").rglob("*.tif")) == []
    # One line for the slide that its bucket lacks; the others go on.
    assert (b.failed, b.line) == (True, "s3://b/none: the bucket answered 404")
    assert not a.failed
    assert not c.failed
    # The tables' digests are those that the bags carry.
    for number, encoder in enumerate(("e1", "e2", "e3")):
        with h5py.File(tmp_path / encoder / "c.h5") as file:
            assert file.attrs["made_from"] == c.digests[number]


def test_a_slide_whose_bag_is_there_is_not_fetched(tmp_path, study):
    first = results(tmp_path, streamed(tmp_path, "e1"))
    study["fetched"].clear()
    again = results(tmp_path, streamed(tmp_path, "e1"))
    assert study["fetched"] == []
    assert [result.line for result in again if not result.failed] == ["", ""]
    assert again[0].digests == first[0].digests
    # For another encoder it is, but its tiles stay.
    results(tmp_path, streamed(tmp_path, "e2"))
    assert study["fetched"] == ["s3://b/a", "s3://b/c"]
    assert study["tiled"] == ["t/a", "t/c"]


def test_a_strangers_urls_are_checked(tmp_path, study):
    (tmp_path / "toy.csv").write_text(TABLE.replace("s3://b/a", "file:///etc/hostname"))
    with one_line(DatasetError) as caught:
        results(tmp_path, streamed(tmp_path, "e1"))
    assert "leads out of the dataset's folder" in str(caught.value)
    assert study["fetched"] == []
