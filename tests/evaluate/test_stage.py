"""Annotated regions that attention is compared with, in the right frame."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from shapely import box

from mil.errors import FormatError
from mil.evaluate.annotations import SlideAnnotations
from mil.io.annotations import PositiveClasses, feature, write_geojson
from mil.io.bags import read_bag
from mil.io.tables import read_dataset
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
    np.testing.assert_allclose(annotations.share(bag.parent, "a", ["a"]), [0, 0.25])


def test_a_bag_without_places_is_held_against_nothing(bag):
    for unknown in ({"coords": None}, {"side_level0_px": None}):
        annotations = SlideAnnotations({"a": bag.with_name("no.xml")}, "slide", PositiveClasses())
        known = replace(read_bag(bag), **unknown)
        assert annotations._share_of_slide("a", known) is None
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
