"""Where the files of a slide are found."""

from pathlib import Path

import pytest

from mil.config import DatasetConfig
from mil.errors import DatasetError
from mil.io.tables import Slide, read_slides
from mil.io.tables.paths import locate, locate_annotation, locate_masks

DATASET = DatasetConfig(classes=["normal", "tumour"])


def dataset(**changes: object) -> DatasetConfig:
    return DatasetConfig(**{"classes": ["normal", "tumour"], **changes})


def read(folder: Path, text: str) -> list[Slide]:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return read_slides(folder / "t.csv", DATASET)


def test_locate(tmp_path):
    settings = dataset(
        slide_paths=["x/{slide}.tif", "{slide}.svs"], annotation_paths=["{slide}.xml"]
    )
    named = Slide(
        slide="a", patient="a", label="normal", path="some/where.svs", annotation="other.xml"
    )
    plain = Slide(slide="a", patient="a", label="normal")
    assert locate(named, tmp_path, settings) == tmp_path / "some/where.svs"
    assert locate_annotation(named, tmp_path, settings) == tmp_path / "other.xml"
    assert (
        locate(plain, tmp_path, settings) == tmp_path / "x/a.tif"
    )  # the first, when there is none
    assert locate_annotation(plain, tmp_path, settings) is None
    (tmp_path / "a.svs").touch()
    (tmp_path / "A.xml").touch()
    assert locate(plain, tmp_path, settings) == tmp_path / "a.svs"
    assert locate_annotation(plain, tmp_path, settings) == tmp_path / "A.xml"
    assert locate_annotation(plain, tmp_path, DATASET) is None


def test_a_pattern_with_a_slip_is_a_missing_slide(tmp_path):
    slide = Slide(slide="a", patient="a", label="normal")
    assert locate(slide, tmp_path, dataset(slide_paths=["{slid}.tif"])) == tmp_path / "{slid}.tif"


def drawn(folder, *files, table="slide,label\na,normal\nb,normal\n", **changes):
    """What is found when these files lie in the slides' folder, as paths below it."""
    for name in ("a", "b", *files):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    found = locate_masks(read(folder, table), folder, dataset(slide_paths=["{slide}"], **changes))
    return {
        name: {kind: str(p.relative_to(folder)) for kind, p in kinds.items()}
        for name, kinds in found.items()
    }


def test_masks_are_found_in_their_folders(tmp_path):
    assert drawn(tmp_path) == {}
    assert drawn(tmp_path, "tissue/a.geojson", "region/a.png", "region/b.tif", "tissue/b.csv") == {
        "a": {"tissue": "tissue/a.geojson", "region": "region/a.png"},
        "b": {"region": "region/b.tif"},
    }
    assert drawn(tmp_path, "m/a_x.png", tissue_paths=["m/{slide}_x.png"], region_paths=[]) == {
        "a": {"tissue": "m/a_x.png"}
    }


def test_an_outline_put_back_goes_before_a_picture_and_the_table_before_both(tmp_path):
    files = ["tissue/a.png", "tissue/a.xml", "tissue/a.geojson"]
    assert drawn(tmp_path, *files)["a"] == {"tissue": "tissue/a.geojson"}
    table = "slide,label,tissue\na,normal,my/own.tiff\n"
    assert drawn(tmp_path, *files, "my/own.tiff", table=table) == {"a": {"tissue": "my/own.tiff"}}


@pytest.mark.parametrize("kind", ["tissue", "region"])
def test_a_mask_that_the_table_names_must_be_there(tmp_path, kind):
    table = f"slide,label,{kind}\na,normal,breast\nz,normal,\n"
    with pytest.raises(DatasetError) as caught:
        drawn(tmp_path, table=table)
    assert str(caught.value).startswith(f"slide a: {kind} 'breast': no file {tmp_path / 'breast'}")
    (tmp_path / "a").unlink()  # the slide is missing itself: that is told elsewhere
    assert locate_masks(read(tmp_path, table), tmp_path, dataset()) == {}
