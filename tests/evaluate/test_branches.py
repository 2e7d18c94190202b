"""Branches left out: one that decides and finds the annotated tile, and one that does neither."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mil.evaluate.branch_slides import annotated_branches, spread_of
from mil.evaluate.branches import AblatedHeads
from mil.evaluate.mapped import ScoredHead
from mil.evaluate.stage import run
from mil.io.bags.patients import FoldBag
from mil.io.results import BRANCHES, read_metrics
from mil.io.scores import BranchAblation, read_scores, write_scores
from mil.io.tables import read_csv
from mil.statistics.divergence import kl_of_each, kl_of_one
from mil.statistics.scaling import Calibration
from mil.tasks import Multilabel, Regression
from tests.evaluate.mapped_study import PLANTED, TILES, evaluated, head_scores, logits, write_study
from tests.evaluate.test_metrics import trained

CLEAR = 4.0  # log-odds of a slide's own class


def scores_of(label: str, *, decides: int = 0):
    """Branch 1 (or 2) decides: without it all slides are alike; and branch 1 finds the tile."""
    whole = logits(np.array(CLEAR if label == "tumour" else -CLEAR))
    without = np.stack([whole, whole])
    without[decides] = 0
    attention = np.full((TILES, 2), 1 / TILES)
    attention[:, 0] = 0
    attention[PLANTED, 0] = 0.75
    attention[PLANTED + 2, 0] = 0.25
    return replace(
        head_scores(label == "tumour", evidence=False),
        logits=whole,
        branch_parts=np.array([[3.0, 0.5], [1.0, -0.5]]),
        ablation=BranchAblation(without, attention),
    )


def bag(name: str, label: str) -> FoldBag:
    return FoldBag(fold=0, name=name, slides=(name,), patient=name, label=label, split="test")


def measured(tmp_path, record, labels, **kept):
    ablated = AblatedHeads(tmp_path)
    share = (np.arange(TILES) == PLANTED).astype(float)
    for number, label in enumerate(labels):
        scored = ScoredHead(record, scores_of(label, **kept), bag(f"s{number}", label))
        ablated.add([scored], share if label == "tumour" else None)
    return ablated


@pytest.fixture
def _no_positions(monkeypatch):
    monkeypatch.setattr("mil.evaluate.branches.tile_positions", lambda *places: None)


LABELS = ["tumour", "normal"] * 4


@pytest.mark.usefixtures("_no_positions")
def test_the_branch_that_decides_and_the_one_that_does_not(tmp_path):
    ablated = measured(tmp_path, trained(), LABELS)
    found = ablated.metrics()
    (head,) = found.heads
    first, second = head.branches
    assert (found.metric, head.value, head.n_slides, head.n_annotated) == ("auroc", 1.0, 8, 4)
    assert (first.change.value, second.change.value) == (-0.5, 0.0)
    # Of a coin's probability p(1 | 4 log-odds) and its other side.
    p = 1 / (1 + math.exp(-CLEAR))
    assert first.kl == pytest.approx(p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert second.kl == 0
    assert first.attention_annotated == pytest.approx(0.75)
    assert second.attention_annotated == pytest.approx(head.annotated_by_chance) == 1 / TILES
    assert [hit.rate.value for hit in first.top_hits] == [1, 1, 1]
    # All tiles tie: as good as tiles drawn.
    assert [hit.k for hit in second.top_hits] == [1, 5, 10]
    for hit in second.top_hits:
        assert hit.rate.value == pytest.approx(hit.by_chance) == hit.k / TILES
    assert first.spread is None
    row = ablated.rows()[0]
    assert (row["slide"], row["branch"], row["without_p_tumour"]) == ("s0", 1, "0.5")
    assert (row["part_of_logit_1"], row["part_of_logit_2"]) == ("3", "0.5")
    assert (row["attention_annotated"], row["spread"]) == ("0.75", "")


@pytest.mark.usefixtures("_no_positions")
def test_a_change_has_the_interval_of_a_paired_test(tmp_path):
    """A branch that turns one slide of each class."""
    ablated = measured(tmp_path, trained(), LABELS)
    slides = ablated.heads[1, 0].slides
    for slide in slides[:2]:
        slide.without[1] = slide.without[1][::-1].copy()
    first, second = ablated.metrics().heads[0].branches
    # 9 of 16 pairs stay in order, 1 is turned and 6 tie.
    assert second.change.value == pytest.approx((9 + 6 / 2) / 16 - 1)
    low, high = second.change.ci95
    assert low < second.change.value < high
    assert "DeLong" in ablated.metrics().method
    assert first.change.ci95 is None


@pytest.mark.usefixtures("_no_positions")
def test_one_class_alone_has_no_change_and_says_why(tmp_path):
    (head,) = measured(tmp_path, trained(), ["tumour"] * 3).metrics().heads
    assert head.branches[0].change.value is None
    assert head.why_not
    assert head.branches[0].kl > 0


@pytest.mark.usefixtures("_no_positions")
def test_predictions_without_a_branch_are_calibrated_like_those_with_it(tmp_path):
    record = trained(calibration=Calibration(temperature=2.0, intercepts=[1.0, 0.0]))
    ablated = measured(tmp_path, record, ["tumour"])
    row = ablated.rows()[1]
    expected = 1 / (1 + math.exp(-(CLEAR / 2 + 1)))
    assert float(row["without_p_tumour"]) == pytest.approx(expected, abs=1e-6)


def test_attention_spreads_about_its_centre():
    positions = np.array([[0.0, 0], [4, 0], [0, 3], [0, 0]])
    attention = np.array([[1, 0.5], [0, 0.5], [0, 0], [0, 0]])
    assert spread_of(attention, positions).tolist() == [0, 2]


def test_where_all_or_none_is_annotated_nothing_is_to_be_found():
    attention = np.full((3, 2), 1 / 3)
    assert annotated_branches(attention, np.zeros(3)) is None
    assert annotated_branches(attention, np.ones(3)) is None


def test_divergence_of_classes_of_labels_and_of_numbers():
    before, after = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.25, 0.75], [1.0, 0.0]])
    kl = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    np.testing.assert_allclose(kl_of_one(before, after), [kl, 0], atol=1e-15)
    # One class that changes counts once: its complement belongs to it.
    both = kl_of_each(np.array([[0.5, 0.3]]), np.array([[0.25, 0.3]]))
    np.testing.assert_allclose(both, [kl], atol=1e-15)
    labels = Multilabel(classes=["a", "b"], positive="a")
    np.testing.assert_allclose(
        labels.divergence(np.array([[0.5, 0.3]]), np.array([[0.25, 0.3]])), [kl]
    )
    assert Regression(mean=0.0, deviation=1.0).divergence(before, after) is None
    # Nothing is infinitely far.
    assert np.isfinite(kl_of_one(np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]))).all()


@pytest.mark.slow
def test_branches_are_measured_where_they_are_asked_for(tmp_path):
    study = write_study(tmp_path, evidence=False)
    for path in (study / "scores").glob("*.h5"):
        read = read_scores(path)
        label = "normal" if path.stem.startswith("n") else "tumour"
        write_scores(path, replace(read, scores=(scores_of(label),)))
    folders = (study / "scores", study / "bags", study / "folds.csv", study / "out")
    metrics = run(str(study / "toy.yaml"), *folders, slides_dir=study, ablate="branches")
    (head,) = metrics.branches.heads
    assert [branch.change.value for branch in head.branches] == [-0.5, 0.0]
    # Two tiles, two apart: 0.75 of the attention is half a tile from the centre.
    assert head.branches[0].spread == pytest.approx(0.75 * 0.5 + 0.25 * 1.5)
    assert head.branches[1].spread == pytest.approx(head.spread_by_chance) == 3
    assert read_metrics(study / "out" / "metrics.json") == metrics
    rows = read_csv(study / "out" / BRANCHES)
    assert len(rows) == 8 * 2
    # Not asked for: no section, and no table of an earlier run.
    assert evaluated(study).branches is None
    assert not (study / "out" / BRANCHES).exists()


def test_heads_of_one_branch_have_no_table(tmp_path):
    ablated = AblatedHeads(tmp_path)
    scored = ScoredHead(trained(), head_scores(tumour=True), bag("a", "tumour"))
    ablated.add([scored], None)
    assert (ablated.metrics(), ablated.rows()) == (None, [])
