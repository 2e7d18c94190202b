"""A comparison as people read it: cells of text, without any markup."""

from collections.abc import Mapping
from typing import Any

from mil.statistics.text import interval, mean_sd, probability, title, value

Table = dict[str, Any]  # `header`: names of the columns, `rows`: a list of cells each


def tables_of(found: Mapping[str, Any]) -> dict[str, Table]:
    """`heads`, and `pairs` where any were tested."""
    return {"heads": heads_table(found)} | (
        {"pairs": pairs_table(found)} if found["tests"]["pairs"] else {}
    )


def heads_table(found: Mapping[str, Any]) -> Table:
    """Header and rows of the heads as people read them; with patients and runs only where they say more."""
    main = found["metrics"][0]
    names = found["metrics"]
    patients = found["n_patients"] < found["n_slides"] and any(
        row["patients"].get(main) for row in found["rows"]
    )
    runs = any(row["seeds"] * row["folds"] > 1 for row in found["rows"])
    header = ["encoder", "recipe", title(main)]
    header += (
        [f"{title(main)}, patients"] * patients
        + [f"{title(main)} of runs"] * runs
        + [*map(title, names[1:])]
    )
    rows = []
    for row in found["rows"]:
        cells = [row["encoder"], row["recipe"], _cell(row["slides"][main])]
        cells += [_cell(row["patients"][main])] * patients + [
            mean_sd(row["over_runs"][main])
        ] * runs
        rows.append(cells + [_cell(row["slides"][name]) for name in names[1:]])
    return {"header": header, "rows": rows}


def pairs_table(found: Mapping[str, Any]) -> Table:
    """Header and rows of the paired tests."""
    header = ["one", "other", f"difference of {title(found['tests']['metric'])}", "p", "p, Holm"]
    rows = [
        [
            pair["one"],
            pair["other"],
            _difference(pair),
            probability(pair["p"]),
            probability(pair["p_holm"]),
        ]
        for pair in found["tests"]["pairs"]
    ]
    return {"header": header, "rows": rows}


def _difference(pair: Mapping[str, Any]) -> str:
    between = " ({:+.2f} to {:+.2f})".format(*pair["ci95"]) if pair["ci95"] else ""
    return f"{pair['difference']:+.3f}{between}".replace("-", "−")


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric and "if_calibrated" in metric:  # which has no interval
        return value(metric) + " [{:.2f} to {:.2f}]".format(*metric["if_calibrated"])
    return value(metric) + (f" ({between})" if (between := interval(metric)) else "")
