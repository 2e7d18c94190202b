"""FROC: small cases by hand, and MONAI's functions as the oracle."""

import numpy as np
import pytest

from mil.statistics.froc import (
    RATES,
    SlideFindings,
    _at_rates,
    _counts,
    _sampled_curves,
    _sorted,
    froc,
    froc_curve,
    sensitivity_at_rates,
    slide_findings,
)


def findings(scores, lesion, target) -> SlideFindings:
    return slide_findings(np.array(scores, float), np.array(lesion, int), np.array(target, bool))


# Two lesions that count, one of isolated tumour cells; and a slide without lesions.
ILL = findings([0.9, 0.8, 0.7, 0.6, 0.5, 0.3], [0, 0, -1, 2, -1, 1], target=[True, True, False])
WELL = findings([0.85, 0.4], [-1, -1], target=[])


def test_the_best_detection_of_a_lesion_counts_and_others_are_not_false():
    assert ILL.best.tolist() == [0.9, 0.3, 0.6]
    assert ILL.false.tolist() == [0.7, 0.5]
    assert findings([], [], [True]).best.tolist() == [-np.inf]


def test_curve_by_hand():
    """False per slide and sensitivity, from the highest score down."""
    curve = froc_curve([ILL, WELL])
    # 0.9 finds the first lesion; 0.85, 0.7, 0.5 and 0.4 are false; 0.3 finds the second.
    assert curve.false_per_slide.tolist() == [0, 0, 0.5, 1, 1.5, 2, 2]
    assert curve.sensitivity.tolist() == [0, 0.5, 0.5, 0.5, 0.5, 0.5, 1]


def test_score_by_hand():
    scored = froc([ILL, WELL], ["a", "b"])
    assert [metric.value for metric in scored.at_rates] == [0.5, 0.5, 0.5, 1, 1, 1]
    assert scored.score.value == pytest.approx(0.75)
    low, high = scored.score.ci95
    assert low < 0.75 < high


def test_between_two_points_sensitivity_is_linear():
    """One slide: a false detection first, then the lesion: half of it at half a false one."""
    quiet = findings([], [], [])
    slides = [findings([0.9, 0.8, 0.7], [0, -1, 1], [True, True]), quiet]
    # Points (0, 0), (0, 1/2), (1/2, 1/2), (1/2, 1).
    assert sensitivity_at_rates(slides, [one.target for one in slides]) == [0.5, 1, 1, 1, 1, 1]
    tied = [findings([0.9, 0.8, 0.8], [0, -1, 1], [True, True]), quiet]
    # Findings that tie count at once: (0, 1/2) to (1/2, 1).
    at_rates = sensitivity_at_rates(tied, [one.target for one in tied])
    assert at_rates[0] == pytest.approx(0.75)


def test_isolated_tumour_cells_can_be_asked_for_alone():
    of_size = [np.array([False, False, True]), np.zeros(0, bool)]
    assert sensitivity_at_rates([ILL, WELL], of_size) == [0, 0, 1, 1, 1, 1]
    assert sensitivity_at_rates([ILL, WELL], [np.zeros(3, bool), np.zeros(0, bool)]) is None


def test_without_a_lesion_that_counts_there_is_no_score():
    assert froc([WELL], ["a"]) is None
    assert froc([findings([0.9], [0], [False])], ["a"]) is None
    missed = froc([findings([], [], [True])], ["a"])
    assert missed.score.value == 0
    assert missed.score.ci95 is None


def test_slides_of_one_patient_are_drawn_together():
    """Resampled slide by slide, the interval of doubled slides would be narrower."""
    slides = [ILL, WELL, findings([0.2], [-1], [True]), findings([0.95], [0], [True])]
    once = froc(slides, ["a", "b", "c", "d"])
    twice = froc([*slides, *slides], ["a", "b", "c", "d"] * 2)
    assert twice.score.value == pytest.approx(once.score.value)
    np.testing.assert_allclose(twice.score.ci95, once.score.ci95, rtol=1e-6)


@pytest.mark.slow  # MONAI imports for seconds
@pytest.mark.parametrize("seed", range(5))
def test_monai_computes_the_same(seed):
    oracle = pytest.importorskip("monai.metrics.froc")
    rng = np.random.default_rng(seed)
    slides, false, found, targets = [], [], [], 0
    for _ in range(6):
        mask = np.zeros((8, 8), int)
        for lesion in range(rng.integers(4)):
            mask[2 * lesion, 2:6] = lesion + 1
        excluded = [label for label in range(1, mask.max() + 1) if rng.random() < 0.3]
        places = rng.integers(8, size=(12, 2))
        # Scores tie now and then.
        scores = rng.integers(1, 30, size=12) / 30
        fps, tps, number = oracle.compute_fp_tp_probs_nd(scores, places, mask, excluded)
        false.append(fps)
        found.append(tps)
        targets += number
        target = ~np.isin(np.arange(1, mask.max() + 1), excluded)
        slides.append(slide_findings(scores, mask[tuple(places.T)] - 1, target))
    # A missed lesion has score 0 there, the threshold that MONAI passes over.
    found = np.append(np.concatenate(found).astype(float), 0.0)
    # It keeps scores of lesions in float32.
    false = np.concatenate(false).astype(np.float32).astype(float)
    curve = oracle.compute_froc_curve_data(false, found, targets, len(slides))
    scored = froc(slides, [str(n) for n in range(6)])
    assert scored.score.value == pytest.approx(oracle.compute_froc_score(*curve), abs=1e-7)
    by_rate = [oracle.compute_froc_score(*curve, (rate,)) for rate in RATES]
    np.testing.assert_allclose([m.value for m in scored.at_rates], by_rate, atol=1e-7)


def test_thousands_of_false_detections_are_thinned_without_another_score():
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    many = slide_findings(
        scores, np.where(np.arange(20_000) < 3, np.arange(20_000), -1), np.ones(3, bool)
    )
    few = many._replace(false=np.sort(many.false)[-40:])
    assert froc([many], ["a"]).score == froc([few], ["a"]).score
    assert len(froc_curve([many, WELL]).sensitivity) <= 200


def test_a_sample_is_the_curve_of_the_slides_drawn():
    """Patients have different numbers of slides: three slides of two, or none of one."""
    slides = [ILL, WELL, findings([0.2, 0.95], [-1, 0], [True])]
    weights = np.array([[1.0, 1, 1], [2, 0, 3], [0, 4, 1]])
    sorted_findings = _sorted(slides)
    counts = _counts(sorted_findings, sorted_findings.ends)
    sampled = _at_rates(*_sampled_curves(sorted_findings, *counts, weights))
    for row, counted in enumerate(weights.astype(int)):
        drawn = [one for one, n in zip(slides, counted, strict=True) for _ in range(n)]
        alone = sensitivity_at_rates(drawn, [one.target for one in drawn])
        assert [sampled[str(rate)][row] for rate in RATES] == pytest.approx(alone)


def test_samples_of_patients_are_those_of_every_point(monkeypatch):
    """512 points of the curve of each sample give the interval that all points give."""
    rng = np.random.default_rng(1)
    slides = []
    for _ in range(12):
        lesion = np.where(rng.random(150) < 0.02, rng.integers(3, size=150), -1)
        slides.append(slide_findings(rng.random(150) + (lesion >= 0), lesion, np.ones(3, bool)))
    patients = [str(n) for n in range(12)]
    every = froc(slides, patients)
    monkeypatch.setattr("mil.statistics.froc.MOST_SAMPLED", 60)
    some = froc(slides, patients)
    assert some.score.value == every.score.value
    np.testing.assert_allclose(some.score.ci95, every.score.ci95, atol=0.003)
