"""What a run is made of, before anything runs."""

from pathlib import Path

import pytest

from mil.config import load_encoders
from mil.errors import DatasetError
from mil.plan import make_plan, size_flags

TABLE = """slide,label,path,split,annotation,url
a,normal,a.tif,train,,
b,tumour,b.tif,test,b's regions.xml,
c,tumour,c.tif,,,https://example.org/c.tif
"""


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A dataset of three slides, the last of which can be fetched; its folder is the working directory."""
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/datasets/toy.yaml").write_text("classes: [normal, tumour]\n")
    (tmp_path / "configs/datasets/toy.csv").write_text(TABLE)
    (tmp_path / "data/toy").mkdir(parents=True)
    for name in ("a.tif", "b.tif"):
        (tmp_path / "data/toy" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(**settings):
    return make_plan({"dataset": "toy", **settings})


def test_where_things_are(study):
    made = plan()
    assert made.slides_dir == Path("data/toy")
    assert made.files == {name: Path(f"data/toy/{name}.tif") for name in "abc"}
    assert made.missing == {}  # c can be fetched
    assert made.fetchable == {"c.tif": ("https://example.org/c.tif", "")}
    assert made.table == Path("configs/datasets/toy.csv")
    assert plan(slides_dir="data/toy/../toy").slides_dir == Path("data/toy/../toy")


def test_a_missing_slide_stops_unless_it_may_be_missing(study):
    (study / "data/toy/b.tif").unlink()
    with pytest.raises(DatasetError, match="1 of 3 slides are not in data/toy"):
        plan()
    assert plan(allow_missing=True).missing == {"b": Path("data/toy/b.tif")}


def test_the_tiling_is_the_encoders_unless_the_run_says_otherwise(study):
    entry = load_encoders()["resnet18"]
    assert plan(encoder="resnet18").tilings == {"resnet18": f"{entry.tile_px}px_{entry.mpp:g}mpp"}
    assert plan(encoder="resnet18", tile={"size_px": 96, "mpp": 1.25}).tilings == {"resnet18": "96px_1.25mpp"}


def test_paths_and_flags_of_each_encoder_and_head(study):
    made = plan(encoder=["resnet18", "efficientnet_lite0"], head=["abmil", "acmil"])
    assert made.of_each_head("{dataset}/{tiling}/{encoder}/{head}/{{slide}}") == [
        f"toy/224px_0.5mpp/{encoder}/{head}/{{slide}}"
        for encoder in ("resnet18", "efficientnet_lite0")
        for head in ("abmil", "acmil")
    ]
    assert made.states == (
        "--tiles results/toy/tile/224px_0.5mpp --bags results/toy/features/224px_0.5mpp/resnet18 "
        "--tiles results/toy/tile/224px_0.5mpp --bags results/toy/features/224px_0.5mpp/efficientnet_lite0"
    )


def test_which_slides_are_drawn(study):
    assert plan().drawn == ["a", "b", "c"]
    assert plan(heatmap={"slides": "test"}).drawn == ["b"]


def test_files_of_strangers_are_quoted(study):
    (study / "data/toy/region").mkdir()
    (study / "data/toy/region/a.xml").touch()
    made = plan()
    assert made.annotation_flags("b") == "--annotation 'data/toy/b'\"'\"'s regions.xml' --geojson-frame scanned"
    assert made.mask_flags("a") == "--region data/toy/region/a.xml --geojson-frame scanned"
    assert (made.annotation_flags("a"), made.mask_flags("b")) == ("", "")


def test_a_tilings_name_says_its_size():
    assert size_flags("224px_0.5mpp") == "--size-px 224 --target-mpp 0.5"
    assert size_flags("96px_1e-05mpp") == "--size-px 96 --target-mpp 1e-05"
