"""Attention of an ensemble: its map is judged, and what it does not find is said."""

import json

import numpy as np
import pytest

from mil.evaluate.attention import attended_slide, localisation
from mil.evaluate.localise import hit_by_chance, hottest_tile_hit
from mil.evaluate.rows import EvaluatedSlide
from mil.evaluate.summary import metrics_of, predicted_by
from mil.evaluate.text import metrics_line
from mil.io.results import RunMetrics, SetMetrics
from mil.statistics.attention import almost_uniform
from mil.statistics.intervals import wilson
from mil.statistics.metric import Metric
from mil.tasks import Classification
from tests.evaluate.test_metrics import TASK, row, trained

SHARE = np.array([1.0, 0.5, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0])  # two annotated, one on the border
TELLS = SetMetrics(
    metrics={"auroc": Metric(value=0.94, ci95=(0.81, 0.99))}, n_slides=20, n_patients=20
)
DOES_NOT = SetMetrics(
    metrics={"auroc": Metric(value=0.8, ci95=(0.6, 0.9))}, n_slides=20, n_patients=20
)


def peak(tile: int) -> np.ndarray:
    """Attention that falls from one tile to the others in their order."""
    attention = 1 / (2.0 + np.arange(8))
    attention[tile] = 1.0
    return attention / attention.sum()


def slides(tiles, patients=None, share=SHARE, label="tumour"):
    """Test slides by one head, each with its hottest tile."""
    return [
        attended_slide(
            row(f"s{n}", label, 0.9, patient=patients and patients[n]), [peak(tile)], share
        )
        for n, tile in enumerate(tiles)
    ]


def test_a_hit_by_hand():
    assert hottest_tile_hit(peak(1), SHARE) == 1
    assert hottest_tile_hit(peak(2), SHARE) == 0  # less than half of the tile is inside
    assert hit_by_chance(SHARE) == 0.25


def test_ties_count_as_one_drawn_at_random_whatever_their_order():
    even = np.full(8, 1 / 8)
    assert hottest_tile_hit(even, SHARE) == hottest_tile_hit(even, SHARE[::-1]) == 0.25
    two = np.array([0.4, 0, 0, 0.4, 0.1, 0.1, 0, 0])
    assert hottest_tile_hit(two, SHARE) == 0.5


def test_the_ensembles_map_is_judged_and_not_the_mean_of_the_heads():
    """Each head's hottest tile is another wrong one; on average the annotated tile wins."""
    heads = [np.array([0.4, 0.1, 0, 0.5, 0, 0, 0, 0]), np.array([0.4, 0.1, 0, 0, 0.5, 0, 0, 0])]
    slide = attended_slide(row("a", "tumour", 0.9), heads, SHARE)
    assert [hottest_tile_hit(one, SHARE) for one in heads] == [0, 0]
    assert (slide.hottest_tile_hit, slide.by_chance, slide.heads) == (1, 0.25, 2)
    # 0.4 beats all five others, 0.1 the three that are at 0.
    assert slide.tile_auroc == pytest.approx(8 / 10)
    mean = np.array([0.4, 0.1, 0.25, 0.25])
    assert slide.entropy_share == pytest.approx(-(mean * np.log(mean)).sum() / np.log(8))


def test_interval_and_hits_over_slides():
    found = localisation(slides([0, 1, 5, 0, 7]), DOES_NOT, TASK)
    # The first two tiles are annotated; attention falls with the number of the tile.
    assert found.per_slide["s0"] == found.per_slide["s1"] == 1.0
    assert found.per_slide["s2"] == pytest.approx(8 / 10)
    assert found.tile_auroc_mean == pytest.approx((1 + 1 + 0.8 + 1 + 0.8) / 5)
    assert found.tile_auroc_min == pytest.approx(0.8)
    low, high = found.tile_auroc_ci95
    assert 0.6 < low < found.tile_auroc_mean < high < 1
    assert found.tile_auroc_by_chance == 0.5
    hottest = found.hottest_tile
    assert (hottest.rate.value, hottest.by_chance) == (0.6, 0.25)
    assert hottest.rate.ci95 == pytest.approx(wilson(0.6, 5))
    assert [hottest.per_slide[f"s{n}"].hit for n in range(5)] == [1, 1, 0, 1, 0]
    assert found.text == (
        f"tile AUROC 0.920 ({low:.2f} to {high:.2f}; 0.5 is chance), hottest tile annotated on "
        "3 of 5 slides (23 to 88 %; 25 % by chance)"
    )
    assert found.note.startswith("Of the head's attention. Tile AUROC: 0.5 is chance.")
    json.dumps(found.model_dump())


def test_slides_of_one_patient_have_no_interval():
    one = localisation(slides([0]), TELLS, TASK)
    assert (one.tile_auroc_ci95, one.hottest_tile.rate.ci95) == (None, None)
    assert one.text == (
        "tile AUROC 1.000 (no interval: one slide; 0.5 is chance), hottest tile annotated on 1 of "
        "1 slide (25 % by chance)"
    )
    several = localisation(slides([5, 6], patients="pp"), TELLS, TASK)
    assert several.tile_auroc_ci95 is None
    assert "0.5 is chance; no interval: one patient." in several.note
    assert several.finding == ""  # one patient says nothing of others


def test_slides_without_both_kinds_of_tiles_or_of_another_class_do_not_count():
    wholly = slides([0], share=np.ones(8))
    negative = slides([0, 1], label="normal")
    assert localisation([*wholly, *negative], TELLS, TASK) is None
    assert localisation([], TELLS, TASK) is None
    tiny = slides([0], share=np.array([0.4, *[0.0] * 7]))  # no tile that could be a hit
    assert tiny[0].hottest_tile_hit is None
    assert localisation(tiny, TELLS, TASK) is None


OUTSIDE = SHARE[::-1].copy()  # the tiles of least attention are annotated


def test_heads_that_tell_slides_apart_by_other_tiles_are_told_so():
    blind = slides([0, 1, 2, 3], share=OUTSIDE)
    found = localisation(blind, TELLS, TASK)
    assert found.finding.startswith(
        "The head tells slides apart (AUROC 0.940, 0.81 to 0.99), but its attention does not find "
        "the annotated region: tile AUROC 0.000 ("
    )
    assert (
        "0.5 is chance), hottest tile annotated on 0 of 4 slides (0 to 49 %; 25 % by chance)."
        in found.finding
    )
    # What is not known to tell slides apart is not blamed for where it looks.
    assert localisation(blind, DOES_NOT, TASK).finding == ""
    assert localisation(slides([0, 1, 0, 1]), TELLS, TASK).finding == ""


def test_attention_above_chance_whose_peak_is_elsewhere():
    found = localisation(slides([5, 6, 7, 6, 5]), TELLS, TASK)
    assert (
        "its attention is highest outside the annotated region: tile AUROC 0.800" in found.finding
    )
    # Two slides are too few for an interval above 0.5, however well they are ranked.
    few = localisation(slides([0, 1]), TELLS, TASK)
    assert (few.tile_auroc_mean, few.tile_auroc_ci95[0] < 0.5, few.finding) == (1, True, "")
    # A lesion of half the slide: more hits than by chance are no fault, however few slides.
    half = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])
    assert localisation(slides([0, 1, 2, 3], share=half), TELLS, TASK).finding == ""


def test_the_terminal_says_it_in_a_line_of_its_own():
    rows = [row(f"n{n}", "normal", 0.1) for n in range(20)]
    rows += [row(f"s{n}", "tumour", 0.9) for n in range(20)]
    metrics = metrics_of(rows, trained(), {}, attended=slides([0] * 20, share=OUTSIDE))
    first, second, third = metrics_line(metrics).splitlines()
    assert first.startswith("evaluate abmil on tiny: test AUROC 1.000 (")
    assert "n = 40, one head; tile AUROC 0.000 (" in first
    assert second == metrics.localisation.finding != ""
    assert third.startswith("Evidence of tiles was not evaluated")
    assert set(metrics.attention_entropy_share) == {f"s{n}" for n in range(20)}
    noted = metrics_of(rows, trained(), {}, annotations=["Classes that do not count: x."])
    assert metrics_line(noted).splitlines()[2:] == ["Classes that do not count: x."]
    assert noted.to_json()["annotations"] == ["Classes that do not count: x."]
    # An AUROC of several classes counts as well.
    three = Classification(classes=["a", "b", "tumour"], positive="tumour")
    macro = SetMetrics(metrics={"auroc_macro": TELLS.metrics["auroc"]}, n_slides=9, n_patients=9)
    assert localisation(slides([0, 1], share=OUTSIDE), macro, three).finding


@pytest.mark.parametrize(
    ("heads_of", "slides_of_run", "name"),
    [
        ({"a": 1, "b": 1}, 2, "one head"),
        ({"a": 3, "b": 3}, 2, "ensemble of 3 heads"),
        ({"a": 1, "b": 1}, 1, "one head per slide"),
        ({"a": 3, "b": 3}, 1, "ensemble of 3 heads per slide"),
        ({"a": 1, "b": 3}, 1, "ensemble of 1 to 3 heads per slide"),
        ({}, 0, ""),
    ],
)
def test_what_predicts_a_slide_has_a_name(heads_of, slides_of_run, name):
    rows: list[EvaluatedSlide] = []
    for slide, heads in heads_of.items():
        rows += [row(slide, "tumour", 0.5, seed=seed) for seed in range(heads)]
    runs = [RunMetrics(seed=1, fold=0, n_slides=slides_of_run)]
    assert predicted_by(rows, runs) == name


def test_almost_uniform_is_above_0_98():
    assert almost_uniform(0.9934) == "attention almost uniform (entropy share 0.993)"
    assert almost_uniform(0.98) == almost_uniform(None) == ""


def test_hits_that_tie_are_fractions():
    even = [attended_slide(row("a", "tumour", 0.9), [np.full(8, 1 / 8)], SHARE)]
    assert "hottest tile annotated on 0.25 of 1 slide (25 % by chance)" in (
        localisation(even, TELLS, TASK).text
    )
