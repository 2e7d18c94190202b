"""The report's figures, as inline SVG."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure

# (labels, 1 for the positive class; probabilities) of each recipe
Scores = Mapping[str, tuple[Sequence[int], Sequence[float]]]


def roc_svg(scores: Scores, positive: str) -> str:
    """ROC curves of the test slides, one step line a recipe."""
    rcParams["svg.hashsalt"] = "mil"  # the same figure gives the same bytes
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    for name, (labels, values) in scores.items():
        x, y = _roc(np.asarray(labels), np.asarray(values))
        axes.plot(x, y, label=name.replace("$", r"\$"), linewidth=1.6, alpha=0.85)
    axes.set(
        xlabel="1 - specificity",
        ylabel="sensitivity",
        aspect="equal",
    )
    axes.set_title(f"test slides, {positive}", parse_math=False)
    axes.legend(fontsize=8, loc="lower right")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _roc(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.diff(values[order]) != 0, True)
    hits = np.cumsum(labels[order])[ends]
    misses = np.cumsum(1 - labels[order])[ends]
    return np.append(0, misses) / max(1, misses[-1]), np.append(0, hits) / max(1, hits[-1])
