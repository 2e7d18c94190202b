"""Figures of the report, as inline SVG."""

import io
from collections import Counter
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rcParams
from matplotlib.figure import Figure

# By head: labels, 1 for the positive class; and scores, larger for the positive class.
Curves = Mapping[str, tuple[Int[np.ndarray, " slides"], Float[np.ndarray, " slides"]]]


# Length of the dashes of curves that lie on each other, line widths.
DASH = 3


def roc_svg(curves: Curves, positive: str) -> str:
    """ROC curves of the test slides, one step line for each head.

    Args:
        curves: Labels and scores of the test slides, by name of the head.
        positive: Name of the positive class, for the title.
    """
    # Ids in the SVG are hashes; with a fixed salt the same figure gives the same bytes.
    rcParams["svg.hashsalt"] = "mil"
    # Not pyplot, which keeps every figure in global state and may look for a display.
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    points = {name: np.stack(_roc(labels, scores)) for name, (labels, scores) in curves.items()}
    sizes = Counter(curve.tobytes() for curve in points.values())
    drawn: Counter[bytes] = Counter()
    for name, (x, y) in points.items():
        curve = points[name].tobytes()
        # Equal curves are dashes in turn, or the last would hide the others.
        turn = DASH * drawn[curve], (DASH, DASH * (sizes[curve] - 1))
        drawn[curve] += 1
        alike = sizes[curve] > 1
        (line,) = axes.plot(
            x, y, linewidth=1.6, alpha=0.85, dash_capstyle="butt", linestyle=turn if alike else "-"
        )
        # Whole lines in the legend. A dollar sign would start mathematics.
        axes.plot([], [], color=line.get_color(), label=name.replace("$", r"\$"), linewidth=1.6)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axes.set_title(f"test slides, {positive}", parse_math=False)
    axes.legend(fontsize=8, loc="lower right")
    text = io.StringIO()
    # Without a date, for the same reason as the salt.
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    # An XML declaration and a doctype may not stand inside an HTML page.
    return svg[svg.index("<svg") :]


def _roc(
    labels: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """False positive rate and sensitivity at each distinct score, from the largest down."""
    order = np.argsort(-scores, kind="stable")
    # Equal scores are one point, or their order in the file would shape the curve.
    ends = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(labels[order])[ends]
    misses = np.cumsum(1 - labels[order])[ends]
    x = np.append(0, misses) / max(1, misses[-1])
    y = np.append(0, hits) / max(1, hits[-1])
    return x, y
