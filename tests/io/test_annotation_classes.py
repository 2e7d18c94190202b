"""Meaning of outlines: classes, groups and layers; shapes of two corners; damaged objects."""

import json
import math

import numpy as np
import pytest
from shapely import Polygon, box

from mil.io.annotations import PositiveClasses, read_annotation
from mil.io.annotations.join import MOST_CROSSINGS
from tests.messages import one_line

LEFT = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
RIGHT = [[200, 0], [300, 0], [300, 100], [200, 100], [200, 0]]
INNER = [[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]]


def geojson(path, *objects):
    """Write polygons, each (class, ring)."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": None if name is None else {"name": name}},
        }
        for name, ring in objects
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def positive(path, *chosen, own=""):
    return read_annotation(path).positive(PositiveClasses(chosen, own))


def area(text, tmp_path, name="a.xml"):
    (tmp_path / name).write_text(text)
    return positive(tmp_path / name)


def test_other_classes_in_the_same_file_change_nothing(tmp_path):
    alone = geojson(tmp_path / "a.geojson", ("Tumor", LEFT))
    beside = geojson(tmp_path / "b.geojson", ("Tumor", LEFT), ("Stroma", RIGHT), ("Normal", INNER))
    assert positive(alone).equals(box(0, 0, 100, 100))
    # Normal lies in it, as in CAMELYON17.
    assert positive(beside).area == 100 * 100 - 20 * 20
    assert read_annotation(beside).everything().area == 2 * 100 * 100


@pytest.mark.parametrize(
    "name",
    [
        *(
            "tumour",
            "TUMOR*",
            "Tumor: Positive",
            "Tumor: Negative",
            "invasive carcinoma",
            "DCIS Lesion",
        ),
        *("metastases", "Adenocarcinoma_2", "Positive", "_0", "_1", "Tumor region 3"),
    ],
)
def test_names_like_the_positive_region(tmp_path, name):
    path = geojson(tmp_path / "a.geojson", (name, LEFT), ("Lymphocytes", RIGHT))
    assert positive(path).equals(box(0, 0, 100, 100))


@pytest.mark.parametrize(
    "name",
    [
        *("Stroma", "tumour stroma", "non-tumor", "no tumour", "peritumoral", "Stroma: Positive"),
        *(
            "Other",
            "Negative",
            "Normal",
            "Necrosis",
            "Tumor: Stroma",
            "benign lesion",
            "tumor-associated stroma",
        ),
    ],
)
def test_names_of_other_tissue(tmp_path, name):
    assert positive(geojson(tmp_path / "a.geojson", (name, LEFT))).is_empty


@pytest.mark.parametrize(
    "name", [None, "", "None", "Region*", "Annotation 3", "Layer 1", "Group 2"]
)
def test_a_file_of_one_unnamed_class_is_the_region(tmp_path, name):
    assert positive(geojson(tmp_path / "a.geojson", (name, LEFT))).equals(box(0, 0, 100, 100))


def test_a_choice_overrides_names(tmp_path):
    path = geojson(
        tmp_path / "a.geojson",
        ("Tumor", LEFT),
        ("Stroma: Hot", RIGHT),
        (None, INNER),
        ("hot", RIGHT),
    )
    assert positive(path, "stroma").equals(box(200, 0, 300, 100))
    assert positive(path, "Stroma: hot").equals(box(200, 0, 300, 100))
    assert positive(path, "").equals(box(20, 20, 40, 40))
    assert positive(path, "fat").is_empty
    assert positive(path, own="HOT").bounds == (0, 0, 300, 100)
    decomposed = geojson(tmp_path / "b.geojson", ("Tume\u0301fact", LEFT))
    assert positive(decomposed, "Tum\u00e9fact").area == 100 * 100


def asap(annotations, groups=""):
    """ASAP: annotations are (group, ring), groups are (name, parent)."""
    drawn = "".join(
        f'<Annotation PartOfGroup="{group}"><Coordinates>'
        + "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(ring))
        + "</Coordinates></Annotation>"
        for group, ring in annotations
    )
    named = "".join(f'<Group Name="{name}" PartOfGroup="{parent}"/>' for name, parent in groups)
    return (
        f"<ASAP_Annotations><Annotations>{drawn}</Annotations>"
        f"<AnnotationGroups>{named}</AnnotationGroups></ASAP_Annotations>"
    )


def test_groups_of_asap_may_be_nested(tmp_path):
    text = asap(
        [("invasive", LEFT), ("gap", INNER), ("Stroma", RIGHT)],
        [("invasive", "Tumor"), ("gap", "Exclusion"), ("Tumor", "None"), ("Exclusion", "Tumor")],
    )
    assert area(text, tmp_path).area == 100 * 100 - 20 * 20
    # A hole of the stroma is none of a tumour in it.
    text = asap([("Stroma", LEFT), ("hole", INNER), ("Tumor", INNER)], [("hole", "Stroma")])
    assert area(text, tmp_path).equals(box(20, 20, 40, 40))
    circle = asap([("a", LEFT)], [("a", "b"), ("b", "a")])
    assert area(circle, tmp_path).is_empty


def test_groups_of_camelyon(tmp_path):
    of_16 = asap([("_0", LEFT), ("_1", RIGHT), ("_2", INNER)])
    assert area(of_16, tmp_path).area == 2 * 100 * 100 - 20 * 20
    of_17 = asap([("metastases", LEFT), ("normal", INNER)])
    assert area(of_17, tmp_path).area == 100 * 100 - 20 * 20


def vertices(ring, tag):
    return "".join(f'<{tag} X="{x}" Y="{y}"/>' for x, y in ring)


def layer(name, *regions, tag="V"):
    """A layer of ImageScope or HALO; regions are (attributes, ring)."""
    drawn = "".join(
        f"<Region {said}><Vertices>{vertices(ring, tag)}</Vertices></Region>"
        for said, ring in regions
    )
    return f'<Annotation Name="{name}"><Regions>{drawn}</Regions></Annotation>'


def test_layers_of_halo(tmp_path):
    text = (
        "<Annotations>"
        + layer("Tumour", ('Type="Polygon" NegativeROA="0"', LEFT), ('NegativeROA="1"', INNER))
        + layer("Stroma", ('Type="Polygon"', RIGHT), ('NegativeROA="1"', LEFT))
        + "</Annotations>"
    )
    assert area(text, tmp_path).area == 100 * 100 - 20 * 20
    assert area(text, tmp_path, "a.annotations").area == 100 * 100 - 20 * 20


def test_a_layer_of_imagescope_is_named_by_its_description(tmp_path):
    said = '<Attributes><Attribute Name="Description" Value="Tumor"/></Attributes>'
    text = layer("", ('Type="0" Text="3 mm"', LEFT), tag="Vertex").replace(
        "<Regions>", f"{said}<Regions>"
    )
    other = layer("", ('Type="0" Text="Necrosis"', RIGHT), tag="Vertex")
    assert area(f"<Annotations>{text}{other}</Annotations>", tmp_path).equals(box(0, 0, 100, 100))


@pytest.mark.parametrize("kind", ['Type="1"', 'Type="Rectangle"', 'Type="2" GeoShape="Rectangle"'])
def test_rectangles_of_two_corners(tmp_path, kind):
    text = layer("Tumor", (kind, [(300, 40), (100, 10)]))
    assert area(f"<Annotations>{text}</Annotations>", tmp_path).equals(box(100, 10, 300, 40))


@pytest.mark.parametrize("kind", ['Type="2"', 'Type="Ellipse"', 'Type="0" GeoShape="Ellipse"'])
@pytest.mark.parametrize("corners", ["two", "ends of the axes"])
def test_ellipses(tmp_path, kind, corners):
    ring = (
        [(100, 10), (300, 50)] if corners == "two" else [(200, 10), (300, 30), (200, 50), (100, 30)]
    )
    found = area(f"<Annotations>{layer('Tumor', (kind, ring))}</Annotations>", tmp_path)
    assert found.area == pytest.approx(math.pi * 100 * 20)
    np.testing.assert_allclose(found.bounds, (100, 10, 300, 50), atol=0.1)


def test_an_ellipse_of_qupath(tmp_path):
    ring = [[200, 10], [300, 30], [200, 50], [100, 30], [200, 10]]
    geometry = {"type": "Polygon", "coordinates": [ring], "isEllipse": True}
    found = area(json.dumps([{"geometry": geometry}]), tmp_path, "a.geojson")
    assert found.area == pytest.approx(math.pi * 100 * 20)


def content(text, tmp_path, name="a.geojson"):
    (tmp_path / name).write_text(text)
    read = read_annotation(tmp_path / name)
    assert read.everything().is_empty
    return read.content


def test_a_file_without_area_says_what_it_holds(tmp_path):
    def one(kind, coordinates):
        return json.dumps({"type": kind, "coordinates": coordinates})

    line = {"geometry": {"type": "LineString", "coordinates": LEFT}}
    named = {**line, "properties": {"classification": {"name": "Tumor"}}}
    assert content(json.dumps([line, named, named]), tmp_path) == (
        "1 LineString, 2 LineString of class Tumor"
    )
    assert content(one("Point", [1, 2]), tmp_path) == "1 Point"
    assert content(one("MultiPolygon", []), tmp_path) == "1 empty MultiPolygon"
    assert content('[{"geometry": null}]', tmp_path) == "1 object without geometry"
    assert content("[]", tmp_path) == "nothing"
    assert content(one("Polygon", [[[1, 1]]]), tmp_path) == (
        "1 left out (object 1: its outline has 1 corner, too few for an area)"
    )
    ruler = layer("Tumor", ('Type="Ruler"', LEFT[:2]))
    assert (
        content(f"<Annotations>{ruler}</Annotations>", tmp_path, "a.xml")
        == "1 ruler of class Tumor"
    )


@pytest.mark.parametrize(
    ("ring", "fault"),
    [
        ([[10, 10], [12, 12]], "its outline has 2 corners, too few for an area"),
        ([[10, 10], [12, 12], [10, 10]], "its outline has 2 corners, too few for an area"),
        ([], "its outline is no list of (x, y)"),
        (
            [[0, 0], [1, 0], [1, float("nan")], [0, 0]],
            "its outline has a coordinate that is no number",
        ),
        (
            [[0, 0], [1, 0], [1, float("inf")], [0, 0]],
            "its outline has a coordinate that is no number",
        ),
        ([[0, 0], [1, 0], [1, None], [0, 0]], "its outline has a coordinate that is no number"),
        ([[0, 0], [1, 0], [1, "x"], [0, 0]], "its outline is no list of (x, y)"),
        ([[0, 0], [1, 0], [1, 1e12], [0, 0]], "its outline has a coordinate that is on no slide"),
        ([[0, 0], [1, 0], [1, 10**400], [0, 0]], "its outline is no list of (x, y)"),
        ([[0, 0], [5, 5], [9, 9], [0, 0]], "its corners lie on a line"),
        (3, "its outline is no list of (x, y)"),
    ],
    ids=str,
)
def test_one_bad_object_is_named_and_the_others_are_read(tmp_path, ring, fault):
    path = geojson(tmp_path / "a.geojson", ("Tumor", LEFT), ("Fat", ring))
    read = read_annotation(path)
    assert read.everything().equals(box(0, 0, 100, 100))
    assert read.faults == [f"object 2 (Fat): {fault}"]


def test_what_is_no_fault(tmp_path):
    unclosed = LEFT[:-1]
    wound = [[*corner, 7.0] for corner in RIGHT[::-1]]
    numbers = [[str(x), str(y)] for x, y in INNER]
    read = read_annotation(
        geojson(tmp_path / "a.geojson", ("a", unclosed), ("b", wound), ("c", numbers))
    )
    assert [region.area.area for region in read.regions] == [10000, 10000, 400]
    assert not read.faults


def test_strange_names_of_classes_are_none(tmp_path):
    strange = [{"name": ["Tumor"]}, {"name": 3}, {"names": [["x"], None, 5]}, 7, ["x\n", "y"], {}]
    features = [
        {
            "geometry": {"type": "Polygon", "coordinates": [LEFT]},
            "properties": {"classification": c},
        }
        for c in strange
    ]
    text = json.dumps([*features, {"geometry": features[0]["geometry"], "properties": 3}])
    # As Windows programs write it.
    (tmp_path / "a.geojson").write_bytes(text.encode("utf-16"))
    read = read_annotation(tmp_path / "a.geojson")
    assert read.classes == [("Tumor",), (), (), (), ("x", "y"), (), ()]
    assert not read.faults


def test_a_bad_hole_a_bad_part_and_a_strange_object(tmp_path):
    objects = [
        {"geometry": {"type": "Polygon", "coordinates": [LEFT, INNER[:2]]}},
        {"geometry": {"type": "MultiPolygon", "coordinates": [[RIGHT[:2]], [INNER], []]}},
        {"geometry": {"type": "Nonsense"}},
        {"geometry": {}},
        [],
    ]
    (tmp_path / "a.geojson").write_text(json.dumps(objects))
    read = read_annotation(tmp_path / "a.geojson")
    assert [region.area.area for region in read.regions] == [10000, 400]
    assert read.faults == [
        "object 1: its hole has 2 corners, too few for an area",
        "object 2: its outline has 2 corners, too few for an area",
        "object 3: it has a geometry of type 'Nonsense'",
        "object 4: it has a geometry without content",
        "object 5: it is no feature with a geometry",
    ]


def test_an_outline_that_crosses_itself_too_often_is_named(tmp_path):
    tangle = np.random.default_rng(0).uniform(0, 90, (200, 2)).tolist()
    read = read_annotation(geojson(tmp_path / "a.geojson", (None, tangle), (None, RIGHT)))
    assert read.everything().equals(box(200, 0, 300, 100))
    (fault,) = read.faults
    assert fault.startswith("object 1: its outline crosses itself some")
    # A star has 5 crossings: it is repaired.
    star = [
        [50 + 50 * math.sin(4 * math.pi * k / 5), 50 * math.cos(4 * math.pi * k / 5)]
        for k in range(5)
    ]
    read = read_annotation(geojson(tmp_path / "b.geojson", (None, star)))
    assert not read.faults
    assert read.everything().is_valid
    assert MOST_CROSSINGS > 5


def test_outlines_of_many_corners_are_joined_in_a_process_with_limits(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    disc = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 50 + 50
    path = geojson(tmp_path / "a.geojson", ("Tumor", disc.tolist()), ("Ignore*", INNER))
    expected = Polygon(disc).difference(box(20, 20, 40, 40))
    assert positive(path).equals(expected)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.xml", "<ASAP_Annotations>" + "<a>" * 5000, "nested deeper than 100"),
        ("a.xml", "<ASAP_Annotations>" + "<Annotation>" * 2, "an? <Annotation> inside another"),
        ("a.xml", "<Annotations>" + "<Annotation/>" * 1_000_001, "more than 500 000 corners"),
        ("a.geojson", "[" * 200_000, "nested too deep"),
        ("a.geojson", "[" + "[]," * 1_000_001 + "[]]", "more than 500 000 corners"),
    ],
    ids=["xml depth", "nested", "many elements", "json depth", "many lists"],
)
def test_bounds(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with one_line(ValueError, match=reason):
        read_annotation(tmp_path / name)


def test_collections_may_be_nested_to_a_depth(tmp_path):
    polygon = {"type": "Polygon", "coordinates": [LEFT]}
    for depth, expected in ((50, 10000.0), (150, 0.0)):
        nested = polygon
        for _ in range(depth):
            nested = {"type": "GeometryCollection", "geometries": [nested]}
        (tmp_path / "a.geojson").write_text(json.dumps(nested))
        assert read_annotation(tmp_path / "a.geojson").everything().area == expected
