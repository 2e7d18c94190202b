"""Whether the best head is better than the baseline, by the paired tests of the comparison."""

from collections.abc import Sequence
from typing import Literal

from mil.compare.read import EvaluatedHead
from mil.errors import DatasetError
from mil.io.results import AgainstBaseline, ComparedHead, Pair, PairedTests
from mil.statistics.text import probability, title, value

ALPHA = 0.05
# What recipes of baselines are, for those who did not choose one.
MEANINGS = {
    "linear_probe": "a linear model of the mean of a slide's tiles",
    "linear_probe_std": "a linear model of mean and standard deviation of a slide's tiles",
    "knn": "the vote of the nearest training slides by the mean of their tiles",
}


def check_baseline(heads: Sequence[EvaluatedHead], baseline: str) -> None:
    """Refuse a baseline that is not compared.

    Raises:
        DatasetError: No folder is of that recipe.
    """
    recipes = {head.metrics.recipe for head in heads}
    if baseline and baseline not in recipes:
        raise DatasetError(
            f"--baseline {baseline}: no head is of that recipe; name one of "
            f"{', '.join(sorted(recipes))}, or its folder by --evaluated too"
        )


def against_baseline(
    rows: Sequence[ComparedHead], tests: PairedTests, baseline: str, *, smaller_is_better: bool
) -> list[AgainstBaseline]:
    """The best head on each encoder beside the baseline; none of encoders without either.

    The best is that of the best main metric on these test slides. The correction for all
    pairs is one for this choice too.

    Args:
        rows: Rows of the comparison, one of the baseline for each encoder.
        tests: Paired tests of the heads.
        baseline: Recipe of the baseline.
        smaller_is_better: Whether the better of two heads has the smaller main metric.
    """
    sign = -1 if smaller_is_better else 1
    pairs = {frozenset((pair.one, pair.other)): pair for pair in tests.pairs}
    results = []
    for encoder in dict.fromkeys(row.encoder for row in rows):
        by_name = {row.name: row for row in rows if row.encoder == encoder}
        base = next((name for name, row in by_name.items() if row.recipe == baseline), None)
        others = {
            name: sign * measured
            for name, row in by_name.items()
            if name != base and (measured := _main(row, tests.metric)) is not None
        }
        if base is None or not others:
            continue
        # Of equal ones the first.
        best = max(others, key=lambda name: others[name])
        pair = pairs.get(frozenset((best, base)))
        if pair is not None:
            results.append(_against(by_name[best], _from(pair, best), sign))
    return results


def _main(row: ComparedHead, metric: str) -> float | None:
    measured = row.slides.get(metric)
    return None if measured is None else measured.value


def _from(pair: Pair, head: str) -> Pair:
    """The pair with a head as its first."""
    if pair.one == head:
        return pair
    ends = None if pair.ci95 is None else (-pair.ci95[1], -pair.ci95[0])
    swapped = {"one": pair.other, "other": pair.one, "difference": -pair.difference, "ci95": ends}
    return pair.model_copy(update=swapped)


def _against(row: ComparedHead, pair: Pair, sign: int) -> AgainstBaseline:
    return AgainstBaseline(
        encoder=row.encoder,
        recipe=row.recipe,
        difference=pair.difference,
        ci95=pair.ci95,
        p_holm=pair.p_holm,
        shown=_shown(pair, sign),
    )


def _shown(pair: Pair, sign: int) -> Literal["better", "worse", "neither"]:
    if pair.ci95 is None or pair.p_holm is None or pair.p_holm >= ALPHA:
        return "neither"
    low, high = sorted(sign * end for end in pair.ci95)
    if low > 0:
        return "better"
    return "worse" if high < 0 else "neither"


def statements(
    rows: Sequence[ComparedHead],
    tests: PairedTests,
    baseline: str,
    against: Sequence[AgainstBaseline],
) -> list[str]:
    """A sentence for each encoder, or one that says why there is none.

    Args:
        rows: Rows of the comparison.
        tests: Paired tests.
        baseline: Recipe of the baseline; empty: there is none.
        against: See `against_baseline`.
    """
    # Without a baseline, or without another head, nothing is asked.
    if not baseline or len(rows) < 2:
        return []
    if not against:
        why_not = tests.why_not or "no head and the baseline share an encoder"
        named = _named(baseline, before_verb=True)
        return [f"Whether a head is better than {named} is not tested: {why_not}."]
    by_name = {(row.encoder, row.recipe): row for row in rows}
    return [
        _statement(
            by_name[each.encoder, each.recipe],
            by_name[each.encoder, baseline],
            each,
            tests,
            several=len(against) > 1,
        )
        for each in against
    ]


def _named(baseline: str, *, before_verb: bool = False) -> str:
    meaning = MEANINGS.get(baseline, "")
    comma = "," if before_verb else ""
    return f"the baseline {baseline}" + (f", {meaning}{comma}" if meaning else "")


def _statement(
    head: ComparedHead,
    base: ComparedHead,
    against: AgainstBaseline,
    tests: PairedTests,
    *,
    several: bool,
) -> str:
    metric = title(tests.metric)
    best = f"{head.recipe} ({metric} {value(head.slides.get(tests.metric))})"
    other = f"{_named(base.recipe)} ({value(base.slides.get(tests.metric))})"
    where = f"On {against.encoder} " if several else ""
    begin = where or "On these slides "
    if against.shown == "better":
        text = f"{begin}the best head, {best}, is better than {other}"
    elif against.shown == "worse":
        text = f"{begin}the best head, {best}, is worse than {other}"
    else:
        text = f"That the best head, {best}, is better than {other}, is not shown"
        text = f"On {against.encoder}: {text[0].lower()}{text[1:]}" if several else text
    return f"{text}: {_numbers(against, metric, len(tests.pairs))}."


def _numbers(against: AgainstBaseline, metric: str, pairs: int) -> str:
    difference = f"difference of {metric} {against.difference:+.3f}"
    if against.ci95 is None or against.p_holm is None:
        return f"{difference}, and nothing varies between the two on these slides".replace("-", "−")
    ends = "{:+.2f} to {:+.2f}".format(*against.ci95)
    p = probability(against.p_holm)
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    corrected = f", corrected for {pairs} pairs" if pairs > 1 else ""
    return f"{difference} (95 % interval {ends})".replace("-", "−") + f", {p}{corrected}"
