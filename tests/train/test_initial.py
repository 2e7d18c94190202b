"""Warm start: what is taken from another head, what is new, what stays fixed."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mil.config import Recipe, load_recipe
from mil.errors import ConfigError, FormatError
from mil.heads import build_head
from mil.train.initial import classifier_names, read_initial
from mil.trained import load_trained
from mil.trained.manifest import check_sealed
from tests.messages import one_line

HOW = "epochs: 2, lr: 1.0e-2, batch_bags: 3"


def weights(small, out="head"):
    return load_file(small.folder / out / "head.safetensors")


def still(small, settings="", out="warm", source="head", **others):
    """Training from `source` at a rate of nearly zero: weights stay where they started."""
    init = small.folder / source
    how = f"epochs: 1, lr: 1.0e-30, weight_decay: 0, init: {init}{settings}"
    return small.train("acmil", how, out, **others)


def rename_classes(small):
    for name in ("toy.csv", "folds.csv"):
        path = small.folder / name
        path.write_text(path.read_text().replace("tumour", "metastasis"))
    dataset = small.folder / "toy.yaml"
    dataset.write_text(dataset.read_text().replace("tumour", "metastasis"))


CLASSIFIERS = {
    "abmil": {"classify"},
    "acmil": {"classify", "branch_classify"},
    "clam_sb": {"classify", "judge"},
    # A branch of attention for each class.
    "clam_mb": {"classify", "judge", "attention.score"},
    "dsmil": {"classify", "classify_tile"},
    "ep": {"classify"},
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_classifier_is_what_depends_on_the_number_of_classes(name):
    recipe = load_recipe(name)
    with torch.device("meta"):
        head = build_head(recipe.name, recipe.options, dim=32, classes=2)
    names = {parameter for parameter, _ in head.named_parameters()}
    expected = tuple(f"{part}." for part in CLASSIFIERS[name])
    classifier = classifier_names(recipe, 32, 2)
    assert classifier == {name for name in names if name.startswith(expected)}


def test_training_starts_from_all_weights_of_the_same_classes(small):
    small.train("acmil", HOW)
    record = still(small, seed=7)
    own, source = weights(small, "warm"), weights(small)
    assert all(torch.equal(own[name], source[name]) for name in source)
    assert record.started_from.new == []
    assert record.started_from.recipe_name == "acmil"
    assert load_trained(small.folder / "warm")[1].started_from == record.started_from
    check_sealed(small.folder / "warm", ("recipe.json",))


def test_a_classifier_of_other_classes_is_new(small):
    small.train("acmil", HOW)
    rename_classes(small)
    record = still(small, seed=7)
    own, source = weights(small, "warm"), weights(small)
    differing = [name for name in source if not torch.equal(own[name], source[name])]
    assert differing == sorted(record.started_from.new)
    assert {name.split(".")[0] for name in differing} == {"classify", "branch_classify"}


def test_frozen_weights_stay_and_the_classifier_learns(small):
    small.train("acmil", HOW)
    init = f"init: {small.folder / 'head'}, init_frozen: true"
    record = small.train("acmil", f"{HOW}, {init}, restarts: 3", "warm")
    own, source = weights(small, "warm"), weights(small)
    differing = [name for name in source if not torch.equal(own[name], source[name])]
    assert {name.split(".")[0] for name in differing} == {"classify", "branch_classify"}
    assert record.started_from.frozen


def test_scaling_and_members_of_an_averaged_head_are_taken(small):
    small.train("acmil", f"{HOW}, whiten: 4, restarts: 2, keep_within: 9")
    record = still(small, ", restarts: 2, keep_within: 9, whiten: 3", seed=7)
    own, source = weights(small, "warm"), weights(small)
    assert record.recipe.train.whiten == 4
    members = {member.restart: number for number, member in enumerate(record.members)}
    for name, value in source.items():
        if not name.startswith("members."):
            assert torch.equal(own[name], value)
            continue
        _, number, rest = name.split(".", 2)
        assert torch.equal(own[f"members.{members[int(number)]}.{rest}"], value)


@pytest.mark.slow
def test_another_head_to_start_from_trains_again(small):
    small.train("acmil", HOW)
    small.train("acmil", HOW, "other", seed=2)
    still(small)
    digest = (small.folder / "warm" / "inputs.sha256").read_text()
    still(small, source="other")
    assert (small.folder / "warm" / "inputs.sha256").read_text() != digest


@pytest.mark.parametrize(
    ("head", "settings", "error", "message"),
    [
        ("graph_select", "init: {head}", ConfigError, "is a head acmil, but the recipe trains"),
        ("acmil", "init: {missing}", FormatError, "train.init: .*not the folder of a trained"),
        ("acmil", "init_frozen: true", ConfigError, "init_frozen: needs init"),
    ],
)
def test_a_head_that_cannot_be_started_from_is_one_line(small, head, settings, error, message):
    folders = {name: small.folder / name for name in ("head", "missing")}
    small.train("acmil", HOW)
    with one_line(error, match=message):
        small.train(head, f"{HOW}, {settings.format(**folders)}", "warm")


def test_a_head_of_another_encoder_is_one_line(small):
    small.train("acmil", HOW)
    path = small.folder / "head" / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder": "uni"}))
    (small.folder / "head" / "seal.json").unlink()
    with one_line(ConfigError, match="is for bags of encoder uni, but these are of"):
        still(small)


@pytest.mark.slow
def test_a_head_of_normalised_stains_is_not_for_others(small):
    small.train("acmil", HOW)
    path = small.folder / "head" / "recipe.json"
    content = json.loads(path.read_text())
    assert content["stain_norm"] == ""
    path.write_text(json.dumps(content | {"stain_norm": "macenko"}))
    (small.folder / "head" / "seal.json").unlink()
    with one_line(ConfigError, match="is for bags of stain_norm macenko, but these are of none"):
        still(small)


def test_weights_of_other_widths_and_heads_trained_otherwise_are_one_line(small):
    small.train("acmil", HOW)
    recipe = Recipe(name="acmil", options={"hidden": 8}, losses={"cross_entropy": 1.0})
    initial = read_initial(small.folder / "head", {})
    head = build_head("acmil", recipe.options, dim=initial.record.dim, classes=2)
    with one_line(ConfigError, match=r"reduce\.0\.weight of shape \[16, \d+\], but the recipe's"):
        initial.start(head, 0, recipe, initial.record.task)
    for name, reason in (("ibmil", "trains in two stages"), ("linear_probe", "is fitted at once")):
        other = build_head(name, {}, dim=initial.record.dim, classes=2)
        with one_line(ConfigError, match=reason):
            initial.start(other, 0, recipe, initial.record.task)
