"""Detections in the lesions of test slides: bags of several slides, and slides left out."""

from pathlib import Path

import numpy as np
import pytest
from shapely import MultiPolygon, box

from mil.evaluate.annotations import AnnotatedSlide, SlideAnnotations
from mil.evaluate.lesion_metrics import froc_of, lesions_of_slides
from mil.evaluate.lesion_slides import LesionSlides
from mil.evaluate.localise import share_annotated
from mil.io.annotations import PositiveClasses
from mil.io.bags.patients import FoldBag
from mil.tasks import Regression
from tests.evaluate.test_metrics import TASK
from tests.synthetic import bag_file

SIDE = 448.0
# Four tiles 1.12 mm apart: none suppresses another.
CORNERS = np.array([[0, 0], [4480, 0], [8960, 0], [13440, 0]])


def annotated(slide, *tiles, mpp=0.25):
    """A slide with a lesion around each of some tiles."""
    regions = MultiPolygon([box(x, y, x + 2 * SIDE, y + SIDE) for x, y in CORNERS[list(tiles)]])
    share = share_annotated(CORNERS, SIDE, regions)
    return AnnotatedSlide(slide, Path("a.xml"), CORNERS, SIDE, mpp, regions, share)


def fold_bag(name, *slides, label="tumour"):
    return FoldBag(fold=0, name=name, patient=name, label=label, split="test", slides=slides)


@pytest.fixture
def lesions(tmp_path):
    annotations = SlideAnnotations({"a": Path("a.xml")}, "slide", PositiveClasses())
    return LesionSlides(annotations, tmp_path)


def test_slides_of_a_patients_bag_keep_to_their_own_tiles_and_lesions(lesions):
    scores = {"alone": np.array([4.0, 3, 2, 1, 8, 7, 6, 5])}
    bag = fold_bag("p", "a", "b")
    lesions.add(bag, scores, [annotated("a", 1), annotated("b", 0, 3)], TASK)
    first, second = (slide.findings["alone"] for slide in lesions.slides)
    assert (first.best.tolist(), first.false.tolist()) == ([3], [4, 2, 1])
    assert (sorted(second.best), second.false.tolist()) == ([5, 8], [7, 6])
    measured = lesions_of_slides(lesions)
    assert (measured.n_slides, measured.n_patients) == (2, 1)
    assert measured.n_lesions == {"itc": 0, "micro": 3, "macro": 0}
    # Slides of one patient give no interval.
    assert froc_of(lesions.slides, "alone").score.ci95 is None
    assert froc_of(lesions.slides, "effect") is None


def test_negative_slides_are_all_false(lesions, tmp_path):
    bag_file(tmp_path / "n.h5", "n", np.zeros((4, 2)), CORNERS)
    scores = {"alone": np.array([4.0, -np.inf, 2, 1])}
    lesions.add(fold_bag("n", "n", label="normal"), scores, None, TASK)
    (slide,) = lesions.slides
    assert slide.findings["alone"].false.tolist() == [4, 2, 1]
    assert slide.sizes == []
    # Without a lesion anywhere there is no FROC.
    assert lesions_of_slides(lesions) is None
    assert froc_of(lesions.slides, "alone") is None


def test_of_a_number_every_slide_needs_lesions(lesions, tmp_path):
    bag_file(tmp_path / "n.h5", "n", np.zeros((4, 2)), CORNERS)
    task = Regression(mean=0.0, deviation=1.0)
    lesions.add(fold_bag("n", "n", label="3.5"), {"alone": np.zeros(4)}, None, task)
    assert lesions.left_out == {"n": "it has no annotation"}


@pytest.mark.parametrize(
    ("of_bag", "label", "reason"),
    [
        ([annotated("a")], "tumour", "its annotation outlines nothing"),
        ([annotated("a", 1, mpp=None)], "tumour", "no micrometres per pixel"),
        ([annotated("a", 1)], "normal", "its label is normal, but its annotation outlines"),
        (None, "tumour", "it has no annotation"),
    ],
)
def test_slides_that_do_not_count_have_a_reason(lesions, of_bag, label, reason):
    lesions.add(fold_bag("a", "a", label=label), {"alone": np.zeros(4)}, of_bag, TASK)
    assert lesions.slides == []
    assert reason in lesions.left_out["a"]
    assert lesions_of_slides(lesions).left_out == lesions.left_out


def test_scores_of_other_tiles_are_no_detections(lesions):
    lesions.add(fold_bag("a", "a"), {"alone": np.zeros(5)}, [annotated("a", 1)], TASK)
    assert lesions.left_out == {"a": "its scores are not of the 4 tiles of its bag"}


def test_nothing_is_read_where_no_slide_is_annotated(tmp_path):
    none = LesionSlides(SlideAnnotations({}, "slide", PositiveClasses()), tmp_path)
    none.add(fold_bag("n", "n", label="normal"), {"alone": np.zeros(4)}, None, TASK)
    assert (none.slides, none.left_out) == ([], {})
