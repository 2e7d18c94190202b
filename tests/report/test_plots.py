"""ROC curves that are equal can all be seen."""

import re

import numpy as np

from mil.report.plots import roc_svg

LABELS = np.array([0, 1, 0, 1, 1, 0])
SCORES = np.array([0.1, 0.4, 0.5, 0.6, 0.9, 0.2])


def curves(**scores) -> list[str]:
    """Style of each curve of a figure, without the diagonal and the legend."""
    svg = roc_svg({name: (LABELS, np.array(of)) for name, of in scores.items()}, "tumour")
    axes = svg[svg.index('id="patch_2"') : svg.index('id="legend_1"')]
    styles = re.findall(r'style="(fill: none;[^"]*stroke-width: 1\.6[^"]*)"', axes)
    return [style for style in styles if "stroke:" in style]


def dashes(style: str) -> tuple[str, str]:
    array = re.search(r"stroke-dasharray: ([\d., ]+)", style)
    offset = re.search(r"stroke-dashoffset: ([\d.]+)", style)
    assert array
    assert offset
    return array[1], offset[1]


def test_equal_curves_are_dashed_in_turn():
    styles = curves(a=SCORES, b=2 * SCORES, c=SCORES + 1, other=1 - SCORES)
    assert len(styles) == 4
    turns = [dashes(style) for style in styles[:3]]
    # A dash of 3 line widths, a gap for the two others; each begins where the last ends.
    assert turns == [("4.8,9.6", "0"), ("4.8,9.6", "4.8"), ("4.8,9.6", "9.6")]
    assert "dasharray" not in styles[3]


def test_other_curves_are_whole_lines():
    assert all("dasharray" not in style for style in curves(a=SCORES, b=-SCORES))
    assert all("dasharray" not in style for style in curves(a=SCORES))
