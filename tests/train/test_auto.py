"""`train: auto`: recipes planned from training and validation slides, and from nothing else."""

import json
import random

import pytest
import yaml

from mil.catalogue.show import description_lines
from mil.config import Cohort, Recipe, TrainConfig, checked, load_recipe
from mil.config.heads import own_heads
from mil.errors import ConfigError, DatasetError
from mil.heads import build_head
from mil.io.bags.patients import FoldBag
from mil.io.tables import read_csv, write_csv
from mil.train.auto import RULES, described, plan_recipe
from mil.train.facts import study_size
from mil.trained import load_trained
from mil.trained.card_recipe import _planned
from mil.trained.record import check_one_recipe
from tests.messages import one_line

COHORT = Cohort(
    task="classification",
    num_slides=30,
    num_patients=28,
    slides_by_class={"normal": 14, "tumour": 16},
    tiles_median=2000,
    tiles_max=9000,
    dim=1280,
    feature_std=(0.1, 0.4, 2.3),
)


def recipe(train, name="abmil", **options):
    raw = {"name": name, "losses": {"cross_entropy": 1}, "train": train, "options": options}
    return checked(Recipe, raw, "here")


def auto_study(small, rows=None):
    """Train one head of a planned recipe for two epochs."""
    if rows is not None:
        write_csv(small.folder / "folds.csv", rows)
        columns = ("slide", "patient", "label")
        write_csv(small.folder / "toy.csv", [{key: row[key] for key in columns} for row in rows])
    return small.train("acmil", "auto: true, epochs: 2, restarts: 1")


def test_auto_alone_stands_for_the_section():
    assert recipe("auto").train == recipe({"auto": True}).train
    with one_line(ConfigError, match="^here: train: "):
        recipe("automatic")


def test_a_plan_is_concrete_and_a_recipe_without_auto_is_as_it_is():
    planned = plan_recipe(recipe("auto"), COHORT)
    assert not planned.train.auto
    assert planned.train.lr == RULES[0].train["lr"]
    rule = RULES[0]
    assert planned.options == {"hidden": rule.hidden, "attention": rule.attention, "dropout": 0.5}
    assert plan_recipe(recipe("auto", "mean"), COHORT).options == {"hidden": rule.hidden}
    written = recipe({"lr": 0.5})
    assert plan_recipe(written, COHORT) is written
    assert plan_recipe(planned, COHORT) is planned
    line = described(recipe("auto"), planned, COHORT)
    assert line.startswith("planned for 30 slides of 28 patients: hidden 64, ")


def test_what_a_recipe_writes_is_kept_even_if_it_is_a_default():
    defaults = TrainConfig()
    train = {"auto": True, "lr": defaults.lr, "restarts": 1, "epochs": 20}
    planned = plan_recipe(recipe(train, hidden=77), COHORT)
    assert planned.train.lr == defaults.lr
    assert (planned.train.restarts, planned.train.epochs) == (1, 20)
    assert planned.options["hidden"] == 77


def test_the_planned_width_is_a_multiple_of_written_attention_heads():
    assert plan_recipe(recipe("auto", "mha", heads=12), COHORT).options["hidden"] == 72
    assert plan_recipe(recipe("auto", "mha", heads=8), COHORT).options["hidden"] == 64
    assert plan_recipe(recipe("auto", "mha", heads=12, hidden=24), COHORT).options["hidden"] == 24


@pytest.mark.parametrize("queries", [12, 24, 32, 100])
def test_the_planned_width_is_a_multiple_of_written_queries(queries):
    planned = plan_recipe(recipe("auto", "probe", queries=queries), COHORT)
    assert planned.options["hidden"] % queries == 0
    assert planned.options["hidden"] >= 64
    build_head("probe", planned.options, dim=64, classes=2)


def test_written_scaling_replaces_the_planned_whitening():
    planned = plan_recipe(recipe({"auto": True, "zscore": True}), COHORT).train
    assert (planned.zscore, planned.whiten) == (True, None)
    assert plan_recipe(recipe({"auto": True, "whiten": None}), COHORT).train.whiten is None


@pytest.mark.parametrize(("slides", "epochs"), [(400, 50), (40, 50), (22, 91), (6, 334)])
def test_small_cohorts_are_trained_for_as_many_steps(slides, epochs):
    cohort = COHORT.model_copy(update={"num_slides": slides})
    assert plan_recipe(recipe("auto"), cohort).train.epochs == epochs
    assert plan_recipe(recipe("auto", "acmil"), cohort).train.epochs == 2 * epochs
    assert plan_recipe(recipe({"auto": True, "epochs": 7}), cohort).train.epochs == 7


@pytest.mark.parametrize("name", own_heads())
@pytest.mark.parametrize("slides", [20, 300])
def test_every_head_takes_what_is_planned_for_it(name, slides):
    cohort = COHORT.model_copy(update={"num_slides": slides})
    planned = plan_recipe(recipe("auto", name), cohort)
    build_head(name, planned.options, dim=16, classes=2)


@pytest.mark.parametrize(
    ("name", "options", "lr"),
    [
        ("ep", {"hidden": 64, "norm": False, "query_std": 1.0}, 1e-3),
        ("ep_published", {"hidden": None, "norm": True, "query_std": 0.02}, 1e-3),
        ("ep_frozen", {"hidden": None, "norm": True}, 1e-3),
        ("lama", {"hidden": 64, "norm": False}, 1e-3),
        ("mha", {"hidden": 64}, 3e-3),
    ],
)
def test_heads_that_begin_with_flat_attention_get_settings_of_their_own(name, options, lr):
    planned = plan_recipe(load_recipe(name), COHORT)
    assert {key: planned.options[key] for key in options} == options
    assert planned.train.lr == pytest.approx(lr)
    larger = COHORT.model_copy(update={"num_slides": 130})
    assert plan_recipe(load_recipe(name), larger).train.lr == pytest.approx(1e-3)
    regression = COHORT.model_copy(update={"task": "regression"})
    assert plan_recipe(load_recipe(name), regression).options == load_recipe(name).options


@pytest.mark.parametrize(
    ("name", "option", "planned"),
    [("graph_select", "message_scale", 0.3), ("mixed_neighbourhood", "context_scale", 0.03)],
)
def test_tiles_tell_each_other_less_in_small_cohorts(name, option, planned):
    recipe = load_recipe(name)
    assert plan_recipe(recipe, COHORT).options[option] == pytest.approx(planned)
    larger = COHORT.model_copy(update={"num_slides": 130})
    assert option not in plan_recipe(recipe, larger).options
    assert option not in plan_recipe(load_recipe("abmil"), COHORT).options


def test_a_task_that_compares_the_bags_of_a_batch_gets_enough_of_them():
    cohort = COHORT.model_copy(update={"task": "survival_cox", "smallest_batch": 2})
    assert plan_recipe(recipe("auto"), cohort).train.batch_bags >= 2


def test_the_same_cohort_has_the_same_recipe():
    again = Cohort.model_validate_json(COHORT.model_dump_json())
    assert plan_recipe(recipe("auto"), again) == plan_recipe(recipe("auto"), COHORT)


def test_the_size_of_a_study_is_that_of_all_its_folds_without_tests():
    bags = [
        FoldBag(fold, f"s{i}", (f"s{i}",), f"p{i // 2}", "a", split)
        for fold, tests in ((0, 3), (1, 4))
        for i in range(10)
        for split in ["test" if i < tests else "train"]
    ]
    # 7 and 6 slides: 6.5, halves up; patients of 3 to 9 and of 4 to 9: 4 and 3.
    assert study_size(bags) == (7, 4)


def test_a_planned_recipe_is_written_with_its_facts(small, capfd):
    trained = auto_study(small)
    record = json.loads((small.folder / "head/recipe.json").read_text())
    assert record["recipe"]["train"]["auto"] is False
    assert record["recipe"]["train"]["lr"] == RULES[0].train["lr"]
    facts = trained.planned_from
    assert record["planned_from"] == json.loads(facts.model_dump_json())
    assert (facts.num_slides, facts.num_patients, facts.tiles_median, facts.dim) == (12, 12, 12, 16)
    assert sum(facts.slides_by_class.values()) == 12
    assert load_trained(small.folder / "head")[1] == trained
    assert "train acmil fold 0: planned for 12 slides of 12 patients: " in capfd.readouterr().err
    assert "Planned (`train: auto`) for 12 training and validation slides" in _planned(trained)


def test_test_labels_shuffled_change_no_recipe(small):
    rows = read_csv(small.folder / "folds.csv")
    for row in rows[::3]:
        row["split"] = "test"
    trained = auto_study(small, rows=rows)
    tests = [row for row in rows if row["split"] == "test"]
    labels = [row["label"] for row in tests]
    random.Random(1).shuffle(labels)
    assert labels != [row["label"] for row in tests]
    for row, label in zip(tests, labels, strict=True):
        row["label"] = label
        (small.folder / "bags" / f"{row['slide']}.h5").unlink()
    again = auto_study(small, rows=rows)
    assert (again.recipe, again.planned_from) == (trained.recipe, trained.planned_from)


def test_heads_planned_for_different_folds_may_be_averaged(small):
    one = auto_study(small)
    options = {**one.recipe.options, "hidden": 65}
    other = one.model_copy(
        update={
            "recipe": one.recipe.model_copy(update={"options": options}),
            "planned_from": one.planned_from.model_copy(update={"tiles_median": 13}),
        }
    )
    folders = [small.folder / "head"] * 2
    check_one_recipe(folders, [one, other])
    edited = other.model_copy(update={"planned_from": one.planned_from})
    with pytest.raises(DatasetError, match=r"other settings \(options.hidden\)"):
        check_one_recipe(folders, [one, edited])


def test_what_will_be_planned_is_shown(tmp_path):
    path = tmp_path / "mine.yaml"
    content = {
        "name": "abmil",
        "losses": {"cross_entropy": 1},
        "train": {"auto": True, "epochs": 20},
    }
    path.write_text(yaml.safe_dump(content))
    assert load_recipe(str(path)).train.auto
    lines = [line.split() for line in description_lines(str(path))]
    shown = {words[0]: words[1] for words in lines if len(words) > 1}
    assert (shown["epochs"], shown["lr"], shown["auto"]) == ("20", "planned", "true")


def test_what_was_planned_is_shown_of_a_trained_head(small):
    trained = auto_study(small)
    text = "\n".join(description_lines(str(small.folder / "head")))
    assert "recipe acmil, seed 1, fold 0" in text
    assert "planned (train: auto) for 12 slides of 12 patients, 12 tiles a slide" in text
    lr = next(line.split()[1] for line in text.splitlines() if line.split()[0] == "lr")
    assert float(lr) == trained.recipe.train.lr
