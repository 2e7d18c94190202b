"""95 % intervals from patients drawn with replacement."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from mil.statistics.arrays import Draws, Members, Weights
from mil.statistics.delong import Difference, normal_difference
from mil.statistics.intervals import Interval, wilson
from mil.statistics.normal import expit, logit, t_quantile

RESAMPLES = 1000
_CELLS = 4_000_000  # weights computed at once, 32 MB
ROUNDING = 1e-9  # standard errors, and distances from 0 and 1, below this are rounding
# Weights of the slides in each resample -> metrics by name
Metrics = Callable[[Weights], Mapping[str, Draws]]


def members(patients: Sequence[str]) -> Members:
    """Number of each slide's patient, from 0."""
    return np.unique(np.asarray(patients), return_inverse=True)[1]


def weights(member: Members, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Weights]:
    """Number of times that each slide occurs in each resample, a block of them at a time.

    Whole patients are drawn, as many as there are. They are not drawn within classes,
    because the number of patients of a class is random too; drawing within classes
    covered less in simulations.

    Args:
        member: Number of each slide's patient.
        resamples: Number of resamples.
        seed: Random seed.
    """
    rng = np.random.default_rng(seed)
    patients = int(member.max()) + 1
    block = max(1, _CELLS // len(member))
    for start in range(0, resamples, block):
        drawn = rng.integers(patients, size=(min(block, resamples - start), patients))
        # One bincount over all rows: each row's patients get numbers of their own.
        row_starts = np.arange(len(drawn))[:, None] * patients
        cells = (drawn + row_starts).ravel()
        counts = np.bincount(cells, minlength=len(drawn) * patients)
        yield counts.reshape(len(drawn), patients)[:, member].astype(float)


def resampled(
    metrics: Metrics, member: Members, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Draws]:
    """Each metric in each resample; NaN where a resample does not allow it.

    Args:
        metrics: Metrics of weighted samples.
        member: Number of each slide's patient.
        resamples: Number of resamples.
        seed: Random seed.
    """
    blocks = [metrics(block) for block in weights(member, resamples=resamples, seed=seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def interval(value: float, drawn: Draws, patients: int, *, top: float = 1.0) -> Interval | None:
    """95 % interval of a metric between 0 and `top`: a t interval of the log odds.

    The standard error is that of the resamples, times sqrt(k / (k - 1)) for k patients,
    t with k - 1 degrees of freedom. Percentiles of the same resamples cover 82 to 95 %,
    least where patients are few or the value is near the top (docs/explain/statistics.md). A
    value at an end, from which no resample differs, gets Wilson's interval of k
    patients.

    Args:
        value: Metric of all slides.
        drawn: Metric of each resample.
        patients: Number of patients.
        top: Largest possible value of the metric.

    Returns:
        Low and high end; None for fewer than two patients.
    """
    share = value / top
    finite = drawn[np.isfinite(drawn)] / top
    if patients < 2 or len(finite) < 2:
        return None
    error = float(finite.std(ddof=1)) * (patients / (patients - 1)) ** 0.5
    if error < ROUNDING or not ROUNDING < share < 1 - ROUNDING:
        low, high = wilson(min(max(share, 0.0), 1.0), patients)
    else:
        half = t_quantile(patients - 1) * error / (share * (1 - share))
        low = expit(logit(share) - half)
        high = expit(logit(share) + half)
    return low * top, high * top


def paired_difference(difference: float, drawn: Draws, patients: int) -> Difference:
    """Interval and normal test of a difference of two heads' metrics on the same slides.

    Args:
        difference: Difference on all slides.
        drawn: Difference on each resample, of the same patients for both heads.
        patients: Number of patients; see `interval`.
    """
    finite = drawn[np.isfinite(drawn)]
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else 0.0
    return normal_difference(difference, spread * (patients / (patients - 1)) ** 0.5)
