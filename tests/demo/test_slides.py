"""Demo slides as a reader sees them: resolution, glass, tumour where the outline says."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
from shapely.geometry import Polygon
from skimage.draw import polygon2mask

from mil.demo import stage
from mil.demo.anatomy import build_anatomy
from mil.demo.annotation import tumour_outlines
from mil.demo.cells import place_cells
from mil.demo.ground import fibre_frame
from mil.demo.plan import DemoSlide, demo_slides
from mil.demo.pyramid import halve
from mil.demo.render import render
from mil.demo.stage import make
from mil.demo.tissue import STEP_UM, extent_um, lay_out
from mil.errors import DatasetError
from tests.messages import one_line

MINI = {slide.id: slide for slide in demo_slides("mini")}
POSITIVE = [slide for slide in MINI.values() if slide.label == "tumour"]


def first(scanner: str, label: str = "tumour") -> DemoSlide:
    """The first mini slide of a scanner and a label."""
    return next(
        slide for slide in MINI.values() if slide.scanner == scanner and slide.label == label
    )


@pytest.fixture(scope="module", params=["A", "B"])
def made(request, tmp_path_factory) -> tuple[DemoSlide, Path]:
    slide = first(request.param)
    folder = tmp_path_factory.mktemp(f"scanner_{request.param}")
    make(f"{slide.id}.tif", folder / "slide.tif")
    make(f"{slide.id}.xml", folder / "slide.xml")
    return slide, folder


def test_openslide_reads_size_and_resolution(made):
    slide, folder = made
    with openslide.OpenSlide(folder / "slide.tif") as opened:
        assert opened.properties["openslide.vendor"] == "generic-tiff"
        assert opened.dimensions == (slide.width_px, slide.height_px)
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(slide.mpp, rel=1e-4)
        assert float(opened.properties["openslide.mpp-y"]) == pytest.approx(slide.mpp, rel=1e-4)
        assert max(opened.level_dimensions[-1]) <= 1024
        assert opened.level_downsamples == pytest.approx(
            [2.0**n for n in range(opened.level_count)], rel=2e-3
        )


def test_levels_show_the_same_picture(made):
    _, folder = made
    with openslide.OpenSlide(folder / "slide.tif") as opened:
        whole = np.asarray(opened.read_region((0, 0), 0, opened.dimensions))[..., :3]
        small = np.asarray(opened.read_region((0, 0), 1, opened.level_dimensions[1]))[..., :3]
    assert np.abs(halve(whole).astype(int) - small).mean() < 4


def test_same_name_same_bytes(made, tmp_path):
    slide, folder = made
    make(f"{slide.id}.tif", tmp_path / "again.tif")
    make(f"{slide.id}.xml", tmp_path / "again.xml")
    assert (tmp_path / "again.tif").read_bytes() == (folder / "slide.tif").read_bytes()
    assert (tmp_path / "again.xml").read_bytes() == (folder / "slide.xml").read_bytes()


def test_xml_is_the_outline_in_level0_pixels(made):
    slide, folder = made
    root = ElementTree.parse(folder / "slide.xml").getroot()
    assert root.tag == "ASAP_Annotations"
    assert root.find("AnnotationGroups/Group").get("Name") == "Tumor"
    annotations = root.findall("Annotations/Annotation")
    assert {(a.get("Type"), a.get("PartOfGroup")) for a in annotations} == {("Polygon", "Tumor")}
    for annotation, outline in zip(annotations, tumour_outlines(slide), strict=True):
        points = annotation.findall("Coordinates/Coordinate")
        assert [int(p.get("Order")) for p in points] == list(range(len(points)))
        read = np.array([[float(p.get("X")), float(p.get("Y"))] for p in points])
        np.testing.assert_allclose(read, outline[:-1], atol=0.006)
        assert (read > 0).all()
        assert (read < [slide.width_px, slide.height_px]).all()


@pytest.mark.parametrize("slide", [first("A"), first("B")], ids=lambda slide: slide.scanner)
def test_tumour_is_painted_inside_its_outline_only(slide):
    layout = lay_out(slide)
    anatomy = build_anatomy(slide, layout)
    cells = place_cells(slide, layout, anatomy, fibre_frame(slide, layout, anatomy)[0])
    place = np.concatenate([c.position_um for c in cells if c.kind == "tumour"])
    inside = np.zeros(len(place), bool)
    area_um2 = 0.0
    size = tuple(int(side) + 2 for side in extent_um(slide))
    for outline in tumour_outlines(slide, layout):
        mask = polygon2mask(size, outline[:, ::-1] * slide.mpp)
        area_um2 += mask.sum()
        inside |= mask[tuple(np.rint(place).astype(int).T)]
    assert inside.mean() > 0.99
    assert 1500 < len(place) / area_um2 * 1e6 < 9000  # nuclei per mm2: packed, but large ones


@pytest.mark.parametrize("slide", POSITIVE, ids=lambda slide: slide.id)
def test_mini_tumours_cover_several_tiles(slide):
    area_um2 = sum(Polygon(outline).area for outline in tumour_outlines(slide)) * slide.mpp**2
    assert area_um2 > 3 * 112**2


def test_outlines_lie_in_tissue_and_small_ones_are_small():
    for slide in demo_slides("demo"):
        layout = lay_out(slide)
        outlines = tumour_outlines(slide, layout)
        assert bool(outlines) == (slide.label == "tumour")
        assert (layout.tissue_um[layout.tumour_um > 0] > 0).all()
        if slide.extent == "small":
            side_um = np.sqrt(4 / np.pi * sum(Polygon(o).area for o in outlines)) * slide.mpp
            assert 240 < side_um < 360
        if slide.extent == "large":
            share = (layout.tumour_um > 0).sum() / (layout.tissue_um > 0).sum()
            assert 0.2 < share < 0.36


def test_tumour_looks_different_and_glass_is_white():
    slide = first("B")
    image = render(slide)
    layout = lay_out(slide)
    nodes = np.clip(
        (np.indices((slide.height_px, slide.width_px)) * slide.mpp / STEP_UM + 0.5).astype(int),
        0,
        None,
    )
    tissue, tumour = (field[nodes[0], nodes[1]] for field in (layout.tissue_um, layout.tumour_um))
    assert 0.2 < (tissue < 0).mean() < 0.85
    assert image[tissue < -8].min(axis=1).mean() > 230
    colour = {
        name: image[where].mean(axis=0)
        for name, where in {"tumour": tumour > 8, "other": (tissue > 8) & (tumour < -8)}.items()
    }
    assert colour["tumour"].mean() < 215
    assert np.abs(colour["tumour"] - colour["other"]).max() > 5


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def break_off(path: Path, *_: object) -> None:
        path.write_bytes(b"II*\0 half a slide")
        raise OSError("disk full")

    monkeypatch.setattr(stage, "write_pyramid", break_off)
    with pytest.raises(OSError, match="disk full"):
        make("mini_01.tif", tmp_path / "slide.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["demo_99.tif", "demo_01.svs", "demo_01", "../demo_01.tif", ""])
def test_an_unknown_name_is_told_in_one_line(name, tmp_path):
    with one_line(DatasetError, match="there are demo_01"):
        make(name, tmp_path / "slide.tif")


def test_a_normal_slide_has_no_annotation(tmp_path):
    with pytest.raises(DatasetError, match="no tumour"):
        make(f"{first('A', 'normal').id}.xml", tmp_path / "slide.xml")
