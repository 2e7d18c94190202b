"""Few-shot curves on the report: a figure, a sentence about the best, a table of all."""

from mil.io.fewshot import Curve, Point
from mil.report.figures.fewshot import build
from tests.studied import CLASSES, drawn_study


def curve(*means, learned=False):
    points = [Point(2**power, mean, 0.05, 50) for power, mean in enumerate(means)]
    return Curve(points, learned)


def blocks_of(**curves):
    named = {f"{name} · <enc>": points for name, points in curves.items()}
    section = build(drawn_study("classification", CLASSES)._replace(fewshot=named))
    return section.content["blocks"]


def test_curves_have_a_figure_a_sentence_and_a_row_each():
    blocks = blocks_of(
        mean=curve(0.6, 0.7, 0.75),
        mean_std=curve(0.7, 0.65, 0.7),
        abmil=curve(0.9, 0.9, 0.95, learned=True),
    )
    figure, best, learned, table = blocks
    assert [key.text for key in figure.keys] == [
        f"{n} · <enc>" for n in ("mean", "mean_std", "abmil")
    ]
    assert "mean over folds and 50 draws" in figure.caption
    assert figure.svg.count("training slides of each class</text>") == 1
    # Not of heads that have seen all labels.
    assert best.text == (
        "With 4 training slides of each class, the most that every fold has, mean · <enc> is "
        "highest of the vectors that are made without labels: AUROC 0.750 (0.600 with 1; +0.050 by "
        "the last doubling)."
    )
    assert learned.text.startswith("abmil · <enc>: not a curve of few labels")
    assert table.header == ["vectors", "1", "2", "4"]
    assert table.rows[1] == [
        "mean_std · <enc>",
        "0.700 (± 0.050)",
        "0.650 (± 0.050)",
        "0.700 (± 0.050)",
    ]


def test_curves_of_other_lengths_and_a_single_point():
    _, best, _ = blocks_of(one=curve(0.9), two=curve(0.6, 0.5))
    assert "two · <enc> is highest: AUROC 0.500 (0.600 with 1; −0.100 by" in best.text
    _, best, table = blocks_of(one=curve(0.9))
    assert best.text == (
        "With 1 training slide of each class, the most that every fold has, one · <enc> is "
        "highest: AUROC 0.900."
    )
    assert table.rows == [["one · <enc>", "0.900 (± 0.050)"]]


def test_without_curves_there_is_no_section():
    assert build(drawn_study("classification", CLASSES)) is None
