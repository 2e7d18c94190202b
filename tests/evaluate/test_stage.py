"""Annotated regions that attention is compared with, in the right frame."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from shapely import LineString, Polygon, box

from mil.errors import FormatError
from mil.evaluate.annotations import SlideAnnotations
from mil.evaluate.rows import AttendedSlide
from mil.io.annotations import PositiveClasses, feature, write_geojson
from mil.io.bags import read_bag
from mil.io.tables import read_dataset
from mil.tasks import unfitted_task
from tests.synthetic import bag_file

ORIGIN = (1000, 500)
COORDS = np.array([[1000, 500], [1448, 500], [1000, 948]])


@pytest.fixture
def bag(tmp_path):
    where = {"origin_x_level0_px": ORIGIN[0], "origin_y_level0_px": ORIGIN[1]}
    bag_file(
        tmp_path / "a.h5",
        "a",
        np.zeros((3, 2)),
        COORDS,
        valid=np.array([True, True, False]),
        **where,
    )
    return tmp_path / "a.h5"


def share_of_tiles(annotations, bag):
    return annotations.share_of("a", annotations.annotated(bag.parent, "a", ["a"]))


def test_a_bag_knows_where_the_scanned_part_begins(bag):
    assert read_bag(bag).origin_px == ORIGIN
    with h5py.File(bag, "r+") as file:  # one of before, which does not know it
        file.attrs["format_version"] = 1
    with pytest.raises(FormatError, match=r"expected mil\.bag version 3, found mil\.bag version 1"):
        read_bag(bag)


@pytest.mark.parametrize(("frame", "shift"), [("scanned", ORIGIN), ("slide", (0, 0))])
def test_annotations_lie_where_their_frame_says(bag, frame, shift):
    x = 1448 - shift[0]
    y = 500 - shift[1]
    write_geojson(bag.with_name("a.geojson"), [feature(box(x, y, x + 448, y + 112), {})])
    annotations = SlideAnnotations({"a": bag.with_name("a.geojson")}, frame, PositiveClasses())
    np.testing.assert_allclose(share_of_tiles(annotations, bag), [0, 0.25])


def test_a_bag_without_places_is_held_against_nothing(bag):
    for unknown in ({"coords": None}, {"side_level0_px": None}):
        annotations = SlideAnnotations({"a": bag.with_name("no.xml")}, "slide", PositiveClasses())
        known = replace(read_bag(bag), **unknown)
        assert annotations.annotated_slide("a", known) is None
        assert annotations.unusable == {"a": "its bag has no positions of tiles in pixels"}


def test_the_datasets_yaml_says_the_frame(tmp_path):
    (tmp_path / "a.geojson").touch()
    (tmp_path / "d.csv").write_text("slide,label\na,x\nb,x\n")
    for said, frame in (("", "scanned"), ("geojson_frame: slide\n", "slide")):
        (tmp_path / "d.yaml").write_text(
            f'classes: [x, y]\nannotation_paths: ["{{slide}}.geojson"]\n{said}'
        )
        located = SlideAnnotations.locate(*read_dataset(str(tmp_path / "d.yaml")), tmp_path)
        assert located.files == {"a": tmp_path / "a.geojson"}
        assert located.frame == frame


def classes_file(path, *regions, kind="Polygon"):
    """Regions as (class, x of the left tile), each as large as a tile."""
    features = []
    for name, x in regions:
        ring = box(x, 0, x + 448, 448).exterior
        drawn = feature(LineString(ring) if kind == "LineString" else Polygon(ring), {})
        drawn["properties"] = {"classification": {"name": name}}
        features.append(drawn)
    write_geojson(path, features)
    return path


def attended(slide, label="x", auroc=None):
    return AttendedSlide(slide, slide, label, 1, None, auroc, None, None)


# Class y is the negative one.
TASK = unfitted_task("classification", ["y", "x"], "x")


def test_other_classes_are_other_tissue_and_named(bag):
    file = classes_file(bag.with_name("a.geojson"), ("Tumor", 448), ("Stroma", 0))
    annotations = SlideAnnotations({"a": file}, "scanned", PositiveClasses())
    np.testing.assert_allclose(share_of_tiles(annotations, bag), [0, 1])
    assert annotations.notes(TASK, [attended("a", auroc=0.5)]) == [
        "Annotation classes of the positive region: Tumor. Classes that do not count: Stroma "
        "(1 slide). The key `annotation_classes` of the dataset's yaml chooses others."
    ]
    chosen = SlideAnnotations({"a": file}, "scanned", PositiveClasses(("Stroma",)))
    np.testing.assert_allclose(share_of_tiles(chosen, bag), [1, 0])


@pytest.mark.parametrize(
    ("regions", "kind", "reason"),
    [
        ([("Tumor", 0)], "LineString", "{file} holds 1 LineString of class Tumor"),
        ([("Stroma", 0)], "Polygon", "{file} holds 1 region of class Stroma"),
        (
            [("Tumor", 9000)],
            "Polygon",
            "no tile lies at least half inside its positive region",
        ),
        (
            [("Tumor", 0), ("Tumor", 448)],
            "Polygon",
            "no tile lies outside its positive region",
        ),
    ],
    ids=["line", "other class", "beside", "everything"],
)
def test_localisation_does_not_vanish_without_a_word(bag, regions, kind, reason):
    file = classes_file(bag.with_name("a.geojson"), *regions, kind=kind)
    annotations = SlideAnnotations({"a": file}, "scanned", PositiveClasses())
    share_of_tiles(annotations, bag)
    note = annotations.notes(TASK, [attended("a"), attended("b", "y")])[-1]
    assert note == (
        f"Annotated test slides without tile AUROC (1 of 1): a: {reason.format(file=file)}."
    )
    # A slide in whose regions no head should be interested.
    notes = annotations.notes(TASK, [attended("a", "y")])
    assert not any("a:" in note for note in notes)


def test_an_empty_file_says_that_nothing_is_annotated(bag):
    write_geojson(bag.with_name("a.geojson"), [])
    annotations = SlideAnnotations({"a": bag.with_name("a.geojson")}, "scanned", PositiveClasses())
    np.testing.assert_array_equal(share_of_tiles(annotations, bag), [0, 0])


def test_a_damaged_object_and_a_missing_file_are_named(bag, tmp_path):
    file = bag.with_name("a.geojson")
    classes_file(file, ("Tumor", 0))
    content = json.loads(file.read_text())
    content["features"].append({"geometry": {"type": "Polygon", "coordinates": [[[1, 1]]]}})
    file.write_text(json.dumps(content))
    (tmp_path / "d.csv").write_text("slide,label,annotation\na,x,a.geojson\nb,x,b.xml\n")
    (tmp_path / "d.yaml").write_text("classes: [x, y]\n")
    annotations = SlideAnnotations.locate(*read_dataset(str(tmp_path / "d.yaml")), tmp_path)
    np.testing.assert_allclose(share_of_tiles(annotations, bag), [1, 0])
    assert annotations.notes(TASK, [attended("a", auroc=1.0), attended("b")]) == [
        "Outlines left out of annotations: a (a.geojson): object 2: its outline has 1 corner, too "
        "few for an area.",
        "Annotated test slides without tile AUROC (1 of 2): b: there is no file "
        f"{tmp_path / 'b.xml'}.",
    ]
