"""FROC of each kind of map over the test slides, and the lesions that it is of."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mil.evaluate.lesion_slides import LesionSlide, LesionSlides
from mil.evaluate.lesions import SIZES
from mil.io.map_metrics import Froc, FrocPoints, Lesions, SizeSensitivity
from mil.statistics.froc import RATES, froc, froc_curve, sensitivity_at_rates


def froc_of(slides: Sequence[LesionSlide], kind: str) -> Froc | None:
    """FROC of a kind of map; None where no lesion counts.

    Args:
        slides: Slides that count, with and without lesions.
        kind: Kind of map.
    """
    if not slides or any(kind not in slide.findings for slide in slides):
        return None
    findings = [slide.findings[kind] for slide in slides]
    scored = froc(findings, [slide.patient for slide in slides])
    if scored is None:
        return None
    by_size = {}
    for size in SIZES:
        of_size = [np.array([one == size for one in slide.sizes], bool) for slide in slides]
        sensitivity = sensitivity_at_rates(findings, of_size)
        if sensitivity is not None:
            by_size[size] = SizeSensitivity(
                n_lesions=int(sum(some.sum() for some in of_size)),
                sensitivity=sensitivity,
                mean=float(np.mean(sensitivity)),
            )
    curve = froc_curve(findings)
    return Froc(
        score=scored.score,
        false_per_slide=list(RATES),
        sensitivity=scored.at_rates,
        by_size=by_size,
        curve=FrocPoints(
            false_per_slide=curve.false_per_slide.tolist(), sensitivity=curve.sensitivity.tolist()
        ),
    )


def lesions_of_slides(lesions: LesionSlides) -> Lesions | None:
    """The lesions that FROC is of, and the slides left out; None where there are neither."""
    slides = lesions.slides
    counts = Counter(size for slide in slides for size in slide.sizes)
    if not counts and not lesions.left_out:
        return None
    return Lesions(
        n_slides=len(slides),
        n_slides_with_lesions=sum(bool(slide.target.any()) for slide in slides),
        n_patients=len({slide.patient for slide in slides}),
        n_lesions={size: counts[size] for size in SIZES},
        left_out=dict(sorted(lesions.left_out.items())),
        note="Lesions are annotated regions widened by 37.5 µm, with holes filled. Isolated "
        "tumour cells (itc: below 0.2 mm) are no targets and no false detections; micro is up "
        "to 2 mm, macro above.",
    )
