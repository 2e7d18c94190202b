"""Lesions from annotated regions: by hand, and as CAMELYON16's script finds them in pixels."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from scipy import ndimage
from shapely import MultiPolygon, Point, Polygon, box
from shapely.affinity import rotate
from skimage.measure import label, regionprops

from mil.errors import FormatError
from mil.evaluate.lesions import lesion_at, lesions_of, major_axis
from mil.io.regions import rasterise

MPP = 0.5


def lesions(*regions, mpp=MPP):
    return lesions_of(Path("a.xml"), MultiPolygon(regions), mpp)


def disc(x_um, y_um, diameter_um, mpp=MPP):
    return Point(x_um / mpp, y_um / mpp).buffer(diameter_um / 2 / mpp, quad_segs=64)


def test_axis_of_a_rectangle_and_a_disc_wherever_they_lie():
    # The variance of a uniform length L is L² / 12.
    rectangle = box(100_000, 70_000, 100_300, 70_120)
    assert major_axis(rectangle) == pytest.approx(4 * 300 / 12**0.5)
    assert major_axis(rotate(rectangle, 30)) == pytest.approx(4 * 300 / 12**0.5)
    assert major_axis(Polygon(rectangle.exterior.coords[::-1])) == pytest.approx(4 * 300 / 12**0.5)
    assert major_axis(Point(0, 0).buffer(50, quad_segs=256)) == pytest.approx(100, rel=1e-4)


def test_regions_closer_than_75_um_are_one_lesion():
    apart = disc(500, 500, 200), disc(500 + 200 + 78, 500, 200)
    near = disc(500, 500, 200), disc(500 + 200 + 72, 500, 200)
    assert len(lesions(*apart).areas) == 2
    assert len(lesions(*near).areas) == 1


def test_holes_are_filled_with_what_lies_in_them():
    ring = disc(2000, 2000, 1000).difference(disc(2000, 2000, 800))
    found = lesions(ring, disc(2000, 2000, 100))
    assert len(found.areas) == 1
    assert lesion_at(
        found, np.array([[4000, 4000], [4000 + 1080, 4000], [0, 0]], float)
    ).tolist() == [
        0,
        -1,
        -1,
    ]


def test_sizes_are_those_without_the_widening():
    """0.2 mm and 2 mm are the edges; the script's 275 um is 200 and the widening."""
    diameters = [150, 198, 202, 1990, 2010]
    found = lesions(*(disc(5000 * (n + 1), 500, d) for n, d in enumerate(diameters)))
    order = np.argsort([area.centroid.x for area in found.areas])
    np.testing.assert_allclose(found.diameter_um[order], diameters, rtol=0.01)
    assert [found.sizes[n] for n in order] == ["itc", "itc", "micro", "micro", "macro"]
    assert found.target[order].tolist() == [False, False, True, True, True]


def test_nothing_annotated_is_no_lesion():
    assert lesions().areas == []
    assert lesion_at(lesions(), np.zeros((2, 2))).tolist() == [-1, -1]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_lesions_as_in_the_evaluation_scripts_mask(seed):
    """Distance transform, filled holes and labels at 7.8 um, major axis of each label."""
    pitch_um = 0.243 * 32
    size = 500
    rng = np.random.default_rng(seed)
    regions = [
        rotate(
            box(x, y, x + width, y + height).difference(
                box(x + width / 3, y + height / 3, x + width / 2, y + height / 2)
            ),
            float(rng.integers(90)),
        )
        for x, y, width, height in rng.uniform([200, 200, 60, 60], [3000, 3000, 700, 300], (8, 4))
    ]
    union = MultiPolygon(list(shapely.get_parts(shapely.union_all(regions))))
    found = lesions_of(Path("a.xml"), union, 1.0)
    mask = rasterise(union, (0, 0), (pitch_um, pitch_um), (size, size))
    near = ndimage.distance_transform_edt(~mask) < 75 / (pitch_um * 2)
    labels = label(ndimage.binary_fill_holes(near), connectivity=2)
    # Pixels that both see beside an edge may differ; the middle of each lesion may not.
    centres = np.array([area.representative_point().coords[0] for area in found.areas])
    columns, rows = (centres / pitch_um - 0.5).round().astype(int).T
    numbers = labels[rows, columns]
    assert sorted(numbers) == list(range(1, labels.max() + 1))
    axes = [regionprops(labels)[number - 1].axis_major_length * pitch_um for number in numbers]
    # Centres of pixels lie half a pixel inside, on both sides of a lesion.
    np.testing.assert_allclose(found.diameter_um + 75, np.add(axes, pitch_um), atol=6)


def test_many_corners_are_widened_in_a_process_of_their_own(monkeypatch):
    regions = [disc(500 * n, 500, 250) for n in range(1, 4)]
    here = lesions(*regions)
    monkeypatch.setattr("mil.evaluate.lesions.FEW_CORNERS", 10)
    apart = lesions(*regions)
    assert all(one.equals(other) for one, other in zip(here.areas, apart.areas, strict=True))
    monkeypatch.setattr("mil.evaluate.lesions._areas_apart", lambda *_: 1 / 0)
    with pytest.raises(FormatError, match=r"a\.xml: "):
        lesions(*regions)
