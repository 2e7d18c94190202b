"""Branches in the report: those left out, and what each adds to the logit of a slide."""

import numpy as np
import pytest

from mil.io.scores import BagScores, HeadScores, ScoredBag, ScoringHead, score_path, write_scores
from mil.report.figures import branches
from mil.report.parts import bars, parts_of
from mil.tasks import Classification, Ordinal, Regression
from mil.trained.parts import split_logit
from tests.evaluate.test_metrics import trained
from tests.report.test_figures import notes, of_kind
from tests.studied import CLASSES, head, row, study

TASK = Classification(classes=["tumour", "normal"], positive="tumour")


def branch(number, change, ends, *, found=None):
    hits = [] if found is None else [{"k": 1, "rate": {"value": 0.5}, "by_chance": 0.1}]
    return {
        "branch": number, "change": {"value": change, "ci95": ends}, "kl": 0.25,
        "attention_annotated": found, "top_hits": hits, "spread": 3.25,
    }  # fmt: skip


def measured(*of_head, why_not=""):
    one = {
        "seed": 1, "fold": 0, "n_slides": 8, "n_annotated": 4, "value": 0.9,
        "why_not": why_not, "annotated_by_chance": 0.1, "spread_by_chance": 9.0,
        "branches": list(of_head),
    }  # fmt: skip
    return {"metric": "auroc", "method": "DeLong's paired test", "heads": [one]}


def test_branches_have_a_figure_a_summary_and_a_row_each():
    rows = [row("a", "tumour", {"p_normal": 0.1, "p_tumour": 0.9})]
    of = measured(branch(1, -0.4, [-0.6, -0.2], found=0.75), branch(2, 0.0, None, found=0.1))
    one = head("classification", rows, CLASSES, branches=of)
    section = branches.build(study("classification", [one], CLASSES))
    (figure,) = of_kind(section, "figure")
    assert "share of its attention on annotated tiles" in figure.caption
    summary, table = of_kind(section, "table")
    assert summary.rows == [
        ["abmil · tiny", "seed 1, fold 0", "2", "1", "0", "0.900", "−0.400", "0.100 to 0.750",
         "0.100"]
    ]  # fmt: skip
    assert table.rows == [
        ["abmil · tiny", "seed 1, fold 0", "1", "−0.400 (−0.60 to −0.20)", "0.25", "0.750",
         "0.500", "3.2"],
        ["abmil · tiny", "seed 1, fold 0", "2", "0.000", "0.25", "0.100", "0.500", "3.2"],
    ]  # fmt: skip
    assert "uniform attention: 9.0" in table.caption


@pytest.mark.slow
def test_without_annotations_branches_stand_against_the_divergence():
    rows = [row("a", "tumour", {"p_normal": 0.1, "p_tumour": 0.9})]
    of = measured(branch(1, None, None), why_not="there is one patient")
    one = head("classification", rows, CLASSES, branches=of)
    section = branches.build(study("classification", [one], CLASSES))
    assert "how far predictions move" in of_kind(section, "figure")[0].caption
    assert notes(section) == "No interval of the change: there is one patient."
    assert of_kind(section, "table")[0].rows[0][3:] == ["–", "–", "0.900", "–", "–", "0.100"]
    without = head("classification", rows, CLASSES)
    assert branches.build(study("classification", [without], CLASSES)) is None


def test_a_logit_is_split_over_branches_and_the_bias():
    logits, parts = np.array([2.0, 0.5]), np.array([[1.0, 0.5], [0.25, -0.25]])
    split = split_logit(TASK, logits, parts)
    assert (split.name, split.value) == ("log-odds of tumour", 1.5)
    assert split.parts.tolist() == [0.5, 0.5]
    assert split.bias + split.parts.sum() == split.value
    three = Classification(classes=["a", "b", "c"], positive="c")
    split = split_logit(three, np.array([1.0, 2, 3]), np.array([[0.0, 0, 2]]))
    assert (split.name, split.value, split.bias) == ("logit of p(c)", 3, 1)
    number = Regression(mean=0.0, deviation=1.0)
    assert split_logit(number, np.array([3.0]), np.array([[2.0], [0.5]])).bias == 0.5
    grades = Ordinal(classes=["g1", "g2", "g3"], positive="g3")
    assert split_logit(grades, np.array([1.0, 2]), np.array([[0.5, 0.5]])).value == 2


def test_bars_are_numbers_alone_and_as_long_as_the_parts():
    svg = bars(np.array([1.0, -0.5, 0.0]))
    assert svg.count("<rect") == 3
    assert "branch 2: −0.5" in svg
    assert 'height="34.0" fill="#b2182b"' in svg
    assert 'y="35.0" width="23.0" height="17.0" fill="#2166ac"' in svg


@pytest.fixture
def scored(tmp_path):
    """Score files of two heads, of which one trained on the slide."""
    parts = np.arange(12.0).reshape(6, 2) * [[1], [-1], [1], [1], [1], [1]]
    scores = HeadScores(
        logits=parts.sum(0) + np.array([0.5, 0.0]),
        predictions=np.array([0.5, 0.5]),
        attention=np.array([1.0]),
        branch_parts=parts,
    )
    heads = (ScoringHead("one", "1"), ScoringHead("two", "2"))
    scores_file = BagScores(
        name="a", bags=(ScoredBag("a", "d"),), heads=heads, scores=(scores, scores)
    )
    write_scores(score_path(tmp_path, "a"), scores_file)
    return tmp_path


def test_the_page_of_a_slide_has_parts_of_heads_that_did_not_train_on_it(scored):
    rows = [
        row("a", "tumour", {"p_tumour": 0.9, "p_normal": 0.1}),
        row("a", "tumour", {"p_tumour": 0.9, "p_normal": 0.1}, split="train", seed=2),
    ]
    records = [trained(), trained().model_copy(update={"seed": 2})]
    one = head("classification", rows, CLASSES)._replace(
        records=records, rows_of={"a": rows}, scores=scored
    )
    (found,) = parts_of(one, "a", TASK)
    assert (found.head, found.name) == ("seed 1, fold 0", "log-odds of tumour")
    # Each branch adds -1 to the log-odds, the second 1.
    assert (found.value, found.bias) == ("−3.5", "+0.5")
    assert found.strongest == "branch 1 −1, branch 2 +1, branch 3 −1, other 3 −3"
    assert parts_of(one, "b", TASK) == []
    assert parts_of(one._replace(scores=None), "a", TASK) == []
