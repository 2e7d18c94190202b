"""The report's files: what a browser may load, a page for each slide, errors, facts, checklists."""

import html
import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import ConfigError, FormatError
from mil.io.scores import BagScores, ScoredBag, ScoringHead, write_scores
from mil.io.tables import write_csv
from mil.report import checklist
from mil.report.facts import facts_path, read_facts
from mil.report.slide_page import MARK
from mil.report.stage import run
from mil.report.thumbnails import SIZE_PX, Thumbnails
from mil.tasks import unfitted_task
from tests.messages import one_line
from tests.reported import EVIL, PROBABILITY, SLIDES, make_study

ITEMS = {"stard-ai": 34, "tripod-ai": 52, "claim": 44}  # with a number
FACTS = """
    annotation calibration characteristics class_balance comparison confusion data_source
    ensembling exclusions explanation failures flow metrics missing model outcomes output
    partition performance preprocessing sample_size selection software splits subgroups task
    threshold training
"""
ALL_FACTS = set(FACTS.split())
FOLDS = {"a 1#%": "test", "b": "test", "c": "train"}


def write(study: Path) -> Path:
    """Write the report of the made-up study, and return it."""
    rows = [
        {"fold": 0, "slide": name, "patient": f"<i>p{name[0]}</i>", "label": "x", "split": split}
        for name, split in FOLDS.items()
    ]
    write_csv(study / "folds.csv", rows)
    (study / "config.json").write_text('{"tile": {"min_tissue": 0.25}, "note": "<b>x</b>"}')
    run(
        str(study / "d.yaml"),
        [study / "tile"],
        [study / "features"],
        [study / "evaluate" / name for name in PROBABILITY],
        [study / "heatmap" / name for name in PROBABILITY],
        study / "report.html",
        folds=[study / "folds.csv"],
        config=study / "config.json",
    )
    return study / "report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    study = make_study(tmp_path_factory.mktemp("study"))
    pixels = np.random.default_rng(0).integers(0, 255, (400, 900, 3), dtype=np.uint8)
    for name in ("b.png", "b.effect.png", "b.tiles.jpg"):
        Image.fromarray(pixels).save(study / "heatmap" / "acmil" / name)
    stale = study / "report_slides" / "gone.html"
    stale.parent.mkdir()
    (stale.parent / "mine.html").write_text("not of mil")
    stale.write_text(f"{MARK}...")
    return write(study)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def slide_page(page: Path, slide: str) -> str:
    return text_of(page.parent / "report_slides" / f"{slide}.html")


def test_a_browser_runs_our_script_alone_and_loads_nothing_from_elsewhere(page):
    text = text_of(page)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src 'self' file: data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
        f"script-src 'sha256-{digest}'",
    ]
    assert "script-src" not in slide_page(page, "b")
    assert "default-src &#39;none&#39;" in slide_page(page, "b")
    assert not re.search(r"\son\w+\s*=|javascript:", text, re.IGNORECASE)


def test_every_slide_has_a_page_with_links_that_lead_somewhere(page):
    folder = page.parent / "report_slides"
    assert {path.stem for path in folder.glob("*.html")} == {*SLIDES, "mine"}
    for file in [page, *(folder / f"{name}.html" for name in SLIDES)]:
        for link in re.findall(r'(?:src|href)="([^"#][^"]*)"', text_of(file)):
            if not link.startswith("data:"):
                assert (file.parent / unquote(html.unescape(link))).is_file(), link


def test_a_slides_page_has_neighbours_state_pictures_and_all_predictions(page):
    b = slide_page(page, "b")
    assert '<a rel="prev" href="a%201%23%25.html">← a 1#%</a>' in b
    assert '<a rel="next" href="c.html">c →</a>' in b
    assert "Slide 2 of 5." in b
    for name in ("b.png", "b.effect.png", "b.tiles.jpg"):
        assert b.count(f'src="../heatmap/acmil/{name}"') == 1
    row = re.search(r"<tr><td>acmil · tiny</td>.*?</tr>", b)[0]
    assert '<td class="n">0.625</td><td class="n">0.375</td>' in row
    assert "mean of 2 heads" in row
    d = slide_page(page, "d")
    assert '<span class="bad">no_tissue</span>: nothing &lt;script&gt;' in d
    assert "Remedy: " in d
    for name in SLIDES:
        for piece in (EVIL, "<i>p", "<b>x"):
            assert piece not in slide_page(page, name)


def test_worst_errors_come_first_with_their_pictures(page):
    text = text_of(page)
    errors = text[text.index('<section id="errors">') :].partition("</section>")[0]
    lists = re.findall(r"<h3>(.*?)</h3>", errors)
    assert lists == [
        "abmil · tiny: 0 of 2 test slides predicted wrongly",
        "acmil · tiny: 1 of 2 test slides predicted wrongly",
    ]
    assert re.findall(r"<b>([^<]*)</b></a> of patient", errors) == ["a 1#%"]
    # 0.625 is half of the way from the threshold 0.25 to 1.
    assert "(error 0.5)" in errors


def test_contents_settings_and_splits_stand_in_the_page(page):
    text = text_of(page)
    contents = text[text.index('<nav class="contents"') :].partition("</nav>")[0]
    for anchor in re.findall(r'href="#([^"]+)"', contents):
        assert f'<section id="{anchor}">' in text
    # Seven, and four of the results.
    assert contents.count("<a ") == 11
    assert '<tr><th scope="row">tile.min_tissue</th><td>0.25</td></tr>' in text
    assert '<th class="n">training</th><th class="n">test</th>' in text
    assert text.count("data:image/jpeg;base64,") == 1


def test_thumbnails_are_small_few_and_none_of_a_damaged_picture(tmp_path):
    wide = Image.new("RGBA", (3000, 500), (200, 0, 0, 255))
    wide.save(tmp_path / "wide.png")
    wide.save(tmp_path / "more.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "wide.png").read_bytes()[:100])
    thumbnails = Thumbnails(most=1)
    assert thumbnails.uri(tmp_path / "damaged.png") == ""
    assert thumbnails.uri(None) == ""
    uri = thumbnails.uri(tmp_path / "wide.png")
    with Image.open(BytesIO(b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as small:
        assert small.size == (SIZE_PX[0], 50)
        red, green, _ = small.getpixel((5, 5))
        assert red > 190
        assert green < 10
    assert thumbnails.uri(tmp_path / "more.png") == ""
    assert thumbnails.uri(tmp_path / "wide.png") == uri


def probabilities(*values: float) -> np.ndarray:
    return np.array(values)


@pytest.mark.parametrize(
    ("kind", "classes", "label", "predictions", "threshold", "error"),
    [
        # 0.4 of the way from the threshold to 1, on either side of the label.
        ("classification", ["n", "t"], "n", (0.3, 0.7), 0.5, 0.4),
        ("classification", ["n", "t"], "t", (0.3, 0.7), 0.5, -0.4),
        ("classification", ["n", "t"], "t", (0.9, 0.1), 0.2, 0.5),
        ("classification", ["n", "t"], "n", (0.9, 0.1), 0.2, -0.5),
        ("classification", ["n", "t"], "n", (0.8, 0.2), 0.2, 1e-12),
        ("classification", ["a", "b", "c"], "a", (0.2, 0.3, 0.5), None, 0.3),
        ("classification", ["a", "b", "c"], "c", (0.2, 0.3, 0.5), None, -0.2),
        # Of a tie the first class is predicted.
        ("classification", ["a", "b", "c"], "a", (0.4, 0.4, 0.2), None, 0.0),
        ("classification", ["a", "b", "c"], "b", (0.4, 0.4, 0.2), None, 1e-12),
        ("ordinal", ["a", "b", "c"], "a", (0.1, 0.2, 0.7), None, 1.9),
        ("ordinal", ["a", "b", "c"], "c", (0.1, 0.2, 0.7), None, -0.7),
        ("multilabel", ["a", "b"], "a", (0.75, 0.625), None, 0.125),
        ("multilabel", ["a", "b"], "a", (0.75, 0.25), None, -0.25),
        ("multilabel", ["a", "b"], "a", (0.75, 0.5), None, 1e-12),
        ("multilabel", ["a", "b"], "a", (0.5, 0.25), None, 0.0),
        ("regression", [], "2,5", (4.0,), None, 1.5),
        ("survival_cox", [], "12+", (0.5,), None, None),
        ("classification", ["n", "t"], "other", (0.3, 0.7), 0.5, None),
    ],
)
def test_how_wrong_a_prediction_is(kind, classes, label, predictions, threshold, error):
    task = unfitted_task(kind, classes)
    measured = task.prediction_error(label, probabilities(*predictions), threshold)
    assert (measured is None) == (error is None)
    assert measured == pytest.approx(error, abs=1e-13)
    assert bool(task.error_meaning) == (kind != "survival_cox")


@pytest.mark.parametrize("guideline", ["stard-ai", "tripod-ai", "claim"])
def test_a_checklist_is_filled_and_says_what_the_author_must_write(page, guideline):
    facts = read_facts(facts_path(page))
    items = [item for part in checklist.load_checklist(guideline).parts for item in part.items]
    numbers = [item.number for item in items if item.number != "–"]
    assert (
        len(numbers)
        == len(set(numbers))
        == {"stard-ai": 34, "tripod-ai": 52, "claim": 44}[guideline]
    )
    assert {name for item in items for name in item.facts} <= ALL_FACTS
    out = checklist.run(page.parent, guideline)
    text = out.read_text(encoding="utf-8")
    assert out == page.parent / f"checklist_{guideline}.md"
    assert text.count("\n| ") == len(items) + 2 * text.count("\n## ")
    assert "report.html, Flow of patients, slides and tiles" in text
    assert facts.facts["flow"] in text
    assert "| *you must write this* |" in text
    assert "<script>" not in text
    assert "<i>" not in text


def test_facts_are_sentences_of_what_the_report_shows(page):
    facts = read_facts(facts_path(page)).facts
    assert set(facts) <= ALL_FACTS
    assert facts["flow"] == (
        "5 patients with 5 slides in the slide table; 3 patients with 3 slides and 3 tiles have "
        "features."
    )
    assert facts["exclusions"] == "Not used: 1 slide: no_tissue; 1 slide: not reached."
    assert facts["failures"] == (
        "abmil · tiny: 0 test slides wrong; acmil · tiny: 1 test slide wrong (a 1#%)."
    )
    assert facts["threshold"].endswith("before the test: abmil · tiny 0.250, acmil · tiny 0.250.")


def test_a_checklist_needs_a_report_of_this_version(tmp_path, page):
    with one_line(FormatError, match=r"report\.json: not the facts of a study .*run `mil report`"):
        checklist.run(tmp_path, "claim")
    (tmp_path / "report.json").write_text(
        facts_path(page).read_text().replace('"format_version": 1', '"format_version": 9')
    )
    with one_line(FormatError, match="not of this version"):
        checklist.run(tmp_path, "claim")


def test_two_words_name_a_command_and_one_word_the_report(page, tmp_path):
    out = tmp_path / "list.md"
    command = ["report", "checklist", str(page.parent), "--for", "claim", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.output == f"report checklist {out}\n"
    assert out.read_text().startswith("# CLAIM 2024: A & B".replace("&", r"\&"))
    assert "--evaluated" in CliRunner().invoke(app, ["report", "--help"]).output


@pytest.mark.parametrize(
    ("option", "of"), [("folds", "--bags"), ("scores", "--evaluated"), ("trained", "--evaluated")]
)
def test_folders_that_belong_together_are_as_many(tmp_path, option, of):
    study = tmp_path / "d.yaml"
    message = f"--{option}: 2 are named, but 1 of {of}; give one for each"
    with one_line(ConfigError, match=message):
        run(str(study), [], [study], [study], [study], study, **{option: [study, study]})


def test_settings_that_are_no_json_are_one_line(page, tmp_path):
    (tmp_path / "config.json").write_text("[1")
    study = page.parent
    with one_line(FormatError, match=r"config\.json: not the settings of a run"):
        run(
            str(study / "d.yaml"),
            [],
            [study / "features"],
            [],
            [],
            tmp_path / "report.html",
            config=tmp_path / "config.json",
        )
    assert not (tmp_path / "report.html").exists()


def test_settings_of_the_heads_that_scored_are_shown(page, tmp_path):
    """Records come from the score files: folders of heads may be of other seeds too."""
    task = {"kind": "classification", "classes": ["n", "t"], "positive": "t"}
    record = {
        "format": "mil.head",
        "format_version": 2,
        "tool_version": "0",
        "recipe_name": "abmil",
        "recipe": {
            "name": "abmil",
            "options": {"hidden": 7},
            "losses": {"cross_entropy": 1.0},
            "train": {},
        },
        "encoder": "tiny",
        "weights_sha256": "",
        "tiling": "t",
        "dim": 4,
        "task": task,
        "dataset": "d",
        "seed": 1,
        "fold": 0,
        "epoch": 1,
    }
    scored = BagScores(
        name="b",
        state="no_tissue",
        bags=(ScoredBag("b", "x"),),
        heads=(ScoringHead(json.dumps(record), "y"),),
        scores=(),
    )
    write_scores(tmp_path / "scores" / "b.h5", scored)
    (tmp_path / "scores" / ".partial-a.h5").touch()
    study = page.parent
    run(
        str(study / "d.yaml"),
        [],
        [study / "features"],
        [study / "evaluate" / "abmil"],
        [study / "heatmap" / "abmil"],
        tmp_path / "report.html",
        scores=[tmp_path / "scores"],
    )
    setup = text_of(tmp_path / "report.html")
    assert "<tr><td>options.hidden</td><td>7</td></tr>" in setup
    assert "<tr><td>origin of the settings</td><td>written in the recipe</td></tr>" in setup
    facts = read_facts(tmp_path / "report.json").facts
    assert "abmil · tiny: head abmil (hidden 7)" in facts["model"]
