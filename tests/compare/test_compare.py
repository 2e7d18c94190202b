"""Heads compared: the same numbers as alone, paired tests by hand, and well-formed tables."""

import json
import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from mil.cli import app
from mil.compare.stage import run as compare
from mil.compare.write import latex
from mil.errors import DatasetError, FormatError
from mil.io.tables import read_csv, write_csv
from mil.statistics.delong import delong, paired
from mil.statistics.multiple import holm
from tests.compare.heads import THREE, evaluated
from tests.messages import one_line


def run(*args, **settings):
    """Content of comparison.json."""
    return compare(*args, **settings).to_json()


@pytest.fixture
def three(tmp_path):
    return [
        evaluated(tmp_path, name, gain)
        for name, gain in (("abmil", 1.2), ("acmil", 1.7), ("aem_50%", 0.3))
    ]


def slides_of(folder):
    rows = [row for row in read_csv(folder / "predictions.csv") if row["split"] == "test"]
    return sorted({row["slide"] for row in rows}), rows


def test_rows_are_what_evaluate_says(three, tmp_path):
    found = run(three, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == found
    for folder, row in zip(three, found["rows"], strict=True):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert (row["recipe"], row["encoder"], row["seeds"], row["folds"]) == (
            metrics["recipe"],
            "tiny",
            1,
            1,
        )
        assert row["slides"] == {name: metrics["test"][name] for name in found["metrics"]}
        assert row["patients"]["auroc"] == metrics["test_patients"]["auroc"]
    assert (found["n_slides"], found["n_patients"]) == (60, 60)


def test_pairs_are_delongs_and_corrected(three, tmp_path):
    found = run(three, tmp_path / "out")
    tests = found["tests"]
    assert (
        "corrected for 3 pairs by Holm. With power 0.8 and before correction" in found["notes"][-1]
    )
    scores = []
    for folder in three:
        names, rows = slides_of(folder)
        by_name = {row["slide"]: row for row in rows}
        labels = np.array([int(by_name[name]["label"] == "tumour") for name in names])
        scores.append([float(by_name[name]["p_tumour"]) for name in names])
    areas = delong(labels, np.array(scores))
    pairs = [(0, 1), (0, 2), (1, 2)]
    want = [paired(areas, *pair) for pair in pairs]
    assert tests["method"] == "DeLong's paired test"
    assert [pair["p"] for pair in tests["pairs"]] == pytest.approx([one.p for one in want])
    assert [pair["p_holm"] for pair in tests["pairs"]] == pytest.approx(
        holm(np.array([one.p for one in want]))
    )
    differences = [pair["difference"] for pair in tests["pairs"]]
    alone = [roc_auc_score(labels, row) for row in scores]
    assert differences == pytest.approx([alone[i] - alone[j] for i, j in pairs])
    assert (tests["pairs"][0]["one"], tests["pairs"][0]["other"]) == (
        "abmil · tiny",
        "acmil · tiny",
    )


def test_seeds_and_folds_are_averaged_and_patients_kept_together(tmp_path):
    heads = [
        evaluated(tmp_path, name, gain, per_patient=3, seeds=2, folds=4, encoder=encoder)
        for name, gain, encoder in (("abmil", 1.2, "one"), ("abmil", 0.5, "two"))
    ]
    found = run(heads, tmp_path / "out")
    assert found["tests"]["method"].endswith("(Obuchowski)")
    assert found["n_patients"] == 20
    assert [(row["seeds"], row["folds"], row["encoder"]) for row in found["rows"]] == [
        (2, 4, "one"),
        (2, 4, "two"),
    ]
    names, rows = slides_of(heads[0])
    assert len(rows) == 2 * 60  # each slide once a seed
    mean = {
        name: np.mean([float(row["p_tumour"]) for row in rows if row["slide"] == name])
        for name in names
    }
    label = {row["slide"]: row["label"] == "tumour" for row in rows}
    want = roc_auc_score([label[slide] for slide in mean], list(mean.values()))
    assert found["rows"][0]["slides"]["auroc"]["value"] == pytest.approx(want)
    # only the answers of heads that held a slide out
    areas = [row["slides"]["auroc"]["value"] for row in found["rows"]]
    assert found["tests"]["pairs"][0]["difference"] == pytest.approx(areas[0] - areas[1])
    assert found["tables"]["heads"]["header"][3:5] == [
        "AUROC, patients",
        "AUROC of single runs",
    ]
    notes = " ".join(found["notes"])
    for said in (
        "60 test slides of 20 patients",
        "by the heads of the fold that did not see it, and the predictions of 4 folds are pooled",
        "Figures and paired tests are of the ensemble of 2 heads per slide: a slide's prediction "
        "is the mean over seeds,",
    ):
        assert said in notes


def test_single_runs_stand_beside_the_ensemble(tmp_path):
    heads = [evaluated(tmp_path, "abmil", 1.0, seeds=3), evaluated(tmp_path, "acmil", 1.0)]
    found = run(heads, tmp_path / "out")
    several, one = found["rows"]
    assert (several["predicted_by"], one["predicted_by"]) == ("ensemble of 3 heads", "one head")
    runs = json.loads((heads[0] / "metrics.json").read_text())["runs"]
    values = [each["auroc"] for each in runs]
    assert several["range_over_runs"]["auroc"] == [min(values), max(values)]
    assert found["tables"]["heads"]["rows"][0][3] == (
        f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} "
        f"({min(values):.2f} to {max(values):.2f})"
    )
    row = read_csv(tmp_path / "out" / "comparison.csv")[0]
    assert (float(row["auroc_min"]), float(row["auroc_max"])) == (min(values), max(values))
    assert row["predicted_by"] == "ensemble of 3 heads"
    assert (
        "ensembles (abmil · tiny: ensemble of 3 heads; acmil · tiny: one head): a slide's"
        in " ".join(found["notes"])
    )


def test_attention_has_a_table_of_its_own_beside_chance(three, tmp_path):
    assert "attention" not in run(three, tmp_path / "out")["tables"]
    hottest = {
        "rate": {"value": 0.0, "ci95": [0.0, 0.354]},
        "by_chance": 0.08,
        "per_slide": {f"s{n}": {"hit": 0.0, "by_chance": 0.08} for n in range(7)},
    }
    tiles = {
        "tile_auroc_mean": 0.544,
        "tile_auroc_ci95": [0.41, 0.67],
        "tile_auroc_min": 0.3,
        "n_slides": 7,
        "per_slide": {},
        "hottest_tile": hottest,
        "finding": "The head tells slides apart, but its attention does not.",
    }
    path = three[1] / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"localisation": tiles}))
    found = run(three, tmp_path / "out")
    assert list(found["tables"]) == ["heads", "attention", "pairs"]
    assert found["tables"]["attention"] == {
        "header": ["encoder", "recipe", "tile AUROC (0.5 is chance)", "hottest tile annotated"],
        "rows": [
            ["tiny", "abmil", "–", "–"],
            ["tiny", "acmil", "0.544 (0.41 to 0.67)", "0/7 (0 to 35 %; 8 % by chance)"],
            ["tiny", "aem_50%", "–", "–"],
        ],
    }
    notes = " ".join(found["notes"])
    assert "For tile AUROC 0.5 is chance" in notes
    assert "acmil · tiny: The head tells slides apart, but its attention does not." in notes
    table = read_csv(tmp_path / "out" / "comparison.csv")
    assert [row["tile_auroc"] for row in table] == ["", "0.544", ""]
    assert table[1]["hottest_tile_by_chance"] == "0.08"
    assert r"0/7 (0 to 35 \%; 8 \% by chance)" in (tmp_path / "out" / "comparison.tex").read_text(
        encoding="utf-8"
    )


def test_folds_with_the_same_test_slides_are_averaged_and_not_pooled(tmp_path):
    heads = [
        evaluated(tmp_path, name, 1.0, seeds=2, folds=3, same_test=True)
        for name in ("abmil", "acmil")
    ]
    found = run(heads, tmp_path / "out")
    notes = " ".join(found["notes"])
    assert "mean over seeds and folds" in notes
    assert "pooled" not in notes
    one = [evaluated(tmp_path / "one", "abmil", 1.0, folds=3, same_test=True)]
    assert "mean over folds" in " ".join(run(one, tmp_path / "out")["notes"])


def test_two_heads_without_an_error(tmp_path):
    heads = [evaluated(tmp_path, name, 50.0, slides=8) for name in ("abmil", "acmil")]
    found = run(heads, tmp_path / "out")
    assert found["tables"]["pairs"]["rows"] == [
        ["abmil · tiny", "acmil · tiny", "+0.000", "–", "–"]
    ]
    assert "A pair without p is not tested" in found["notes"][-1]
    assert "differences of" not in " ".join(found["notes"])
    flags = [part for folder in heads for part in ("--evaluated", str(folder))]
    done = CliRunner().invoke(app, ["compare", *flags, "--out", str(tmp_path / "out")])
    assert "0 of 0 pairs differ" in done.output


def test_more_classes(tmp_path):
    heads = [
        evaluated(tmp_path, name, gain, classes=THREE, slides=90)
        for name, gain in (("abmil", 1.5), ("aem", 0.0))
    ]
    found = run(heads, tmp_path / "out")
    assert found["tests"]["method"] == "paired bootstrap of patients"
    assert found["metrics"][:2] == ["auroc_macro", "auprc_macro"]
    assert "sensitivity" not in found["metrics"]
    (pair,) = found["tests"]["pairs"]
    rows = [row["slides"]["auroc_macro"]["value"] for row in found["rows"]]
    assert pair["difference"] == pytest.approx(rows[0] - rows[1])
    assert pair["p"] < 0.001
    assert pair["ci95"][0] > 0


def test_one_head_has_a_row_and_no_tests(tmp_path):
    found = run([evaluated(tmp_path, "abmil", 1.0)], tmp_path / "out")
    assert len(found["rows"]) == 1
    assert found["tests"]["pairs"] == []
    assert list(found["tables"]) == ["heads"]
    assert "Pairs" not in " ".join(found["notes"])


def test_tables(three, tmp_path):
    found = run(three, tmp_path / "out")
    table = read_csv(tmp_path / "out" / "comparison.csv")
    auroc = found["rows"][0]["slides"]["auroc"]
    assert [float(table[0][name]) for name in ("auroc", "auroc_low", "auroc_high")] == [
        auroc["value"],
        *auroc["ci95"],
    ]
    assert table[0]["ece_low"] == ""
    text = (tmp_path / "out" / "comparison.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 + 2 + 3 + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {11, 6}
    assert r"aem\_50%" in text
    assert f"| {auroc['value']:.3f} ({auroc['ci95'][0]:.2f} to {auroc['ci95'][1]:.2f}) |" in text


def test_latex(three, tmp_path):
    run(three, tmp_path / "out")
    text = (tmp_path / "out" / "comparison.tex").read_text()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"aem\_50\%" in body
    assert not re.search(r"(?<!\\)[_#]|(?<!\\)%(?!\n)", body)
    assert body.count(r"\begin{tabular}{llrrrrrrrr}") == body.count(r"\begin{tabular}{llrrr}") == 1
    for line in body.splitlines():
        if line.endswith(r"\\"):
            assert line.count(" & ") in (9, 4)
    for word in ("toprule", "midrule", "bottomrule"):
        assert body.count(rf"\{word}") == 2
    assert body.count("{") - body.count(r"\{") == body.count("}") - body.count(r"\}")
    assert body.isascii()
    lines = body.splitlines()
    first = lines[next(i for i, line in enumerate(lines) if line == r"\midrule") + 1 :]
    assert re.fullmatch(r"tiny & abmil & 0\.\d{3} & .* \\\\", first[0])
    assert re.fullmatch(r" &  & \{\\scriptsize \(0\.\d\d to \d\.\d\d\)\} & .* \\\\", first[1])
    assert latex("a_b 5% {x} ~ \\") == r"a\_b 5\% \{x\} \textasciitilde{} \textbackslash{}"


def test_the_same_twice(three, tmp_path):
    for out in ("one", "two"):
        run(three, tmp_path / out)
    for name in ("json", "csv", "md", "tex"):
        assert (tmp_path / f"one/comparison.{name}").read_bytes() == (
            tmp_path / f"two/comparison.{name}"
        ).read_bytes()


def test_a_comparison_that_was_cut_off_does_not_look_whole(three, tmp_path, monkeypatch):
    run(three, tmp_path / "out")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mil.compare.stage.write_latex", killed)
    with pytest.raises(KeyboardInterrupt):
        run(three[:2], tmp_path / "out")
    assert not (tmp_path / "out" / "comparison.json").exists()


def refused(heads, out, error=DatasetError):
    with one_line(error) as caught:
        run(heads, out)
    assert not out.exists()
    return str(caught.value)


def test_other_slides_are_refused_by_name(three, tmp_path):
    rows = [
        row
        for row in read_csv(three[1] / "predictions.csv")
        if row["slide"] not in ("s003", "s007")
    ]
    write_csv(three[1] / "predictions.csv", rows)
    said = refused(three, tmp_path / "out")
    assert "acmil" in said
    assert "tested on different slides: s003, s007; evaluate both with the same folds" in said


def test_slides_in_common_where_some_may_be_missing(three, tmp_path):
    whole = run(three, tmp_path / "whole")
    gone = ("s003", "s007")
    rows = [row for row in read_csv(three[1] / "predictions.csv") if row["slide"] not in gone]
    write_csv(three[1] / "predictions.csv", rows)
    found = run(three, tmp_path / "out", allow_missing=True)
    assert found["notes"][-1].endswith("Slides left out of the tests: s003, s007.")
    assert found["n_slides"] == 58
    names, rows = slides_of(three[1])
    areas = []
    for folder in three[:2]:
        p = {
            row["slide"]: (row["label"] == "tumour", float(row["p_tumour"]))
            for row in slides_of(folder)[1]
        }
        areas.append(roc_auc_score([p[name][0] for name in names], [p[name][1] for name in names]))
    assert found["tests"]["pairs"][0]["difference"] == pytest.approx(areas[0] - areas[1])
    assert run(three[::2], tmp_path / "two", allow_missing=True)["tests"]["pairs"][0][
        "p"
    ] == pytest.approx(whole["tests"]["pairs"][1]["p"])


def test_other_labels_are_refused_by_name(three, tmp_path):
    rows = read_csv(three[2] / "predictions.csv")
    rows[5]["label"] = "normal"
    write_csv(three[2] / "predictions.csv", rows)
    assert "other labels or patients for s005" in refused(three, tmp_path / "out")


def test_what_cannot_be_compared(three, tmp_path):
    assert "nothing to compare" in refused([], tmp_path / "out")
    assert "give each once" in refused([three[0], three[0]], tmp_path / "out")
    other = evaluated(tmp_path / "other", "abmil", 1.0, classes=["benign", "tumour"])
    assert "different tasks or classes" in refused([three[0], other], tmp_path / "out")
    metrics = json.loads((three[0] / "metrics.json").read_text())
    del metrics["task"]
    (three[0] / "metrics.json").write_text(json.dumps(metrics))
    assert "('task' is missing); run it again" in refused(three, tmp_path / "out", FormatError)
    (three[0] / "metrics.json").unlink()
    assert "abmil: no predictions.csv and metrics.json" in refused(
        three, tmp_path / "out", FormatError
    )


@pytest.mark.parametrize(
    ("slides", "why"), [(1, "two patients with a positive"), (3, "two patients with a positive")]
)
def test_too_few_slides_for_tests(tmp_path, slides, why):
    heads = [evaluated(tmp_path, name, 1.0, slides=slides) for name in ("abmil", "acmil")]
    found = run(heads, tmp_path / "out")
    assert found["tests"]["pairs"] == []
    assert why in found["notes"][-1]


def test_the_command(three, tmp_path):
    flags = [part for folder in three for part in ("--evaluated", str(folder))]
    done = CliRunner().invoke(app, ["compare", *flags, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert re.match(
        r"compare 3 heads, \d of 3 pairs differ \(p < 0.05 after Holm\): .*comparison.md",
        done.output,
    )
