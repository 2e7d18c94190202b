"""The report: lost slides are listed, text is escaped, images exist, nothing is fetched."""

import html
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mil.errors import FormatError
from mil.io.bags.advice import ADVICE
from mil.io.fewshot import Curve, Point, write_curves
from mil.io.tables import read_csv, write_csv
from mil.report.results import result_sections
from mil.report.stage import run
from mil.statistics.metric import Metric, Spread
from mil.statistics.text import interval, mean_sd, value, with_threshold
from tests.messages import one_line
from tests.reported import EVIL, PROBABILITY, make_study


@pytest.fixture
def study(tmp_path) -> Path:
    """Five slides, of which three came through, evaluated with two recipes of two seeds."""
    return make_study(tmp_path)


def report(study: Path, recipes=("abmil", "acmil")) -> str:
    run(
        str(study / "d.yaml"),
        [study / "tile"],
        [study / "features"],
        [study / "evaluate" / name for name in recipes],
        [study / "heatmap" / name for name in recipes],
        study / "report" / "report.html",
    )
    return (study / "report" / "report.html").read_text(encoding="utf-8")


def section(page: str, anchor: str) -> str:
    """HTML of a section."""
    return page[page.index(f'<section id="{anchor}">') :].partition("</section>")[0]


def row_of(page: str, slide: str) -> str:
    """Text of a slide's row in the last table."""
    rows = re.findall(r"<tr data-split.*?</tr>", page, re.DOTALL)
    return next(row for row in rows if f">{html.escape(slide)}</a><br>" in row)


def test_n_in_n_out_and_why(study):
    page = report(study)
    assert "<b>5 in, 3 out, 1 no_tissue, 1 not reached</b>" in page
    assert "<dt>head</dt>" in page
    lost = section(page, "lost")
    assert re.findall(r"<tr><td>(.*?)</td>", lost) == [
        'd<br><a href="../tile/grid/d.jpg">QC image</a>',
        "e",
    ]
    for state in ("no_tissue", "not reached"):
        assert html.escape(ADVICE[state]) in lost.replace("&#39;", "&#x27;")
    assert (
        len(re.findall("<tr data-split", page)) == 5
    )  # lost slides are listed with the others too
    assert "no_tissue" in row_of(page, "d")


def test_precomputed_bags(study):
    """No QC images; a heatmap of a slide without a bag is of an earlier run, and is not shown."""
    (study / "heatmap" / "abmil" / "e.png").touch()
    run(
        str(study / "d.yaml"),
        [],
        [study / "features"],
        [study / "evaluate" / "abmil"],
        [study / "heatmap" / "abmil"],
        study / "report" / "report.html",
    )
    page = (study / "report" / "report.html").read_text(encoding="utf-8")
    assert "<b>5 in, 3 out, 2 no_bag</b>" in page
    assert f"Trained on precomputed bags of tiny, 224px_0.5mpp, in {study / 'features'}." in page
    images = {f"../heatmap/abmil/{name}.png" for name in ("a%201%23%25", "b", "c")}
    pages = {f"report_slides/{name}.html" for name in ("a%201%23%25", "b", "c", "d", "e")}
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', page)) == images | pages
    lost = section(page, "lost")
    assert lost.count(html.escape(ADVICE["no_bag"])) == 2
    assert f"there is no {study / 'features' / 'd.h5'}" in lost


def test_no_slide_is_lost(study):
    rows = [
        line
        for line in (study / "d.csv").read_text().splitlines()
        if not line.startswith(("d,", "e,"))
    ]
    (study / "d.csv").write_text("\n".join(rows) + "\n")
    page = report(study)
    assert "<b>3 in, 3 out</b>" in page
    assert "could not be used" not in page


def test_text_of_others_is_escaped(study, monkeypatch):
    monkeypatch.setattr("mil.report.stage.result_sections", result_sections)
    page = report(study)
    assert ">ROC and precision-recall curves</h2>" in page
    assert "ROC and precision-recall curves for &lt;script&gt;" in page
    assert EVIL not in page
    for piece in ("<script>alert", "<b>here</b>", "<i>p"):
        assert piece not in page
    assert page.count("<script>") == 1  # ours
    shown = html.unescape(page)
    for text in (f"A & B {EVIL}: report", f"nothing {EVIL} found", "<i>pb</i>", "see <b>here</b>"):
        assert text in shown


def test_every_image_is_where_the_page_says(study):
    page = report(study)
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    # Three slides with two recipes, a link and a picture each; four slides with their
    # tiles, a lost one twice; the pages of five slides; page, link and picture of the error.
    assert len(links) == 12 + 4 + 1 + 5 + 3
    for link in links:
        assert (study / "report" / unquote(urlsplit(html.unescape(link)).path)).resolve().is_file()
    for recipe in PROBABILITY:
        assert f"../heatmap/{recipe}/b.png" in row_of(page, "b")
    assert 'href="../tile/grid/b.jpg">tissue and tiles<' in row_of(page, "b")


def test_nothing_is_fetched_from_elsewhere(study, monkeypatch):
    monkeypatch.setattr("mil.report.stage.result_sections", result_sections)
    page = report(study)
    assert not re.search(
        r"""(?:src|href|action|poster)\s*=\s*["']?\s*(?:\w+:|//)""", page, re.IGNORECASE
    )
    assert not re.search(
        r"@import|url\((?!#)|\bfetch\(|XMLHttpRequest|<link|<iframe|<base", page, re.IGNORECASE
    )
    assert page.count("<svg role") >= 3  # the figures are in the page


def test_two_recipes_side_by_side(study):
    page = report(study)
    heads = section(page, "heads")
    threshold = '<br><span class="quiet">threshold 0.250 ± 0.000</span>'
    names = re.findall(r"<tr><td>(.*?)</td>", heads, re.DOTALL)
    assert [name.replace("\n", "") for name in names] == [
        f"{name} · tiny{threshold}" for name in ("abmil", "acmil")
    ]
    assert heads.count('<td class="n">0.688 ± 0.062<br><span class="quiet"></span></td>') == 2
    assert heads.count('<td class="n">0.750<br><span class="quiet">0.50 to 1.00</span></td>') == 4
    assert heads.count('<td class="n">0.500<br><span class="quiet"></span></td>') == 2
    assert heads.count('<td class="n">0.812<br>') == 2
    assert "(0.5 is chance)" in heads
    for slide in ("a 1#%", "b", "c"):
        probabilities = re.findall(r"<td>(\d\.\d{3}) <span", row_of(page, slide))
        assert probabilities == [
            f"{PROBABILITY[recipe][slide]:.3f}" for recipe in ("abmil", "acmil")
        ]
    assert re.findall(r"<td>(\d\.\d{3}|–)", row_of(page, "d")) == ["–", "–"]


def change_metrics(study, recipe="abmil", **changes) -> None:
    path = study / "evaluate" / recipe / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


HOTTEST = {
    "rate": {"value": 0.0, "ci95": [0.0, 0.35]},
    "by_chance": 0.08,
    "per_slide": {f"s{n}": {"hit": 0.0, "by_chance": 0.08} for n in range(7)},
}
LOCALISATION = {
    "tile_auroc_mean": 0.544,
    "tile_auroc_ci95": [0.41, 0.67],
    "tile_auroc_min": 0.3,
    "n_slides": 7,
    "per_slide": {f"s{n}": 0.544 for n in range(7)},
    "hottest_tile": HOTTEST,
    "finding": f"The heads tell slides apart, but {EVIL}.",
}


def test_the_ensemble_stands_first_and_single_runs_beside_it(study):
    runs = [
        {"seed": seed, "fold": 0, "n_slides": 1, "auroc_macro": auroc, "tile_auroc": auroc - 0.1}
        for seed, auroc in ((1, 0.625), (2, 0.75))
    ]
    spreads = {"auroc_macro": {"mean": 0.6875, "sd": 0.0625}}
    spreads["tile_auroc"] = {"mean": 0.5875, "sd": 0.0625}
    change_metrics(
        study,
        runs=runs,
        over_runs=spreads,
        predicted_by="ensemble of 2 heads per slide",
        localisation=LOCALISATION,
    )
    page = report(study)
    heads = section(page, "heads")
    first = heads[: heads.index("acmil · tiny")]
    assert 'abmil · tiny<br><span class="quiet">ensemble of 2 heads per slide</span>' in first
    ensemble = first.index('0.750<br><span class="quiet">0.50 to 1.00</span>')
    single = first.index('0.688 ± 0.062<br><span class="quiet">(0.62 to 0.75)</span>')
    assert ensemble < single
    assert '0.544<br><span class="quiet">0.41 to 0.67<br>runs 0.588 ± 0.062</span>' in first
    assert '0 of 7 slides<br><span class="quiet">0 to 35 %<br>8 % by chance</span>' in first
    notes = heads[heads.index("</table>") :]
    assert "which are those of the folds that left the slide out" in notes
    assert "wholly outside; 0.5 is chance." in notes
    assert notes.count("abmil · tiny: The heads tell slides apart, but ") == 1
    assert EVIL not in notes


def test_notes_on_annotations_stand_once_and_without_localisation(study):
    change_metrics(study, annotations=[f"Classes that do not count: {EVIL}."], localisation=None)
    page = report(study)
    assert page.count('<p class="caution">Classes that do not count: ') == 1
    assert EVIL not in page


def test_one_head_has_no_spread_and_one_slide_no_interval(study):
    one = {"tile_auroc_mean": 0.9, "tile_auroc_min": 0.9, "n_slides": 1, "per_slide": {"b": 0.9}}
    hottest = {
        "rate": {"value": 1.0, "ci95": None},
        "by_chance": 0.25,
        "per_slide": {"b": {"hit": 1.0, "by_chance": 0.25}},
    }
    change_metrics(
        study,
        runs=[{"seed": 1, "fold": 0, "n_slides": 2}],
        predicted_by="one head",
        localisation=one | {"hottest_tile": hottest},
    )
    page = report(study, ["abmil"])
    assert "one head</span>" in page
    assert "no interval: one slide" in page
    assert "1 of 1 slide<" in page
    assert "single runs" not in page.lower()
    assert "ensemble" not in page


def test_colours_of_even_attention_have_a_caution_beside_them(study):
    change_metrics(study, attention_entropy_share={"b": 0.9934, "c": 0.97})
    page = report(study)
    assert row_of(page, "b").count("attention almost uniform (entropy share 0.993)") == 1
    assert "almost uniform" not in row_of(page, "c")
    (study / "heatmap" / "abmil" / "b.png").unlink()
    assert "almost uniform" not in report(study)


def compared(study, comparison, fewshot=()) -> str:
    run(
        str(study / "d.yaml"),
        [study / "tile"],
        [study / "features"],
        [study / "evaluate" / "abmil"],
        [study / "heatmap" / "abmil"],
        study / "report" / "report.html",
        "all",
        comparison,
        fewshot=fewshot,
    )
    return (study / "report" / "report.html").read_text(encoding="utf-8")


def test_heads_compared(study):
    heads = {
        "header": ["encoder", "recipe", "AUROC"],
        "rows": [["tiny", EVIL, "0.750 (0.50 to 1.00)"], ["tiny", "b", "–"]],
    }
    pairs = {
        "header": ["one", "other", "difference", "p"],
        "rows": [[EVIL, "b", "−0.1 (−0.2 to 0.0)", "< 0.001"]],
    }
    comparison = {
        "dataset": "d",
        "task": "classification",
        "positive": EVIL,
        "n_slides": 2,
        "n_patients": 2,
        "metrics": ["auroc"],
        "rows": [],
        "tests": {"metric": "auroc", "method": None, "why_not": "", "pairs": []},
        "tables": {"heads": heads, "pairs": pairs},
        "notes": [f"Note {EVIL}"],
        "baseline": "b",
        "statements": [f"Answer {EVIL}"],
    }
    (study / "comparison.json").write_text(json.dumps(comparison))
    write_curves(study / "fewshot.csv", {EVIL: Curve([Point(1, 0.5, 0.1, 3)], False)})
    page = compared(study, study / "comparison.json", [study / "fewshot.csv"])
    compared_heads = section(page, "comparison")
    assert '<td class="n">0.750<br><span class="quiet">(0.50 to 1.00)</span></td>' in compared_heads
    assert '<td class="n">&lt; 0.001</td>' in compared_heads
    assert "<details open><summary>1 paired test</summary>" in compared_heads
    evil = html.escape(EVIL).replace("&#x27;", "&#39;")
    assert compared_heads.count(evil) == 4
    assert compared_heads.index(f"<p>Answer {evil}</p>") < compared_heads.index("0.750")
    assert f"<td>{evil}</td>" in section(page, "fewshot")
    assert EVIL not in page
    assert "Heads compared" not in report(study)
    one_head = {**comparison, "tables": {"heads": heads}, "notes": []}
    (study / "comparison.json").write_text(json.dumps(one_head))
    assert "paired test" not in compared(study, study / "comparison.json")


def test_a_comparison_that_is_none(study):
    (study / "comparison.json").write_text("{}")
    with pytest.raises(
        FormatError, match=r"comparison\.json: no comparison\.json of `mil compare` \('dataset' is"
    ):
        compared(study, study / "comparison.json")


def test_the_decision_and_its_threshold_stand_beside_each_prediction(study):
    page = report(study)
    for slide, called in (("a 1#%", "normal"), ("b", EVIL)):
        assert (
            f'<span class="quiet">{html.escape(called).replace("&#x27;", "&#39;")}, threshold 0.250'
            in row_of(page, slide).partition("</td>\n<td>")[2]
        )
    assert page.count('<br><span class="quiet">threshold 0.250 ± 0.000</span></td>') == 2
    note = "Probabilities are not calibrated: too few validation slides (4)."
    assert f'<p class="quiet">abmil · tiny: {note}</p>' in page


@pytest.mark.parametrize(
    ("value", "threshold", "text"),
    [
        (0.7312, 0.482, "p(tumour) = 0.731 (threshold 0.482)"),
        (0.50004, 0.5, "p(tumour) = 0.50004 (threshold 0.50000)"),
        (0.49996, 0.50001, "p(tumour) = 0.49996 (threshold 0.50001)"),
        (0.5, 0.5, "p(tumour) = 0.500 (threshold 0.500)"),
        (0.9999, 0.5, "p(tumour) = 0.9999 (threshold 0.5000)"),
        (2e-5, 0.5, "p(tumour) = 0.00002 (threshold 0.50000)"),
        (1e-9, 0.5, "p(tumour) = 0.000000 (threshold 0.500000)"),
        (1.0, 0.9996, "p(tumour) = 1.0000 (threshold 0.9996)"),
        (0.25, None, "p(tumour) = 0.250"),
    ],
)
def test_digits_tell_a_probability_from_its_threshold(value, threshold, text):
    assert with_threshold("p_tumour", value, threshold) == text


def test_the_same_study_gives_the_same_page(study):
    assert report(study) == report(study)


def test_one_recipe_without_curve_or_pictures(study):
    for path in (study / "heatmap" / "abmil").glob("*.png"):
        path.unlink()
    page = report(study, ["abmil"])
    assert "<img" not in page
    assert "acmil" not in page
    assert "0.875" in row_of(page, "b")


def test_predictions_of_other_classes_are_one_line(study):
    path = study / "evaluate" / "abmil" / "predictions.csv"
    path.write_text(path.read_text().replace("p_normal", "p_other", 1))
    with one_line(FormatError, match=r"abmil.*: cannot be used together \(KeyError: 'p_normal'\)"):
        report(study)


def test_an_evaluation_that_is_missing(study):
    (study / "evaluate" / "abmil" / "metrics.json").unlink()
    with one_line(FormatError, match="evaluate/abmil: no predictions"):
        report(study)
    assert not (study / "report").exists()


@pytest.mark.parametrize(
    ("metric", "number", "between"),
    [
        (None, "–", ""),
        (Metric(value=None), "–", ""),
        (Metric(value=0.93, ci95=(0.811, 1.0)), "0.930", "0.81 to 1.00"),
        (Metric(value=0.5), "0.500", ""),
        (Metric(value=0.0, ci95=(0.0, 0.0)), "0.000", "0.00 to 0.00"),
    ],
)
def test_numbers_as_people_read_them(metric, number, between):
    assert (value(metric), interval(metric)) == (number, between)


def test_mean_and_deviation_of_runs():
    assert mean_sd(Spread(mean=0.9, sd=0.021)) == "0.900 ± 0.021"
    assert mean_sd(Spread(mean=0.9, sd=None)) == "0.900"
    assert mean_sd(Spread(mean=None, sd=None)) == "–"


def test_with_early_fusion_a_slide_shows_the_prediction_of_its_patient(study):
    folder = study / "evaluate" / "abmil"
    rows = read_csv(folder / "predictions.csv")
    write_csv(
        folder / "predictions.csv", [{**row, "slide": f"<i>p{row['slide'][0]}</i>"} for row in rows]
    )
    assert "0.875" not in row_of(report(study), "b")
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "fusion": "early"}))
    page = report(study)
    assert "0.875" in row_of(page, "b")
    assert "All slides of a patient are one bag." in page
    assert f'<td class="n">–</td><td class="n">{metrics["test"]["n_patients"]}</td>' in page
