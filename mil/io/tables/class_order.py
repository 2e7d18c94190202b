"""The order of classes that is not stated: negative labels first, the class of interest last."""

from collections.abc import Mapping

# Labels of the class that the others are compared with, in lower case.
NEGATIVE = {
    "0",
    "benign",
    "control",
    "false",
    "healthy",
    "mss",
    "neg",
    "negative",
    "no",
    "non-tumor",
    "non-tumour",
    "nonmsih",
    "normal",
    "wild type",
    "wildtype",
    "wt",
}


def class_order(counts: Mapping[str, int], positive: str | None) -> dict[str, int]:
    """The classes and their numbers of slides, in order.

    Negative labels come first, `positive` last, numbers by value.

    Args:
        counts: number of slides of each label.
        positive: the class of interest; None or empty: not stated.
    """

    def rank(label: str) -> tuple[bool, bool, tuple[int, float, str]]:
        return label == positive, label.lower() not in NEGATIVE, _by_value(label)

    return {label: counts[label] for label in sorted(counts, key=rank)}


def _by_value(label: str) -> tuple[int, float, str]:
    """Sort key: numbers by value, before words."""
    return (0, float(label), label) if label.isdecimal() else (1, 0.0, label)
