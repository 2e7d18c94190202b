"""Whether one of the first tiles of a map is annotated, and how often it is."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mil.evaluate.localise import ANNOTATED, hit_of_drawn, top_hit
from mil.io.map_metrics import TopHits
from mil.statistics.bootstrap import members
from mil.statistics.intervals import proportion
from mil.statistics.metric import Metric

# Numbers of first tiles, k.
TOP = (1, 5, 10)


def top_hits(
    values: Float[np.ndarray, " tiles"], share: Float[np.ndarray, " tiles"]
) -> Float[np.ndarray, " ks"]:
    """Whether one of the k tiles of the highest values is annotated, for each k.

    Args:
        values: Value of each tile.
        share: Annotated share of each tile, 0..1.
    """
    return np.array([top_hit(values, share, k) for k in TOP])


def top_hits_by_chance(share: Float[np.ndarray, " tiles"]) -> Float[np.ndarray, " ks"]:
    """Probability that one of k tiles drawn at random is annotated, for each k."""
    annotated = int((share >= ANNOTATED).sum())
    return np.array([hit_of_drawn(len(share), annotated, k) for k in TOP])


def rates_of_top_hits(
    hits: Float[np.ndarray, "slides ks"], by_chance: Sequence[float], patients: Sequence[str]
) -> list[TopHits]:
    """Share of slides with a hit for each k, with its interval over patients.

    Args:
        hits: Hits of each slide.
        by_chance: Mean over slides of the probability of a hit by chance, for each k.
        patients: Patient of each slide.
    """
    member = members(patients)
    rates = []
    for k, of_k, chance in zip(TOP, hits.T.copy(), by_chance, strict=True):
        rate = Metric(value=float(of_k.mean()), ci95=proportion(of_k, member))
        rates.append(TopHits(k=k, rate=rate, by_chance=chance))
    return rates
