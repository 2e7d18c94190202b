"""The model card: numbers of the evaluation, facts about the data, and no text as markup."""

import json

import pytest
import yaml

from mil.errors import ConfigError, DatasetError, FormatError
from mil.io.tables import write_csv
from mil.trained import Calibration
from mil.trained.card import run
from mil.trained.card_use import Tissue
from mil.trained.markdown import escaped
from mil.trained.seal import write_manifest
from tests.interop.made import make
from tests.messages import one_line

ENTRY = {
    "timm": "test_resnet",
    "dim": 12,
    "mpp": 0.5,
    "weights": "random",
    "licence": "ours | alone",
    "gated": True,
    "citation": "Us 2024",
}
CALIBRATION = Calibration(temperature=1.25, threshold=0.4375)
# Split, patient and label of each slide.
SLIDES = [
    ("train", "a", "normal"),
    ("train", "a", "normal"),
    ("train", "b", "tumour"),
    ("val", "c", "tumour"),
    ("test", "d", "normal"),
    ("test", "e", "tumour"),
    ("test", "e", "tumour"),
]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "datasets").mkdir(parents=True)
    (tmp_path / "configs" / "encoders.yaml").write_text(yaml.safe_dump({"tiny": ENTRY}))
    dataset = {
        "title": "Nodes <b>2</b> [x](y)",
        "classes": ["normal", "tumour"],
        "licence": "CC0",
        "notes": "one\n# two",
    }
    (tmp_path / "configs" / "datasets" / "d.yaml").write_text(yaml.safe_dump(dataset))
    rows = [
        {
            "slide": f"s{number}",
            "patient": patient,
            "split": split,
            "label": label,
            "p_tumour": 0.5,
            "recipe": "abmil",
            "encoder": "tiny",
            "seed": seed,
            "fold": 0,
        }
        for seed in (1, 2)
        for number, (split, patient, label) in enumerate(SLIDES)
    ]
    write_csv(tmp_path / "evaluated" / "predictions.csv", rows)
    metrics = {
        "recipe": "abmil",
        "encoder": "tiny",
        "dataset": "d",
        "task": "classification",
        "classes": ["normal", "tumour"],
        "positive": "tumour",
        "over_runs": {},
        "test": {
            "auroc": {"value": 0.8125, "ci95": [0.5, 0.95]},
            "accuracy": {"value": 0.75, "ci95": None},
            "accuracy_most_probable": {"value": 0.5, "ci95": None},
            "n_slides": 3,
            "n_patients": 2,
            "confusion": {"classes": [], "table": []},
        },
        "test_patients": {
            "auroc": {"value": 0.7, "ci95": [0.25, 1.0]},
            "n_slides": 2,
            "n_patients": 2,
        },
        "runs": [
            {"seed": 1, "fold": 0, "n_slides": 3, "auroc": 0.79, "accuracy": None},
            {"seed": 2, "fold": 0, "n_slides": 3, "auroc": 0.81},
        ],
    }
    (tmp_path / "evaluated" / "metrics.json").write_text(json.dumps(metrics))
    for seed in (1, 2):
        write_manifest(
            make(
                tmp_path / "heads" / f"seed{seed}",
                seed=seed,
                calibration=CALIBRATION if seed == 1 else None,
            )
        )
    return tmp_path


@pytest.mark.parametrize(
    ("calibration", "lines"),
    [
        (
            Calibration(n=4, threshold=0.5, reason="too few validation slides (4)"),
            [
                "slides from elsewhere. Probabilities are not calibrated: too few validation "
                "slides (4).",
                "epoch 1 kept; predictions not calibrated: too few validation slides (4), tumour "
                "predicted from 0.5 up.",
            ],
        ),
        (
            Calibration(temperature=1.25, intercepts=[-0.125, 0.125], threshold=0.4375, n=20),
            [
                "predictions calibrated on the 20 validation slides (temperature 1.25, intercepts "
                "-0.125 and 0.125), tumour predicted from 0.4375 up."
            ],
        ),
    ],
    ids=["too_few", "intercepts"],
)
def test_what_a_card_says_of_calibration(study, calibration, lines):
    make(study / "heads" / "seed1", seed=1, calibration=calibration)
    write_manifest(study / "heads" / "seed1")
    one = cards(study)[0]
    for line in lines:
        assert line in one


def cards(study, **given) -> list[str]:
    return [path.read_text() for path in run([study / "heads"], study / "evaluated", **given)]


def test_what_a_card_says(study):
    one, two = cards(study)
    for line in (
        "# abmil for Nodes \\<b\\>2\\</b\\> \\[x\\](y)",
        "Task: classification of normal, tumour; of interest: tumour.",
        "| training | 3 | 2 | 2 normal, 1 tumour |",
        "| validation | 1 | 1 | 0 normal, 1 tumour |",
        "| test | 3 | 2 | 1 normal, 2 tumour |",
        "| metric | test slides (95 % CI) | test patients (95 % CI) | this head alone |",
        "| AUROC | 0.812 (0.500 to 0.950) | 0.700 (0.250 to 1.000) | 0.790 |",
        "no patient is in two of its parts",
        "> one \\# two",
        "(licence: ours \\| alone; its weights are given to those who ask on their page)",
        "**Not a medical device**",
        "mil predict SLIDE... --head seed1 --out predicted",
        "Cite: Us 2024.",
        f"`{'0' * 64}`",
    ):
        assert line in one, line
    assert (
        "epoch 1 kept; predictions calibrated on the validation slides (temperature 1.25), tumour "
        "predicted from 0.4375 up." in one
    )
    assert "epoch 1 kept, predictions not calibrated." in two
    assert "Probabilities are not calibrated: no validation slides." in two
    assert "most probable" not in one + two
    assert "| accuracy | 0.750 |  | not known |" in one
    assert "| AUROC | 0.812 (0.500 to 0.950) | 0.700 (0.250 to 1.000) | 0.810 |" in two
    digest = json.loads((study / "heads" / "seed1" / "seal.json").read_text())["sha256"][
        "head.safetensors"
    ]
    assert f"| head.safetensors | {digest} |" in one
    assert (
        yaml.safe_load(one.split("yaml\n")[1].split("````")[0])["losses"]["cross_entropy"]["start"]
        == 1.0
    )
    assert cards(study) == [one, two]


def test_attention_stands_beside_chance(study):
    path = study / "evaluated" / "metrics.json"
    metrics = json.loads(path.read_text())
    assert "Attention against" not in cards(study)[0]
    metrics["predicted_by"] = "ensemble of 2 heads"
    metrics["runs"][0]["tile_auroc"] = 0.5625
    metrics["localisation"] = {
        "tile_auroc_mean": 0.544,
        "tile_auroc_ci95": [0.41, 0.67],
        "tile_auroc_min": 0.3,
        "n_slides": 7,
        "per_slide": {},
        "finding": "The heads tell slides apart, but *not* tiles.",
    }
    path.write_text(json.dumps(metrics))
    one, two = cards(study)
    text = "Attention against annotated regions: tile AUROC 0.544 (0.41 to 0.67; 0.5 is chance)"
    assert text in one
    assert "on 7 slides; this head alone: tile AUROC 0.562." in one
    assert "on 7 slides. **The heads tell slides apart, but \\*not\\* tiles.**" in two
    assert "2 heads (seeds, folds) that had not seen them (ensemble of 2 heads);" in one


def test_what_counted_as_tissue_is_said(study):
    assert (
        "Which settings decided what counts as tissue is not known here; `mil predict` uses those "
        "in section `tile` of" in cards(study)[0]
    )
    said = cards(study, tissue=Tissue(min_tissue=0.5, min_area_mm2=0.02))[0]
    assert (
        "Its tiles were cut with `min_tissue: 0.5`, `min_area_mm2: 0.02`, which the head does "
        "not store; " in said
    )


def test_a_patient_in_two_parts_is_said(study):
    path = study / "evaluated" / "predictions.csv"
    path.write_text(path.read_text().replace("s4,d,test", "s4,a,test"))
    assert "**1 patients are in two of its parts**" in cards(study)[0]


def test_one_bag_a_patient_counts_as_patients(study):
    for seed in (1, 2):
        write_manifest(make(study / "heads" / f"seed{seed}", seed=seed, fusion="early"))
    said = cards(study)[0]
    assert (
        "All slides of a patient were one bag, and count as one.\n\n| part | patients | labels |"
        in said
    )
    assert "| training | 2 | 2 normal, 1 tumour |" in said
    assert (
        "| metric | test patients (95 % CI) | this head alone |\n| --- | --- | --- |\n| AUROC | "
        "0.812 (" in said
    )
    assert (
        "On 2 patients, by the mean of those of the study's 2 heads (seeds, folds) that had not "
        "seen them; " in said
    )


def test_a_centre_that_was_left_out_is_named(study):
    path = study / "evaluated" / "predictions.csv"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0] + ",held_out", *(line + ",Centre <b>" for line in lines[1:])])
    )
    assert (
        "fold 0 (tested on Centre \\<b\\>, trained without it); no patient is in two"
        in cards(study)[0]
    )


def test_patients_without_a_label_get_no_column(study):
    path = study / "evaluated" / "metrics.json"
    found = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {
                **found,
                "test_patients": {"note": "of different labels", "n_patients": 2, "n_slides": 3},
            }
        )
    )
    assert "| metric | test slides (95 % CI) | this head alone |" in cards(study)[0]


def test_without_the_datasets_yaml_its_name_stands(study):
    (study / "configs" / "datasets" / "d.yaml").unlink()
    assert "\n---\n\n# abmil for d\n" in cards(study)[0]
    with pytest.raises(ConfigError, match="no dataset named 'd'"):
        cards(study, dataset="d")


def test_a_head_of_another_evaluation_is_refused_and_no_card_is_written(study):
    write_manifest(make(study / "heads" / "seed3", seed=3))
    with one_line(DatasetError, match="has no predictions by"):
        cards(study)
    assert not list(study.rglob("MODEL_CARD.md"))


def test_another_table_is_one_line(study):
    rows = [{"slide": "s", "patient": "a", "label": "", "recipe": "", "seed": 1}]
    write_csv(study / "evaluated" / "predictions.csv", rows)
    with pytest.raises(
        FormatError, match=r"predictions\.csv: no column 'split'; run `mil evaluate` again"
    ):
        cards(study)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b", "a_b"),
        ("_a_", "\\_a\\_"),
        ("a|b", "a\\|b"),
        ("x\n\n# y", "x \\# y"),
        ("`a`", "\\`a\\`"),
        ("![i](http://x)", "\\!\\[i\\](http://x)"),
        ("<img>", "\\<img\\>"),
        ("a\\", "a\\\\"),
    ],
)
def test_text_stays_text(text, shown):
    assert escaped(text) == shown


def test_the_hub_reads_the_front_matter_and_its_results_are_of_this_head(study):
    from huggingface_hub import EvalResult, ModelCard

    data = [ModelCard(text).data for text in cards(study, licence="CC-BY-4.0")]
    one, two = (of_head.eval_results for of_head in data)
    # This head alone, not the mean of both, whose interval is therefore not its own.
    assert one == [
        EvalResult(
            task_type="image-classification",
            task_name="classification of whole-slide images",
            dataset_type="d",
            dataset_name="Nodes <b>2</b> [x](y)",
            dataset_split="test",
            metric_type="roc_auc",
            metric_name="AUROC",
            metric_value=0.79,
            metric_args={"metric": "auroc", "test_slides": 3},
        )
    ]
    assert [result.metric_value for result in two] == [0.81]
    first = data[0]
    assert (first.license, first.library_name, first.datasets) == ("cc-by-4.0", "mil", ["d"])
    assert first.metrics == ["roc_auc"]
    assert {"abmil", "tiny", "classification", "multiple-instance-learning"} <= set(first.tags)
    assert first.mil["encoder_licence"] == "ours | alone"
    assert (first.mil["encoder_gated"], first.mil["data_licence"]) == (True, "CC0")


def test_a_head_of_its_own_has_intervals_and_what_was_not_measured_is_not_claimed(study):
    from huggingface_hub import ModelCard

    path = study / "evaluated" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["runs"] = metrics["runs"][:1]
    path.write_text(json.dumps(metrics))
    one, two = (ModelCard(text).data for text in cards(study))
    assert one.eval_results[0].metric_args["ci95"] == [0.5, 0.95]
    assert (one.license, one.license_name) == ("other", "not-stated")
    # The second head has no line in metrics.json.
    assert not two.eval_results
    assert two.metrics is None


HOSTILE = "x\n---\nlicense: mit\n- !!python/object/apply:os.system [ls]: {a"


def test_names_of_strangers_stay_in_their_place_in_the_front_matter(study):
    from huggingface_hub import ModelCard

    path = study / "configs" / "datasets" / "d.yaml"
    dataset = yaml.safe_load(path.read_text()) | {"title": HOSTILE, "licence": HOSTILE}
    path.write_text(yaml.safe_dump(dataset))
    text = cards(study, licence="My own\n--- licence")[0]
    data = ModelCard(text).data
    on_one_line = " ".join(HOSTILE.split())
    assert (data.license, data.license_name) == ("other", "My own --- licence")
    assert data.eval_results[0].dataset_name == on_one_line
    assert data.mil["data_licence"] == on_one_line
    assert data.model_name == f"abmil on tiny for {on_one_line}"
    assert text.split("\n---\n")[1].startswith("\n# abmil for x ")
    assert "given away under My own --- licence" in text
