"""Labels as classes, as numbers and as strata; weights of classes in the loss."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mil.config import DatasetConfig
from mil.errors import ConfigError
from mil.text import escaped, look, number_in


def not_among(classes: Sequence[str], label: str) -> str:
    """Message about a label that is none of the classes."""
    alike = next((name for name in classes if look(name) == look(label)), None)
    hint = "" if alike is None else f"; {escaped(label)} only looks like {escaped(alike)}"
    return f"the dataset's classes are: {', '.join(classes)}{hint}"


def class_named(label: str, classes: Sequence[str]) -> str | None:
    """The class of a label: the same text, or the same number (1.0 is the class 1)."""
    if label in classes:
        return label
    number = number_in(label)
    if number is None:
        return None
    return next((name for name in classes if number_in(name) == number), None)


def number_of(label: str) -> float:
    """Label that is a number, with a point or a comma before decimals.

    Raises:
        ValueError: It is none, or not a finite one.
    """
    number = number_in(label)
    if number is None or not math.isfinite(number):
        thousands = " (with a comma, 1,234 could be a thousand)" if "," in label else ""
        raise ValueError(f"a number is needed, such as 27.5{thousands}")
    return number


def quantile_parts(values: Sequence[float], parts: int) -> list[str]:
    """Part of each value when the range is cut into parts with equally many values.

    Equal values are in one part.
    """
    if not values:
        return []
    # Left: a value at an edge goes down, so that equal values stay together.
    edges = np.quantile(values, np.arange(1, parts) / parts)
    return [str(part) for part in np.searchsorted(edges, values, side="left")]


def balanced_weights(classes: Sequence[str], labels: Sequence[str]) -> list[float]:
    """Weights of classes in the loss, by which each class counts the same.

    slides / (classes that occur * slides of the class), so that the mean over slides
    is 1; 1 for a class without slides. scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(labels)
    return [len(labels) / (len(counts) * counts[name]) if counts[name] else 1.0 for name in classes]


def refuse_balance(dataset: DatasetConfig, balanced: bool) -> None:
    """Refuse to balance classes in a task without classes.

    Raises:
        ConfigError: `balanced` is true.
    """
    if balanced:
        raise ConfigError(
            f"train.class_weights: balanced needs classes, which the task {dataset.task} does "
            "not have"
        )


def log_sigmoid(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Logarithm of the sigmoid; finite for logits of any size."""
    # log(1 / (1 + exp(-x))) would overflow for large negative logits.
    return -np.logaddexp(0, -logits)
