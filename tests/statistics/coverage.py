"""How often 95 % intervals hold the truth, by simulation.

`python -m tests.statistics.coverage [SAMPLES [FIRST]]` prints the table of
docs/explain/statistics.md, in 20 minutes.
"""

import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mil.statistics.bootstrap import resampled
from mil.statistics.classified import plain, weighted, with_intervals


class Setting(NamedTuple):
    """A population of patients with normal scores, calibrated or not."""

    name: str
    patients: int
    positives: float = 0.5  # share of the patients
    distance: float = 1.8  # between the classes' scores, standard deviations
    slides: int = 1  # of a patient, 1 to this many
    shared: float = 0.0  # share of the variance that a patient's slides have in common
    overconfident: float = 1.0  # what the true log odds are multiplied by


SETTINGS = [
    Setting("20 patients", 20),
    Setting("40 patients", 40, 0.4),
    Setting("129 patients, AUROC 0.96", 129, 0.38, 2.5),
    Setting("60 patients, AUROC 0.96", 60, 0.3, 2.5),
    Setting("40 patients, AUROC 0.64", 40, 0.4, 0.5),
    Setting("20 patients of 1 to 4 slides", 20, 0.5, 1.8, 4, 0.6),
    Setting("60 patients of 1 to 4 slides", 60, 0.4, 1.8, 4, 0.6, 1.5),
]


def draw(
    rng: np.random.Generator, setting: Setting, patients: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients of the slides of a sample."""
    of_patient = (rng.random(patients) < setting.positives).astype(int)
    who = np.repeat(np.arange(patients), rng.integers(1, setting.slides + 1, patients))
    labels = of_patient[who]
    noise = setting.shared**0.5 * rng.normal(size=patients)[who]
    scores = (
        setting.distance * labels + noise + (1 - setting.shared) ** 0.5 * rng.normal(size=len(who))
    )
    odds = setting.distance * (scores - setting.distance / 2) + np.log(
        setting.positives / (1 - setting.positives)
    )
    p = 1 / (1 + np.exp(-setting.overconfident * odds))
    return labels, np.stack([1 - p, p], 1), who


def covered(
    setting: Setting, samples: int, resamples: int, seed: int = 1
) -> Iterator[tuple[str, float, float, float]]:
    """Of each metric: its true value, and the coverage of the interval and of plain percentiles.

    Coverage is in percent of the samples.
    """
    labels, probabilities, _ = draw(np.random.default_rng(99), setting, 400_000)
    truth = plain(labels, probabilities)
    rng = np.random.default_rng(seed)
    ours = {}
    percentile = {}
    for _ in range(samples):
        labels, probabilities, who = draw(rng, setting, setting.patients)
        if not 2 < labels.sum() < len(labels) - 2:
            continue
        found = with_intervals(labels, probabilities, who.astype(str).tolist(), resamples=resamples)
        drawn = resampled(
            lambda w, y=labels, p=probabilities: weighted(y, p, w), who, resamples=resamples
        )
        for name, metric in found.metrics.items():
            if metric.ci95:
                low, high = metric.ci95
                ours.setdefault(name, []).append(low <= truth[name] <= high)
        for name, values in drawn.items():
            low, high = np.nanquantile(values, (0.025, 0.975))
            percentile.setdefault(name, []).append(low <= truth[name] <= high)
    for name, hits in ours.items():
        plainly = 100 * float(np.mean(percentile[name])) if name in percentile else float("nan")
        yield name, float(truth[name] or 0), 100 * float(np.mean(hits)), plainly


def main() -> None:
    """Print a table of all settings."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for setting in SETTINGS[first:]:
        print(setting)
        for name, true, ours, percentile in covered(setting, samples, 1000):
            print(
                f"  {name:20s} true {true:.3f}  covered {ours:5.1f} %  percentiles "
                f"{percentile:5.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
