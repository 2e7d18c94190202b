"""Annotated regions: from ASAP and QuPath, whole or with one line that says why not."""

import json

import pytest
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry import mapping

from mil.errors import FormatError
from mil.io import annotations
from mil.io.annotations import feature, write_geojson
from tests.messages import one_line

SQUARE = [(10, 10), (110, 10), (110, 110), (10, 110)]
HOLE = [(40, 40), (60, 40), (60, 60), (40, 60)]


def read_annotation(path, origin_px=(0, 0)):
    """Area of all regions of a file."""
    return annotations.read_annotation(path, origin_px).everything()


def faults(path) -> list[str]:
    """What is left out of a file, of which nothing remains."""
    read = annotations.read_annotation(path)
    assert read.everything().is_empty
    return list(read.faults)


def asap(folder, *polygons, name="a.xml"):
    """Write an ASAP file; polygons are (group, corners), written in another order than drawn."""
    annotations = []
    for number, (group, corners) in enumerate(polygons):
        points = [f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(corners)]
        shuffled = "".join(points[::2] + points[1::2][::-1])
        annotations.append(
            f'<Annotation Name="{number}" Type="Polygon" PartOfGroup="{group}">'
            f"<Coordinates>{shuffled}</Coordinates></Annotation>"
        )
    elements = "".join(annotations)
    text = (
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        f"{elements}</Annotations></ASAP_Annotations>"
    )
    (folder / name).write_text(text)
    return folder / name


def refused(path) -> str:
    with one_line(FormatError) as caught:
        read_annotation(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


def test_corners_go_by_their_order(tmp_path):
    corners = [(i * 10, 0) for i in range(12)] + [
        (i * 10, 50) for i in reversed(range(12))
    ]  # orders 10, 11 after 9
    found = read_annotation(asap(tmp_path, ("Tumor", corners)))
    assert found.equals(box(0, 0, 110, 50))


@pytest.mark.parametrize("group", ["_2", "Exclusion"])
def test_holes_are_taken_out(tmp_path, group):
    found = read_annotation(
        asap(tmp_path, ("_0", SQUARE), (group, HOLE), ("_1", [(200, 0), (210, 0), (210, 10)]))
    )
    assert found.equals(
        MultiPolygon([Polygon(SQUARE, [HOLE]), Polygon([(200, 0), (210, 0), (210, 10)])])
    )


def test_overlapping_regions_count_once(tmp_path):
    found = read_annotation(
        asap(tmp_path, ("_0", SQUARE), ("_1", [(x + 50, y) for x, y in SQUARE]))
    )
    assert found.area == 150 * 100


def test_a_self_crossing_is_mended(tmp_path):
    found = read_annotation(asap(tmp_path, ("_0", [(0, 0), (100, 100), (100, 0), (0, 100)])))
    assert found.is_valid
    assert found.area == pytest.approx(2 * 100 * 50 / 2)


def test_lines_and_nothing_are_no_region(tmp_path):
    assert read_annotation(asap(tmp_path, ("_0", SQUARE[:2]))).is_empty
    assert read_annotation(asap(tmp_path)).is_empty


def test_an_entity_bomb_is_refused(tmp_path):
    levels = "".join(f'<!ENTITY b{i} "{f"&b{i - 1};" * 10}">' for i in range(1, 9))
    (tmp_path / "bomb.xml").write_text(
        f'<!DOCTYPE x [<!ENTITY b0 "ha">{levels}]><ASAP_Annotations>&b8;</ASAP_Annotations>'
    )
    assert "no annotation of ASAP, ImageScope or HALO" in refused(tmp_path / "bomb.xml")
    (tmp_path / "read.xml").write_text(
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ASAP_Annotations>&e;</ASAP_Annotations>'
    )
    assert "no annotation of ASAP, ImageScope or HALO" in refused(tmp_path / "read.xml")


def test_even_a_small_entity_is_refused(tmp_path):
    path = asap(tmp_path, ("_0", [("&e;", 1), (2, 2), (3, 1)]))
    path.write_text(
        path.read_text().replace('<?xml version="1.0"?>', '<!DOCTYPE x [<!ENTITY e "1">]>')
    )
    assert "EntitiesForbidden" in refused(path)


@pytest.mark.parametrize("value", ["", "abc", "nan", "inf", "1,5"])
def test_a_coordinate_without_a_number(tmp_path, value):
    path = asap(tmp_path, ("_0", [(value, 1), (2, 2), (3, 1)]), ("_0", SQUARE))
    assert read_annotation(path).equals(Polygon(SQUARE))
    assert annotations.read_annotation(path).faults == [
        "object 1 (_0): its outline has a coordinate that is no number"
    ]


def test_other_xml(tmp_path):
    (tmp_path / "a.xml").write_text("<Annotations><x/></Annotations>")
    assert "its root is <Annotations>" in refused(tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text("<ASAP_Annotations><open>")
    assert "no annotation of ASAP, ImageScope or HALO" in refused(tmp_path / "b.xml")
    assert "No such file" in refused(tmp_path / "none.xml")


def imagescope(folder, *regions):
    """Write a file of ImageScope; each region is (attributes, corners)."""
    drawn = []
    for said, corners in regions:
        vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
        drawn.append(f"<Region {said}><Vertices>{vertices}</Vertices></Region>")
    elements = "".join(drawn)
    text = (
        f"<Annotations><Annotation Id='1'><Regions>{elements}</Regions></Annotation></Annotations>"
    )
    (folder / "i.xml").write_text(text)
    return folder / "i.xml"


def test_imagescope(tmp_path):
    regions = [
        ('Type="0"', SQUARE),
        ('Type="0" NegativeROA="1"', HOLE),
        ('Type="4"', [(500, 0), (600, 0), (600, 9)]),
    ]
    assert read_annotation(imagescope(tmp_path, *regions)).equals(Polygon(SQUARE, [HOLE]))
    assert faults(imagescope(tmp_path, ("", [("x", 0), *SQUARE]))) == [
        "object 1: its outline has a coordinate that is no number"
    ]


def test_points_of_asap_are_no_polygon(tmp_path):
    path = asap(tmp_path, ("_0", SQUARE))
    path.write_text(path.read_text().replace("Polygon", "PointSet"))
    assert read_annotation(path).is_empty


def test_wrong_suffix(tmp_path):
    (tmp_path / "a.csv").write_text("x,y")
    assert "is one of .xml, .annotations, .geojson, .json, not .csv" in refused(tmp_path / "a.csv")


def test_geojson_round_trip(tmp_path):
    shapes = [Polygon(SQUARE, [HOLE]), box(200.25, 0, 300.5, 7)]
    write_geojson(
        tmp_path / "a.geojson", [feature(shape, {"objectType": "annotation"}) for shape in shapes]
    )
    assert read_annotation(tmp_path / "a.geojson").equals(MultiPolygon(shapes))
    written = json.loads((tmp_path / "a.geojson").read_text())
    assert written["type"] == "FeatureCollection"
    assert [f["properties"] for f in written["features"]] == [{"objectType": "annotation"}] * 2
    write_geojson(tmp_path / "none.geojson", [])
    assert read_annotation(tmp_path / "none.geojson").is_empty


@pytest.mark.parametrize(
    "form", ["one feature", "list", "byte order mark", "multi", "no place", "place only"]
)
def test_other_forms_of_geojson(tmp_path, form):
    square = {"type": "Feature", "geometry": mapping(Polygon(SQUARE)), "properties": {}}
    multi = {
        "type": "Feature",
        "geometry": mapping(MultiPolygon([Polygon(SQUARE)])),
        "properties": {},
    }
    nowhere = {"type": "Feature", "geometry": None, "properties": {}}
    value = {
        "one feature": square,
        "place only": square,
        "list": [square],
        "byte order mark": [square],
        "multi": [multi],
        "no place": {"type": "FeatureCollection", "features": [nowhere, square]},
    }[form]
    if form == "place only":
        value = value["geometry"]
    encoding = "utf-8-sig" if form == "byte order mark" else "utf-8"
    (tmp_path / "a.geojson").write_text(json.dumps(value), encoding=encoding)
    assert read_annotation(tmp_path / "a.geojson").equals(Polygon(SQUARE))


def polygon_text(corners):
    """GeoJSON of one polygon, its corners as text."""
    return f'[{{"geometry": {{"type": "Polygon", "coordinates": [[{corners}]]}}}}]'


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"type": "FeatureCollection"}',
        '"x"',
        "{}",
        "1",
        "[" * 100_000,
    ],
)
def test_not_geojson(tmp_path, text):
    (tmp_path / "a.geojson").write_text(text)
    assert "not GeoJSON with polygons" in refused(tmp_path / "a.geojson")


def test_geojson_counts_from_the_scanned_part_and_xml_from_the_slide(tmp_path):
    write_geojson(
        tmp_path / "a.geojson", [feature(box(1010, 520, 1110, 620), {"name": "x"})], (1000, 500)
    )
    (written,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert Polygon(written["geometry"]["coordinates"][0]).bounds == (10, 20, 110, 120)
    assert written["properties"] == {"name": "x"}
    assert read_annotation(tmp_path / "a.geojson").bounds == (10, 20, 110, 120)
    assert read_annotation(tmp_path / "a.geojson", (1000, 500)).bounds == (1010, 520, 1110, 620)
    assert read_annotation(asap(tmp_path, ("_0", SQUARE)), (1000, 500)).bounds == (10, 10, 110, 110)


CUT = [
    {"name": "Ignore*"},
    {"name": "IGNORE"},
    {"name": "Hole"},
    {"names": ["Exclude", "x"]},
    "exclude",
]


@pytest.mark.parametrize("said", CUT, ids=str)
def test_classes_that_are_cut_out(tmp_path, said):
    features = [
        feature(Polygon(HOLE), {"classification": said}),
        feature(Polygon(SQUARE), {"classification": None}),
    ]
    write_geojson(tmp_path / "a.geojson", features)
    assert read_annotation(tmp_path / "a.geojson").equals(Polygon(SQUARE, [HOLE]))


@pytest.mark.parametrize("said", [{"name": "Tumor"}, {"name": None}, {"name": "Hollow"}, None])
def test_classes_that_are_not(tmp_path, said):
    write_geojson(tmp_path / "a.geojson", [feature(Polygon(SQUARE), {"classification": said})])
    assert read_annotation(tmp_path / "a.geojson").equals(Polygon(SQUARE))


def test_lines_and_points_of_geojson_are_left_out(tmp_path):
    nested = GeometryCollection(
        [GeometryCollection([Polygon(SQUARE), Point(3, 3)]), LineString(HOLE)]
    )
    write_geojson(
        tmp_path / "a.geojson",
        [feature(g, {}) for g in (nested, Point(1, 2), LineString([(0, 0), (200, 5)]))],
    )
    assert read_annotation(tmp_path / "a.geojson").equals(Polygon(SQUARE))


def test_a_file_too_large_for_outlines_is_not_opened(tmp_path):
    with (tmp_path / "a.geojson").open("wb") as file:
        file.truncate(200_000_000)
    assert "200 MB are too much for outlines of one slide" in refused(tmp_path / "a.geojson")
