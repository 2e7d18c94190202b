"""FROC: lesions found against false detections per slide, after CAMELYON16's rules.

Ehteshami Bejnordi et al. (2017, JAMA 318:2199) define it; the rules are
those of the challenge's evaluation script:

- a detection inside a lesion finds it, and the best one counts; further ones count for
  nothing;
- a detection outside all lesions is false;
- isolated tumour cells are no targets, and a detection of them is not false;
- sensitivity is read at 1/4, 1/2, 1, 2, 4 and 8 false detections per slide, linearly
  between the points of the curve, and the score is the mean of the six.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mil.statistics.arrays import Draws, Weights
from mil.statistics.metric import Metric
from mil.statistics.resampled import with_intervals

# False detections per slide at which sensitivity is read.
RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# False detections per slide that are kept, the highest first: four times as many as are
# read, so that samples of patients that have more of them do not reach the end.
KEPT_PER_SLIDE = 32
# Points of a curve that is drawn, and of the curve of each sample of patients.
MOST_POINTS = 200
MOST_SAMPLED = 512


class SlideFindings(NamedTuple):
    """Detections of one slide against its lesions.

    Attributes:
        best: Score of the best detection in each lesion; -inf: the lesion was missed.
        target: Whether each lesion counts.
        false: Scores of the detections outside all lesions.
    """

    best: Float[np.ndarray, " lesions"]
    target: Bool[np.ndarray, " lesions"]
    false: Float[np.ndarray, " false"]


class FrocCurve(NamedTuple):
    """Points of the curve, from no false detection up."""

    false_per_slide: Float[np.ndarray, " points"]
    sensitivity: Float[np.ndarray, " points"]


class FrocScore(NamedTuple):
    """Mean sensitivity at `RATES`, and the sensitivity at each, with 95 % intervals."""

    score: Metric
    at_rates: list[Metric]


def slide_findings(
    scores: Float[np.ndarray, " detections"],
    lesion: Int[np.ndarray, " detections"],
    target: Bool[np.ndarray, " lesions"],
) -> SlideFindings:
    """Compare the detections of a slide with its lesions.

    Args:
        scores: Score of each detection, on a scale that all slides share.
        lesion: Number of the lesion that each detection lies in; -1: in none.
        target: Whether each lesion counts: all but isolated tumour cells.
    """
    best = np.full(len(target), -np.inf)
    inside = lesion >= 0
    np.maximum.at(best, lesion[inside], scores[inside])
    return SlideFindings(best, target, scores[~inside])


class _Findings(NamedTuple):
    """Findings of all slides, from the highest score down; see `_sorted`."""

    # Whether each finding is a lesion that was found, else a false detection.
    is_lesion: Bool[np.ndarray, " findings"]
    slide: Int[np.ndarray, " findings"]
    # Last finding of each score: findings that tie count at once.
    ends: Int[np.ndarray, " scores"]
    # Lesions that count, found or not, of each slide.
    lesions: Float[np.ndarray, " slides"]


def _sorted(slides: Sequence[SlideFindings]) -> _Findings:
    found = [one.best[one.target] for one in slides]
    false = np.concatenate([one.false for one in slides])
    false_slide = np.repeat(np.arange(len(slides)), [len(one.false) for one in slides])
    best = np.argsort(-false, kind="stable")[: KEPT_PER_SLIDE * len(slides)]
    found_slide = np.repeat(np.arange(len(slides)), [len(one) for one in found])
    lesion_scores = np.concatenate(found)
    was_found = lesion_scores > -np.inf
    scores = np.concatenate([lesion_scores[was_found], false[best]])
    is_lesion = np.arange(len(scores)) < was_found.sum()
    slide = np.concatenate([found_slide[was_found], false_slide[best]])
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)])
    lesions = np.array([float(one.target.sum()) for one in slides])
    return _Findings(is_lesion[order], slide[order], ends, lesions)


def _counts(
    findings: _Findings, ends: Int[np.ndarray, " points"]
) -> tuple[Float[np.ndarray, "slides points"], Float[np.ndarray, "slides points"]]:
    """Lesions found, and false detections, of each slide between the points of the curve."""
    shape = (len(findings.lesions), len(ends))
    point = np.searchsorted(ends, np.arange(len(findings.slide)))
    cells = findings.slide * len(ends) + point
    hits, false = (
        np.bincount(cells[kind], minlength=shape[0] * shape[1]).reshape(shape).astype(float)
        for kind in (findings.is_lesion, ~findings.is_lesion)
    )
    return hits, false


def _whole_curve(findings: _Findings) -> FrocCurve:
    """Every point of the curve of all slides, one of whose lesions counts."""
    false = (~findings.is_lesion).cumsum()[findings.ends]
    hits = findings.is_lesion.cumsum()[findings.ends]
    return FrocCurve(
        np.append(0.0, false / len(findings.lesions)),
        np.append(0.0, hits / findings.lesions.sum()),
    )


def _sampled_curves(
    findings: _Findings, hits: np.ndarray, false: np.ndarray, weights: Weights
) -> tuple[Float[np.ndarray, "draws points"], Float[np.ndarray, "draws points"]]:
    """False detections per slide and sensitivity of samples; NaN without lesions.

    Args:
        findings: Findings of all slides.
        hits: Lesions found between the points, of each slide.
        false: The same of false detections.
        weights: Number of times that each slide occurs in each sample.
    """
    lesions = weights @ findings.lesions
    lesions[lesions == 0] = np.nan
    nothing = np.zeros((len(weights), 1))
    per_slide = (weights @ false).cumsum(1) / weights.sum(1, keepdims=True)
    sensitivity = (weights @ hits).cumsum(1) / lesions[:, None]
    return np.hstack([nothing, per_slide]), np.hstack([nothing, sensitivity])


def _at_rates(
    per_slide: Float[np.ndarray, "draws points"], sensitivity: Float[np.ndarray, "draws points"]
) -> dict[str, Draws]:
    # Beyond the last point there is nothing more to find.
    at_rates = np.array(
        [np.interp(RATES, *points) for points in zip(per_slide, sensitivity, strict=True)]
    )
    named = {str(rate): at_rates[:, number] for number, rate in enumerate(RATES)}
    return {"score": at_rates.mean(1), **named}


def froc(slides: Sequence[SlideFindings], patients: Sequence[str]) -> FrocScore | None:
    """FROC score with its interval over patients; None where no lesion counts.

    Args:
        slides: Findings of each slide, those without lesions too.
        patients: Patient of each slide.
    """
    findings = _sorted(slides)
    if not findings.lesions.any():
        return None
    curve = _whole_curve(findings)
    # Samples differ by more than what lies between 512 points.
    hits, false = _counts(findings, findings.ends[_rows_on_log_axis(len(findings.ends))])

    def weighted(weights: Weights) -> dict[str, Draws]:
        if len(weights) == 1 and (weights == 1).all():
            return _at_rates(curve.false_per_slide[None], curve.sensitivity[None])
        return _at_rates(*_sampled_curves(findings, hits, false, weights))

    metrics = with_intervals(weighted, patients, {}).metrics
    return FrocScore(metrics["score"], [metrics[str(rate)] for rate in RATES])


def _rows_on_log_axis(number: int) -> Int[np.ndarray, " rows"]:
    """All rows, or some 512 of them, denser at the first, with the last."""
    if number <= MOST_SAMPLED:
        return np.arange(number)
    return np.unique(np.geomspace(1, number, MOST_SAMPLED).round().astype(int)) - 1


def froc_curve(slides: Sequence[SlideFindings]) -> FrocCurve:
    """The curve up to a little beyond the last of `RATES`, at most 200 points.

    Args:
        slides: Findings of each slide; a lesion of one of them counts.
    """
    curve = _whole_curve(_sorted(slides))
    within = int(np.searchsorted(curve.false_per_slide, 1.25 * RATES[-1], side="right"))
    rows = np.arange(within)
    if within > MOST_POINTS:
        rows = np.unique(np.linspace(0, within - 1, MOST_POINTS).round().astype(int))
    return FrocCurve(curve.false_per_slide[rows], curve.sensitivity[rows])


def sensitivity_at_rates(
    slides: Sequence[SlideFindings], target: Sequence[Bool[np.ndarray, " _"]]
) -> list[float] | None:
    """Sensitivity at `RATES` for some lesions alone, at the same false detections.

    Args:
        slides: Findings of each slide.
        target: Lesions of each slide that count here; None is returned where none does.
    """
    of_some = [one._replace(target=some) for one, some in zip(slides, target, strict=True)]
    findings = _sorted(of_some)
    if not findings.lesions.any():
        return None
    curve = _whole_curve(findings)
    return np.interp(RATES, curve.false_per_slide, curve.sensitivity).tolist()
