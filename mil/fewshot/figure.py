"""Few-shot curves as one SVG."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mil.io.atomic import write_text
from mil.io.fewshot import Curve

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mil",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_figure(curves: Mapping[str, Curve], path: Path) -> None:
    """Draw a line for each curve, with a band of one standard deviation over the draws.

    Args:
        curves: Curves by name; those without points are left out.
        path: SVG to write.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        canvas = Figure((6.0, 3.6), layout="constrained")
        axes = canvas.add_subplot()
        drawn = {name: curve.points for name, curve in curves.items() if curve.points}
        for number, (name, points) in enumerate(drawn.items()):
            colour = COLOURS[number % len(COLOURS)]
            shots = [point.shots for point in points]
            means = [point.mean for point in points]
            low = [point.mean - point.sd for point in points]
            high = [min(point.mean + point.sd, 1) for point in points]
            axes.fill_between(shots, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(shots, means, color=colour, marker="o", markersize=3, label=name)
        axes.axhline(0.5, color="#b3b8bf", linewidth=0.7)
        axes.set_xscale("log", base=2)
        ticks = sorted({point.shots for points in drawn.values() for point in points})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel("training slides of each class")
        axes.set_ylabel("AUROC, mean ± SD of draws")
        if drawn:
            axes.legend(frameon=False, fontsize=8)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    write_text(path, buffer.getvalue())
