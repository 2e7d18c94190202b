"""95 % intervals from patients drawn with replacement."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from mil.statistics.delong import Difference, normal_difference
from mil.statistics.intervals import Interval, wilson
from mil.statistics.normal import expit, logit, t_quantile

RESAMPLES = 1000
_CELLS = 4_000_000  # of weights at once, 32 MB
Metrics = Callable[[Float[np.ndarray, "draws n"]], Mapping[str, Float[np.ndarray, " draws"]]]


def members(patients: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Number of each slide's patient, from 0."""
    return np.unique(np.asarray(patients), return_inverse=True)[1]


def weights(
    member: Int[np.ndarray, " n"], *, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[Float[np.ndarray, "draws n"]]:
    """How often each slide occurs in each resample, a block of resamples at a time.

    Whole patients are drawn, as many as there are; not within classes, for how many
    patients of a class there are is chance too (drawing within classes covered less in
    simulations).
    """
    rng = np.random.default_rng(seed)
    count = int(member.max()) + 1
    block = max(1, _CELLS // len(member))
    for start in range(0, resamples, block):
        drawn = rng.integers(count, size=(min(block, resamples - start), count))
        rows = np.arange(len(drawn))[:, None] * count
        times = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * count).reshape(
            len(drawn), count
        )
        yield times[:, member].astype(float)


def resampled(
    metrics: Metrics, member: Int[np.ndarray, " n"], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Float[np.ndarray, " draws"]]:
    """Each metric in each resample; NaN where a resample lacks what it needs."""
    blocks = [metrics(block) for block in weights(member, resamples=resamples, seed=seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def interval(
    value: float, drawn: Float[np.ndarray, " draws"], patients: int, *, top: float = 1.0
) -> Interval | None:
    """95 % interval of a metric between 0 and `top`: a t interval on the scale of log odds.

    The standard error is that of the resamples, times sqrt(k / (k - 1)) for k patients,
    t with k - 1 degrees of freedom. Percentiles of the same resamples cover 82 to 95 %,
    least where patients are few or the value is near the top (docs/statistics.md). A
    value at an end, from which no resample differs, gets Wilson's interval of k
    patients.

    Args:
        value: of the metric on all slides.
        drawn: of the metric on each resample.
        patients: how many there are.
        top: the largest value the metric can have.

    Returns:
        Low and high; None for fewer than two patients.
    """
    share = value / top
    known = drawn[np.isfinite(drawn)] / top
    if patients < 2 or len(known) < 2:
        return None
    error = float(known.std(ddof=1)) * (patients / (patients - 1)) ** 0.5
    if error < 1e-9 or not 1e-9 < share < 1 - 1e-9:
        low, high = wilson(min(max(share, 0.0), 1.0), patients)
    else:
        half = t_quantile(patients - 1) * error / (share * (1 - share))
        low = expit(logit(share) - half)
        high = expit(logit(share) + half)
    return low * top, high * top


def paired_difference(
    difference: float, drawn: Float[np.ndarray, " draws"], patients: int
) -> Difference:
    """Interval and normal test of a difference of two heads' metrics on the same slides.

    Args:
        difference: on all slides.
        drawn: on each resample, the same patients for both heads.
        patients: how many there are; see `interval`.
    """
    known = drawn[np.isfinite(drawn)]
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return normal_difference(difference, spread * (patients / (patients - 1)) ** 0.5)
