"""What the doctor says of annotations and masks: classes, area, and where they lie."""

import json

import pytest
from PIL import Image

from mil.doctor.inspect import inspect_slide
from mil.doctor.regions import OutlineFiles
from mil.io.annotations import PositiveClasses
from mil.io.tables import Slide
from mil.tile.plan import UserMasks
from tests.doctor.slides import requirements
from tests.synthetic import tissue_slide

# Of the tissue, level-0 pixels of 0.5 µm.
TISSUE = (1200, 300, 1800, 700)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "a.tif"
    tissue_slide(path, (2048, 1024), 0.5, box_px=TISSUE)
    return path


def outline(path, *objects, scale=1.0, kind="Polygon"):
    """Write rectangles, each (class, left, top, right, bottom)."""
    features = []
    for name, *box in objects:
        left, top, right, bottom = (value * scale for value in box)
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        geometry = {"type": kind, "coordinates": [ring] if kind == "Polygon" else ring}
        features.append({"geometry": geometry, "properties": {"classification": {"name": name}}})
    path.write_text(json.dumps(features))
    return path


def look_at(slide, annotation=None, detect=True, **masks):
    files = OutlineFiles(annotation, UserMasks(**masks), rule=PositiveClasses())
    return inspect_slide(
        Slide("a", "a", "x"), slide, requirements(tissue=detect), files.masks, files
    )


def test_classes_and_area_of_an_annotation(slide, tmp_path):
    path = outline(tmp_path / "a.geojson", ("Tumor", 1300, 300, 1700, 700), ("Fat", 0, 0, 9, 9))
    finding = look_at(slide, path)
    (region,) = finding.regions
    assert (region.kind, region.classes, region.counted) == (
        "annotation",
        {"Tumor": 1, "Fat": 1},
        ["Tumor"],
    )
    assert region.area_mm2 == pytest.approx(0.04)
    assert finding.warnings == []


@pytest.mark.parametrize(
    ("objects", "kind", "said"),
    [
        (
            [("Tumor", *TISSUE)],
            "LineString",
            "no area is outlined; it holds 1 LineString of class Tumor",
        ),
        (
            [("Stroma", *TISSUE)],
            "Polygon",
            "no class is named like the positive region; it holds 1 region of class Stroma; name "
            "its classes in `annotation_classes` of the dataset's yaml",
        ),
        (
            [("Tumor", *TISSUE), ("Fat", 0, 0, 0, 9)],
            "Polygon",
            "left out object 2 (Fat): its corners lie on a line",
        ),
        (
            [("Tumor", 1900, 300, 2196, 700)],
            "Polygon",
            "50 % of its regions' area lies beside the slide",
        ),
        ([("Tumor", 4000, 0, 5000, 100)], "Polygon", "its regions lie beside the slide"),
    ],
)
def test_annotations_that_do_not_count(slide, tmp_path, objects, kind, said):
    path = outline(tmp_path / "a.geojson", *objects, kind=kind)
    assert look_at(slide, path).warnings == [f"annotation {path}: {said}"]


ON_GLASS = "0 % of its regions' area lies on tissue"
IF = "they would lie on it"


@pytest.mark.parametrize(
    ("box", "scale", "said"),
    [
        (TISSUE, 1 / 4, f"{ON_GLASS}; {IF} if they are in pixels of level 1"),
        (TISSUE, 0.5, f"{ON_GLASS}; {IF} if they are in micrometres"),
        (
            (300, 1200, 700, 1800),
            1.0,
            f"its regions lie beside the slide; {IF} with x and y exchanged",
        ),
    ],
    ids=["other level", "micrometres", "exchanged"],
)
def test_annotations_of_another_scale_or_order(slide, tmp_path, box, scale, said):
    path = outline(tmp_path / "a.geojson", ("Tumor", *box), scale=scale)
    assert look_at(slide, path).warnings == [f"annotation {path}: {said}"]


def test_without_tissue_detection_only_the_slide_counts(slide, tmp_path):
    path = outline(tmp_path / "a.geojson", ("Tumor", 0, 0, 99, 99))
    assert look_at(slide, path, detect=False).warnings == []
    assert "0 % of its regions' area lies on tissue" in look_at(slide, path).warnings[0]


def test_an_annotation_that_cannot_be_read_is_a_warning(slide, tmp_path):
    (tmp_path / "a.xml").write_text("<open>")
    finding = look_at(slide, tmp_path / "a.xml")
    assert finding.state == "ok"
    assert finding.warnings[0].startswith(
        f"annotation {tmp_path / 'a.xml'}: no annotation of ASAP, ImageScope or HALO"
    )


def test_masks(slide, tmp_path):
    both = outline(tmp_path / "t.geojson", ("Tissue", *TISSUE), ("Fat", 0, 0, 99, 99))
    finding = look_at(slide, tissue=both)
    assert finding.warnings == [
        f"mask of tissue {both}: regions of all its classes count: Tissue, Fat"
    ]
    line = outline(tmp_path / "l.geojson", ("Tissue", *TISSUE), kind="LineString")
    finding = look_at(slide, region=line)
    assert (finding.state, finding.reason) == (
        "empty_mask",
        "the region l.geojson leaves nothing: it outlines no area; it holds 1 LineString of class "
        "Tissue",
    )
    glass = Image.new("1", (256, 128))
    glass.paste(1, (0, 0, 30, 30))
    glass.save(tmp_path / "m.png")
    finding = look_at(slide, tissue=tmp_path / "m.png")
    assert finding.warnings == [
        f"mask of tissue {tmp_path / 'm.png'}: 0 % of it lies on detected tissue"
    ]
