"""Figures and tables of the results: which a study has, their numbers, and what is never drawn."""

import json
import re

import numpy as np
import pytest

from mil.io.results import Comparison
from mil.io.tables import Slide
from mil.report.figures import (
    calibrated,
    compared,
    decisions,
    discrimination,
    faithfulness,
    learning,
    lesions,
    net_benefit,
    survival,
)
from mil.report.figures.style import Turns, coarse, shorten, thinned
from mil.report.figures.tested import heads_tested
from mil.report.results import result_sections
from tests.studied import CLASSES, METRIC, drawn_study, head, row, study

OF_TASK = {
    ("classification", CLASSES): ["discrimination", "decisions", "calibration", "net_benefit"],
    ("ordinal", ("g1", "g2", "g3")): ["decisions"],
    ("survival_cox", ()): ["survival"],
}
OF_TASK_SLOW = {
    ("regression", ()): ["agreement"],
    ("classification", ("a", "b", "c")): ["discrimination", "decisions", "calibration"],
    ("multilabel", ("a", "b")): ["discrimination", "decisions"],
    ("survival_discrete", ()): ["survival"],
}


def notes(section) -> str:
    return " ".join(block.text for block in section.content["blocks"] if block.kind == "note")


def of_kind(section, kind: str) -> list:
    return [block for block in section.content["blocks"] if block.kind == kind]


@pytest.mark.parametrize(("task", "anchors"), [
    *OF_TASK.items(),
    *(pytest.param(*of, marks=pytest.mark.slow) for of in OF_TASK_SLOW.items()),
])  # fmt: skip
def test_each_task_has_its_sections(task, anchors):
    sections = result_sections(drawn_study(*task))
    assert [section.anchor for section in sections] == anchors
    for section in sections:
        for figure in of_kind(section, "figure"):
            assert "12 test" in figure.caption
            assert figure.svg.startswith("<svg ")


def binary(probabilities, labels, **more) -> list:
    """Test slides with probabilities of tumour, in rows of predictions.csv."""
    return [
        row(f"s{number}", CLASSES[label], {"p_normal": 1 - p, "p_tumour": p}, **more)
        for number, (p, label) in enumerate(zip(probabilities, labels, strict=True))
    ]


def of_rows(*rows, slides=()):
    heads = [head("classification", of_head, CLASSES) for of_head in rows]
    return study("classification", heads, CLASSES, slides)


def test_test_slides_are_means_over_the_runs_that_held_them_out():
    rows = binary([0.2, 0.8], [0, 1], seed=1, threshold=0.25)
    rows += binary([0.4, 0.9], [0, 1], seed=2, threshold=0.75)
    rows += [row("seen", "tumour", {"p_normal": 0.0, "p_tumour": 1.0}, split="train")]
    (tested,) = heads_tested(of_rows(rows))
    assert tested.slides == ["s0", "s1"]
    assert tested.column("p_tumour") == pytest.approx([0.3, 0.85])
    assert tested.thresholds == pytest.approx([0.5, 0.5])
    assert tested.has_thresholds
    # As `evaluate` has it: a mean with a missing threshold is 0.5.
    rows = rows[:2] + binary([0.4, 0.9], [0, 1], seed=2, threshold=None)
    (tested,) = heads_tested(of_rows(rows))
    assert not tested.has_thresholds
    assert tested.thresholds.tolist() == [0.5, 0.5]


def test_decisions_by_hand_and_by_subgroup():
    rows = binary([0.1, 0.35, 0.6, 0.3, 0.7, 0.9], [0, 0, 0, 1, 1, 1], threshold=0.32)
    slides = [
        Slide(slide=f"s{number}", patient="p", label="normal", subgroups={"site": "AAABBB"[number]})
        for number in range(6)
    ]
    section = decisions.build(of_rows(rows, slides=slides))
    whole, by_site = of_kind(section, "table")
    # Called: 0.35, 0.6, 0.7 and 0.9.
    assert whole.rows == [
        [
            "abmil · tiny", "0.320", "2", "2", "1", "1",
            "0.667 (0.21 to 0.94)", "0.333 (0.06 to 0.79)",
            "0.500 (0.15 to 0.85)", "0.500 (0.09 to 0.91)",
        ]
    ]  # fmt: skip
    assert [line[:7] for line in by_site.rows] == [
        ["abmil · tiny", "A", "3", "0", "2", "0", "1"],
        ["abmil · tiny", "B", "3", "2", "0", "1", "0"],
    ]
    assert by_site.rows[1][7:] == ["0.667 (0.21 to 0.94)", "–", "1.000 (0.34 to 1.00)", "0.000"]
    (matrices,) = of_kind(section, "matrices")
    assert matrices.matrices[0].counts == [[1, 2], [1, 2]]
    assert matrices.matrices[0].share(1, 1) == pytest.approx(2 / 3)
    assert "0.5 stands for it" not in notes(section)
    without = decisions.build(of_rows(binary([0.1, 0.9], [0, 1])))
    assert "abmil · tiny have no threshold of validation slides; 0.5" in notes(without)


def test_each_of_several_labels_has_a_line():
    labels = ("a", "a;b", "", "b")
    rows = [
        row(f"s{number}", label, {"p_a": p, "p_b": 0.5})
        for number, (label, p) in enumerate(zip(labels, (0.9, 0.4, 0.6, 0.1), strict=True))
    ]
    classes = ("a", "b")
    of = study("multilabel", [head("multilabel", rows, classes)], classes)
    (table,) = of_kind(decisions.build(of), "table")
    assert [line[1:6] for line in table.rows] == [
        ["a", "1", "1", "1", "1"],
        ["b", "2", "2", "0", "0"],
    ]


def test_what_cannot_be_drawn_says_why():
    one_class = of_rows(binary([0.1, 0.5, 0.9], [0, 0, 0]))
    assert "all test slides are of one class (3 test slides of 3 patients)" in notes(
        discrimination.build(one_class)
    )
    assert "are of one class" in notes(net_benefit.build(one_class))
    equal = calibrated.build(of_rows(binary([0.5] * 4, [0, 1, 0, 1])))
    assert "No slope and intercept of abmil · tiny: all predictions are equal" in notes(equal)
    untested = of_rows(binary([0.5] * 4, [0, 1, 0, 1], split="val"))
    assert result_sections(untested) == []


def risks(values, *, split="test", times=None, seed=1):
    return [
        row(
            f"{split}{number}",
            str(number + 1) if times is None else times[number],
            {"log_risk": value},
            split=split,
            seed=seed,
        )
        for number, value in enumerate(values)
    ]


def test_risk_groups_are_divided_at_the_median_of_validation():
    rows = risks([0.0, 1.0, 5.0], split="val") + risks([9.0, 0.5, 1.5, 0.9])
    section = survival.build(study("survival_cox", [head("survival_cox", rows)]))
    (figure,) = of_kind(section, "figure")
    assert "median risk of validation patients" in figure.caption
    # Above 1: patients 0 and 2, whose events come at 1 and 3.
    (table,) = of_kind(section, "table")
    assert table.rows[0][2:8] == ["2", "2", "2", "2", "2", "1"]


def test_patients_without_events_or_groups_say_so():
    censored = risks([1.0, 2.0, 3.0], times=["1+", "2+", "3+"])
    section = survival.build(study("survival_cox", [head("survival_cox", censored)]))
    assert "no event was observed among 3 test patients" in notes(section)
    assert "the median of the test patients themselves divides" in notes(section)
    assert of_kind(section, "figure") == []
    equal = survival.build(study("survival_cox", [head("survival_cox", risks([1.0] * 3))]))
    assert "No log-rank test of abmil · tiny: one of the groups is empty" in notes(equal)


def test_names_of_others_are_text_and_the_same_data_the_same_bytes():
    # No mathematics: to parse it would fail.
    evil = r'<b>$\frac$ & "q"</b>'
    rows = binary([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], recipe=evil)
    first = calibrated.build(of_rows(rows))
    assert first == calibrated.build(of_rows(rows))
    (figure,) = of_kind(first, "figure")
    assert "<b>" not in figure.svg
    assert r"&lt;b&gt;$\frac$ &amp;" in figure.svg
    assert "Date" not in figure.svg
    # Ids are of what is referred to, and say nothing about the place on the page.
    used = set(re.findall(r"#([\w-]+)", figure.svg))
    assert set(re.findall(r'\bid="([^"]+)"', figure.svg)) <= used


def test_equal_curves_are_dashed_in_turn():
    same = np.array([[0.0, 0, 1], [0, 1, 1]])
    turns = Turns([same, same.copy(), 1 - same, same.copy()])
    assert [turns.dashes(curve) for curve in (same, same, same)] == [
        (0, (3, 6)),
        (3, (3, 6)),
        (6, (3, 6)),
    ]
    assert turns.dashes(1 - same) == "-"


def test_lines_and_dots_are_thinned_to_what_can_be_seen():
    rng = np.random.default_rng(0)
    x = np.sort(rng.random(5000))
    y = np.sqrt(x)
    fewer_x, fewer_y = coarse(x, y, 100)
    assert 100 <= len(fewer_x) <= 113
    assert np.array_equal(fewer_y, np.sqrt(fewer_x))
    assert (fewer_x[0], fewer_x[-1]) == (x[0], x[-1])
    assert np.abs(np.interp(x, fewer_x, fewer_y) - y).max() < 0.011
    dots = thinned(x, rng.random(5000), 300)
    assert 100 < len(dots[0]) <= 300
    assert set(dots[0]) <= set(x)
    assert thinned(x[:9], y[:9], 9)[0] is not None
    assert len(thinned(np.ones(500), np.ones(500), 300)[0]) == 1
    assert shorten("a" * 40 + " · uni", 20) == "aaaaaaaaaa…aaa · uni"


def test_learning_curves_are_of_the_histories_that_can_be_read(tmp_path):
    folders = []
    for seed in range(3):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        losses = [{"loss": 0.7 - 0.1 * epoch} for epoch in range(4 + seed)]
        history = {"train": losses, "valid": losses, "best_epoch": 2 + seed}
        (folder / "history.json").write_text(json.dumps(history))
        folders.append(folder)
    (folders[2] / "history.json").write_text('{"train": [{"loss": "NaN"}], "valid": []')
    one = head("classification", binary([0.1], [0]), CLASSES, trained=folders)
    section = learning.build(study("classification", [one], CLASSES))
    (table,) = of_kind(section, "table")
    assert table.rows == [
        [
            "abmil · tiny", "2", "4 (4 to 5)", "2 (2 to 3)",
            "0.350 (0.300 to 0.400)", "0.550 (0.500 to 0.600)",
        ]
    ]  # fmt: skip
    assert "No learning curve of 1 of 3 runs of abmil · tiny" in notes(section)
    assert learning.build(of_rows(binary([0.1], [0]))) is None


def maps() -> dict:
    """Section `maps` of metrics.json with all that can be measured of one kind."""
    curves = {
        "shares": [0.01, 0.1, 1.0],
        "most_first": [-1.0, -2.0, None],
        "least_first": [0, 0, None],
    }
    curve = {"false_per_slide": [0.0, 1.0, 8.0], "sensitivity": [0.0, 0.5, 1.0]}
    return {
        "effect": {
            "faithfulness": {
                "area": METRIC, "unit": "log-odds", "n_slides": 4, "per_slide": {},
                "curves": curves,
            },
            "froc": {
                "score": METRIC, "false_per_slide": [1.0, 8.0], "sensitivity": [METRIC, METRIC],
                "by_size": {"macro": {"n_lesions": 3, "sensitivity": [0.5, 1.0], "mean": 0.75}},
                "curve": curve,
            },
        },
        "unheard of": {},
    }  # fmt: skip


def test_maps_have_flipping_curves_and_froc():
    counted = {"n_slides": 4, "n_slides_with_lesions": 2, "n_patients": 4}
    counted |= {"n_lesions": {"itc": 0, "macro": 3}, "left_out": {"s9": "not annotated"}}
    one = head("classification", binary([0.1], [0]), CLASSES, maps=maps(), lesions=counted)
    of = study("classification", [one], CLASSES)
    flipped = faithfulness.build(of)
    (table,) = of_kind(flipped, "table")
    assert table.rows == [
        ["abmil · tiny", "effect of the tile", "0.750 (0.50 to 1.00)", "log-odds", "4"]
    ]
    found = lesions.build(of)
    (table,) = of_kind(found, "table")
    assert table.header[2:] == ["score", "at 1", "at 8", "macrometastases"]
    assert table.rows[0][2:] == ["0.750 (0.50 to 1.00)", "0.750", "0.750", "0.750 (3 lesions)"]
    assert notes(found) == (
        "Lesions: 3 macrometastases on 2 of 4 test slides of 4 patients. Slides left out: s9: not "
        "annotated."
    )
    counted |= {"n_slides_with_lesions": 0, "n_lesions": {"itc": 0, "macro": 0}}
    one = head("classification", binary([0.1], [0]), CLASSES, lesions=counted)
    assert notes(lesions.build(study("classification", [one], CLASSES))) == (
        "No test slide has an annotated lesion that counts, so there are no FROC curves. Slides "
        "left out: s9: not annotated."
    )
    without = of_rows(binary([0.1], [0]))
    assert faithfulness.build(without) is None
    assert lesions.build(without) is None


def test_annotated_tiles_say_the_dice_rule_of_each_kind_of_map():
    def tiles(rule: str) -> dict:
        metrics = dict.fromkeys(("tile_auroc", "average_precision", "dice"), METRIC)
        by_chance = {"average_precision_by_chance": 0.25, "dice_thresholds": {"0": 1.0}}
        hits = [{"k": 1, "rate": METRIC, "by_chance": 0.25}]
        return metrics | by_chance | {
            "n_slides": 2, "dice_rule": rule, "top_hits": hits, "per_slide": {},
        }  # fmt: skip

    maps = {
        "attention": {"tiles": tiles("Times uniform.")},
        "alone": {"tiles": tiles("Evidence.")},
        "effect": {"tiles": tiles("Evidence.")},
    }
    one = head("classification", binary([0.1], [0]), CLASSES, maps=maps)
    (table,) = of_kind(lesions.build(study("classification", [one], CLASSES)), "table")
    assert [row[1] for row in table.rows] == [
        "attention", "evidence of the tile alone", "effect of the tile",
    ]  # fmt: skip
    assert table.rows[0][3] == "0.750 (0.250 by chance)"
    assert table.caption.endswith(
        "Dice of attention: Times uniform. "
        "Of evidence of the tile alone and effect of the tile: Evidence."
    )


def test_heads_are_compared_and_many_pairs_stay_in_their_table():
    def comparison(heads: int) -> Comparison:
        rows = [
            {
                "recipe": f"r{n}", "encoder": "tiny", "seeds": 1, "folds": 1, "patients": {},
                "slides": {"auroc": METRIC}, "over_runs": {},
            }
            for n in range(heads)
        ]  # fmt: skip
        numbers = {"difference": 0.1, "p": 0.2, "p_holm": 0.4, "smallest_difference": 0.3}
        pairs = [
            {"one": f"r{one}", "other": f"r{other}", "ci95": [-0.1, 0.3], **numbers}
            for one in range(heads)
            for other in range(one + 1, heads)
        ]
        tests = {"metric": "auroc", "method": "DeLong's paired test", "why_not": "", "pairs": pairs}
        content = {"dataset": "d", "task": "classification", "positive": "tumour", "n_slides": 9}
        content |= {"n_patients": 8, "metrics": ["auroc"], "rows": rows, "tests": tests}
        return Comparison.model_validate(content | {"notes": [], "tables": {}})

    heads, pairs = compared.blocks(comparison(3))
    assert "AUROC of each head with its 95 % interval on 9 test slides of 8" in heads.caption
    assert pairs.svg.count("p = 0.400") == 3
    assert "corrected for 3 pairs by Holm" in pairs.caption
    untested = comparison(3)
    untested.tests.pairs[0] = untested.tests.pairs[0].model_copy(update={"p_holm": None})
    assert "corrected for 2 pairs by Holm" in compared.blocks(untested)[1].caption
    assert "36 pairs of heads are too many" in compared.blocks(comparison(9))[-1].text
    assert compared.blocks(comparison(1)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "classes", "heads", "slides"), [
    ("classification", CLASSES, 9, 800),
    ("classification", tuple("abcdefghi"), 4, 400),
    ("regression", (), 5, 4000),
    ("survival_cox", (), 9, 1500),
])  # fmt: skip
def test_large_studies_have_bounded_figures(kind, classes, heads, slides):
    for section in result_sections(drawn_study(kind, classes, heads=heads, slides=slides)):
        for figure in of_kind(section, "figure"):
            assert len(figure.svg) < 100_000
            if heads == 9:
                assert "The first 8 of 9 heads have a panel" in figure.caption
