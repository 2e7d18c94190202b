"""Whether the best head is better than the baseline: by interval and corrected p, in a sentence."""

import pytest

from mil.compare.baseline import MEANINGS, against_baseline, statements
from mil.compare.stage import run as compare
from mil.config.baseline import HEADS
from mil.config.recipes import load_recipe
from mil.errors import DatasetError
from mil.io.results import ComparedHead, Pair, PairedTests, read_comparison
from mil.statistics.metric import Metric
from tests.compare.heads import evaluated
from tests.messages import one_line

PROBE = "linear_probe"


def held(tmp_path, gains, **more):
    folders = [evaluated(tmp_path, name, gain, **more) for name, gain in gains.items()]
    return compare(folders, tmp_path / "out", baseline=PROBE)


# The baseline first: its pairs are the other way round.
GAINS = {PROBE: 0.2, "abmil": 1.5, "acmil": 2.0}


def test_the_best_head_is_better(tmp_path):
    compared = held(tmp_path, GAINS)
    (against,) = compared.against
    assert (against.recipe, against.shown) == ("acmil", "better")
    tested = compared.tests.pairs[1]
    assert (tested.one, tested.other) == ("linear_probe · tiny", "acmil · tiny")
    assert against.difference == -tested.difference > 0
    assert against.ci95 == (-tested.ci95[1], -tested.ci95[0])
    assert against.p_holm == tested.p_holm < 0.05
    areas = [row.slides["auroc"].value for row in compared.rows]
    assert compared.statements == [
        f"On these slides the best head, acmil (AUROC {areas[2]:.3f}), is better than the baseline "
        f"linear_probe, a linear model of the mean of a slide's tiles ({areas[0]:.3f}): difference "
        f"of AUROC {against.difference:+.3f} (95 % interval {against.ci95[0]:+.2f} to "
        f"{against.ci95[1]:+.2f}), p < 0.001, corrected for 3 pairs."
    ]
    assert read_comparison(tmp_path / "out" / "comparison.json") == compared
    text = (tmp_path / "out" / "comparison.md").read_text().replace("\\", "")
    assert text.split("\n\n")[1] == compared.statements[0]
    assert (
        r"is better than the baseline linear\_probe"
        in (tmp_path / "out" / "comparison.tex").read_text()
    )


def pair(one, other, difference, ci95, p_holm):
    return Pair(
        one=f"{one} · e",
        other=f"{other} · e",
        difference=difference,
        ci95=ci95,
        p=p_holm,
        p_holm=p_holm,
        smallest_difference=0.1,
    )


def said(values, pairs, *, smaller_is_better=False):
    """The verdict and the sentence about metrics by recipe, and the paired tests of them."""
    rows = [
        ComparedHead.model_construct(recipe=name, encoder="e", slides={"m": Metric(value=value)})
        for name, value in values.items()
    ]
    tests = PairedTests(metric="m", method="a test", why_not="", pairs=pairs)
    against = against_baseline(rows, tests, PROBE, smaller_is_better=smaller_is_better)
    (text,) = statements(rows, tests, PROBE, against)
    return against[0].shown, text


def test_the_baseline_may_be_better():
    pairs = [pair(PROBE, "abmil", 0.3, (0.1, 0.5), 0.02)]
    shown, text = said({PROBE: 0.9, "abmil": 0.6}, pairs)
    assert shown == "worse"
    assert text == (
        "On these slides the best head, abmil (m 0.600), is worse than the baseline "
        "linear_probe, a linear model of the mean of a slide's tiles (0.900): difference of m "
        "−0.300 (95 % interval −0.50 to −0.10), p = 0.020."
    )


@pytest.mark.parametrize(
    ("ci95", "p_holm", "smaller_is_better", "shown"),
    [
        ((0.1, 0.5), 0.01, False, "better"),
        # An error: the head with the larger one is worse.
        ((0.1, 0.5), 0.01, True, "worse"),
        ((-0.5, -0.1), 0.01, True, "better"),
        ((0.1, 0.5), 0.06, False, "neither"),
        ((-0.1, 0.5), 0.04, False, "neither"),
        (None, None, False, "neither"),
    ],
)
def test_both_interval_and_corrected_p_have_to_show_it(ci95, p_holm, smaller_is_better, shown):
    values = {"abmil": 0.8, PROBE: 0.5}
    pairs = [pair("abmil", PROBE, 0.3, ci95, p_holm)]
    verdict, text = said(values, pairs, smaller_is_better=smaller_is_better)
    assert verdict == shown
    assert ("is not shown" in text) == (shown == "neither")
    assert ("nothing varies" in text) == (ci95 is None)


def test_the_best_head_of_an_error_has_the_least():
    values = {"abmil": 0.8, "acmil": 0.6, PROBE: 0.7}
    pairs = [pair(name, PROBE, 0.1, (-0.1, 0.3), 0.5) for name in ("abmil", "acmil")]
    assert "the best head, acmil (m 0.600)" in said(values, pairs, smaller_is_better=True)[1]
    assert "the best head, abmil (m 0.800)" in said(values, pairs)[1]
    # Of equal ones the first.
    assert "the best head, abmil (m" in said({**values, "acmil": 0.8}, pairs)[1]


@pytest.mark.slow
def test_each_encoder_has_a_sentence(tmp_path):
    folders = [
        evaluated(tmp_path, name, gain, encoder=encoder)
        for encoder, shift in (("one", 0), ("two", 1))
        for name, gain in ((PROBE, 0.2), ("abmil", 0.3 + shift))
    ]
    compared = compare(folders, tmp_path / "out", baseline=PROBE)
    assert [(each.encoder, each.recipe) for each in compared.against] == [
        ("one", "abmil"),
        ("two", "abmil"),
    ]
    assert compared.statements[0].startswith("On one: that the best head, abmil (")
    assert compared.statements[1].startswith("On two the best head, abmil (")


@pytest.mark.slow
def test_too_few_patients_and_a_baseline_alone(tmp_path):
    compared = held(tmp_path, {PROBE: 1.0, "abmil": 2.0}, slides=2)
    assert compared.statements == [
        "Whether a head is better than the baseline linear_probe, a linear model of the mean of a "
        f"slide's tiles, is not tested: {compared.tests.why_not}."
    ]
    assert held(tmp_path, {PROBE: 1.0}).statements == []


def test_without_a_baseline_the_file_is_as_ever(tmp_path):
    folder = evaluated(tmp_path, "abmil", 1.0)
    compared = compare([folder], tmp_path / "out")
    assert not {"baseline", "against", "statements"} & set(compared.to_json())
    with one_line(DatasetError, match="--baseline linear_probe: no head is of that recipe; name"):
        compare([folder], tmp_path / "out", baseline=PROBE)


@pytest.mark.parametrize("recipe", sorted(MEANINGS))
def test_recipes_that_are_explained_can_be_baselines(recipe):
    assert load_recipe(recipe).name in HEADS
