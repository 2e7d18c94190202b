"""Heads of the published codes: the same logits, and the same bits there and back."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mil.bags import join
from mil.errors import FormatError
from mil.io.bags import read_bag
from mil.trained import apply, load_trained
from mil.trained.compatibility import check_compatible
from mil.trained.seal import verify
from tests.heads.test_acmil import BAG, golden_bag
from tests.interop.published import (
    DIM,
    HEADS,
    HIDDEN,
    SHAPES,
    TOOLS,
    drawn,
    golden,
    heads,
    imported,
    logits,
    save,
)
from tests.synthetic import bag_file

MHA_BAG = [0.3377547832733203, 0.35305860052212423, -1.0208237774066746]
X = torch.randn(7, DIM, generator=torch.Generator().manual_seed(5))


def assert_close(actual, expected, atol=1e-5):
    torch.testing.assert_close(
        actual.double(), torch.as_tensor(expected, dtype=torch.float64), rtol=0, atol=atol
    )


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_head_gives_the_same_logits_here(tmp_path, name):
    tensors = drawn(name)
    imported(save(tmp_path / "c.pth", tensors), tmp_path / "head", TOOLS[name])
    head, trained = load_trained(tmp_path / "head")
    assert (trained.recipe.name, trained.dim, trained.epoch) == (HEADS[name], DIM, 13)
    assert trained.recipe.options["hidden"] == HIDDEN
    assert_close(head(join([X])).logits[0], logits(name, tensors, X))


@pytest.mark.parametrize(("name", "expected"), [("ACMIL_GA", BAG), ("ACMIL_MHA", MHA_BAG)])
def test_golden_numbers_of_the_published_code(tmp_path, name, expected):
    output = imported(save(tmp_path / "c.pth", golden(name)), tmp_path / "head", "acmil")
    assert "kept as float32, was float64" in output
    head, _ = load_trained(tmp_path / "head")
    assert_close(head(golden_bag(torch.float32)).logits[0], expected)
    assert_close(
        logits(name, golden(name), golden_bag().features), expected, 1e-12
    )  # the formulas here are right


@pytest.mark.parametrize("name", SHAPES)
def test_there_and_back_is_the_same_bit_by_bit(tmp_path, name):
    tool = TOOLS[name]
    tensors = drawn(name)
    imported(save(tmp_path / "c.pth", tensors), tmp_path / "head", tool)
    assert heads("export", tmp_path / "head", tmp_path / "d.pth", "--to", tool)[0] == 0
    whole = torch.load(tmp_path / "d.pth", weights_only=True)
    back = whole if tool in ("clam", "feather") else whole["model"]
    assert list(back) == list(SHAPES[name])
    assert all(torch.equal(back[key], tensors[key]) for key in tensors)
    imported(tmp_path / "d.pth", tmp_path / "again", tool)
    one, other = (load_trained(tmp_path / folder)[0].state_dict() for folder in ("head", "again"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_settings_in_the_file_are_taken_and_written_back(tmp_path):
    config = {
        "n_masked_patch": 10,
        "mask_drop": 0.6,
        "train_epoch": 50,
        "lr": 2e-4,
        "wd": 1e-5,
        "min_lr": 0,
        "warmup_epoch": 0,
        "seed": 4,
        "D_feat": 1,
        "data_dir": "/x",
        "auc": np.float64(0.9),
    }
    file = save(tmp_path / "c.pth", drawn("ACMIL_GA"), config, best=np.float32(1.0))
    output = imported(
        file, tmp_path / "head", "acmil", "--positive", "b", "--fold", "2", "--name", "published"
    )
    assert "not in the file" not in output
    _, trained = load_trained(tmp_path / "head")
    recipe = trained.recipe
    assert recipe.options == {
        "hidden": 8,
        "attention": 4,
        "branches": 2,
        "mask_top": 10,
        "mask_share": 0.6,
    }
    assert {name: weight.start for name, weight in recipe.losses.items()} == {
        "cross_entropy": 1,
        "branch_cross_entropy": 1,
        "branch_diversity": 1,
    }
    assert (recipe.train.epochs, recipe.train.lr, recipe.train.batch_bags) == (50, 2e-4, 1)
    assert (
        recipe.source == "imported from c.pth: ACMIL_GA of acmil, https://arxiv.org/abs/2311.07125"
    )
    assert (trained.recipe_name, trained.seed, trained.fold, trained.positive) == (
        "published",
        4,
        2,
        "b",
    )
    assert (trained.encoder, trained.weights_sha256, trained.tiling) == (
        "tiny",
        "",
        "unknownpx_unknownmpp",
    )
    _, output = heads("export", tmp_path / "head", tmp_path / "d.pth", "--to", "acmil")
    assert "an attention width of 128 by default: give its constructor D=4" in output
    whole = torch.load(tmp_path / "d.pth", weights_only=True)
    assert whole["epoch"] == 12
    sizes = {"D_feat": DIM, "D_inner": HIDDEN, "n_class": 3, "n_token": 2}
    kept = {
        key: config[key]
        for key in ("n_masked_patch", "mask_drop", "train_epoch", "lr", "wd", "seed")
    }
    assert {**whole["config"], **sizes, **kept} == whole["config"]


def test_the_weight_of_aems_term_is_taken(tmp_path):
    imported(save(tmp_path / "c.pth", drawn("ABMIL"), {"lamda": 0.1}), tmp_path / "head", "aem")
    losses = load_trained(tmp_path / "head")[1].recipe.losses
    assert {name: weight.start for name, weight in losses.items()} == {
        "cross_entropy": 1,
        "attention_entropy": 0.1,
    }


def test_settings_that_make_no_sense_are_passed_over(tmp_path):
    config = {
        "n_masked_patch": -3,
        "mask_drop": "0.6",
        "train_epoch": 10**500,
        "lr": float("inf"),
        "wd": float("nan"),
        "seed": True,
        "warmup_epoch": [1],
    }
    output = imported(
        save(tmp_path / "c.pth", drawn("ACMIL_GA"), config, epoch=-7), tmp_path / "head", "acmil"
    )
    assert (
        "not in the file, so set to the default, which only training uses: mask_top, mask_share"
        in output
    )
    _, trained = load_trained(tmp_path / "head")
    assert (trained.recipe.train.epochs, trained.recipe.train.lr, trained.seed, trained.epoch) == (
        50,
        1e-4,
        1,
        0,
    )


def test_bags_say_what_the_head_is_for(tmp_path):
    for slide in ("s1", "s2"):
        bag_file(tmp_path / f"bags/{slide}.h5", slide, np.ones((3, DIM)))
    file = save(tmp_path / "c.pth", drawn("ABMIL"))
    imported(file, tmp_path / "head", "aem", "--bags", tmp_path / "bags")
    head, trained = load_trained(tmp_path / "head")
    path = tmp_path / "bags/s1.h5"
    check_compatible(trained, read_bag(path), path)
    assert apply(head, trained, read_bag(path)).predictions.sum() == pytest.approx(1)
    imported(
        file,
        tmp_path / "other",
        "aem",
        "--encoder",
        "tiny",
        "--tile-px",
        "224",
        "--target-mpp",
        "0.5",
    )
    with pytest.raises(FormatError, match="weights_sha256 is 0000"):
        check_compatible(load_trained(tmp_path / "other")[1], read_bag(path), path)


def test_a_dataset_says_the_classes(tmp_path):
    (tmp_path / "d.yaml").write_text("classes: [x, y, z]\npositive: y\n")
    file = save(tmp_path / "c.pth", drawn("ABMIL"))
    code, output = heads(
        "import",
        file,
        "--out",
        tmp_path / "head",
        "--from",
        "aem",
        "--encoder",
        "e",
        "--dataset",
        tmp_path / "d.yaml",
    )
    assert code == 0, output
    trained = load_trained(tmp_path / "head")[1]
    assert (trained.classes, trained.positive, trained.dataset) == (["x", "y", "z"], "y", "d")


def as_saved(kind, path, tensors):
    if kind == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(tensors, path)
    elif kind == "oldest format":
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"plain": tensors, "nested": {"state_dict": tensors}}[kind], path)
    return path


@pytest.mark.parametrize("kind", ["plain", "nested", "oldest format", "safetensors"])
def test_a_state_dict_alone_is_enough(tmp_path, kind):
    file = as_saved(kind, tmp_path / "c.pt", drawn("ACMIL_GA"))
    assert "epoch ?" in imported(file, tmp_path / "head", "acmil")
    assert_close(
        load_trained(tmp_path / "head")[0](join([X])).logits[0],
        logits("ACMIL_GA", drawn("ACMIL_GA"), X),
    )


RENAMED = {
    "several GPUs": lambda key: f"module.{key}",
    "CLAM on several GPUs": lambda key: key.replace("attention_net.", "attention_net.module."),
    "CLAM without dropout": lambda key: key.replace("attention_net.3.", "attention_net.2."),
}


@pytest.mark.parametrize("change", RENAMED)
def test_names_of_wrappers_and_older_versions_are_normalised(tmp_path, change):
    tensors = {RENAMED[change](key): value for key, value in drawn("CLAM_SB").items()}
    if change != "several GPUs":
        tensors["instance_loss_fn.labels"] = torch.arange(2)
    torch.save(tensors, tmp_path / "c.pt")
    imported(tmp_path / "c.pt", tmp_path / "head", "clam")
    assert_close(
        load_trained(tmp_path / "head")[0](join([X])).logits[0],
        logits("CLAM_SB", drawn("CLAM_SB"), X),
    )


def test_feather_is_a_start_without_a_classifier(tmp_path):
    """As transformers saves it: `model.` before each name, and no classifier."""
    tensors = drawn("ABMIL of MIL-Lab")
    body = {f"model.{key}": value for key, value in tensors.items() if "classifier" not in key}
    save_file(body, tmp_path / "model.safetensors")
    arguments = ("--encoder", "uni", "--tile-px", 224, "--target-mpp", 0.5)
    code, output = heads(
        "import",
        tmp_path / "model.safetensors",
        "--out",
        tmp_path / "head",
        "--from",
        "feather",
        *arguments,
    )
    assert code == 0, output
    assert "a start for training (train.init)" in output
    head, trained = load_trained(tmp_path / "head")
    assert trained.classes == ["none_1", "none_2"]
    assert head(join([X])).logits.abs().max() == 0
    assert torch.equal(head.reduce[0].bias, tensors["patch_embed.0.bias"])


def test_the_other_softmax_of_acmils_clam_is_reported(tmp_path):
    file = save(tmp_path / "c.pth", drawn("CLAM_MB"))
    assert "its probabilities differ" in imported(file, tmp_path / "head", "acmil")
    assert "its probabilities differ" not in imported(file, tmp_path / "head2", "clam")
    assert (
        "its probabilities differ"
        in heads("export", tmp_path / "head", tmp_path / "d.pth", "--to", "acmil")[1]
    )


def test_widths_for_clams_constructor_are_reported(tmp_path):
    imported(save(tmp_path / "c.pth", drawn("CLAM_SB")), tmp_path / "head", "clam")
    assert (
        "put 8 and 4 into its size_dict"
        in heads("export", tmp_path / "head", tmp_path / "d.pt", "--to", "clam")[1]
    )


def test_what_the_folder_holds_is_read_by_nothing_but_json_and_safetensors(tmp_path):
    imported(save(tmp_path / "c.pth", drawn("ABMIL")), tmp_path / "head", "aem")
    assert sorted(path.name for path in (tmp_path / "head").iterdir()) == [
        "example.safetensors",
        "head.safetensors",
        "history.json",
        "recipe.json",
        "seal.json",
    ]
    assert verify(tmp_path / "head") == []
    assert json.loads((tmp_path / "head/recipe.json").read_text())["format"] == "mil.head"
