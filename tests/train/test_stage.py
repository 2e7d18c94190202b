"""From bags to a head's folder, and back."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mil.errors import ConfigError, DatasetError, FormatError, MilError
from mil.io.bags import read_bag
from mil.io.tables import read_csv, write_csv
from mil.train.stage import run as train
from mil.trained import apply, load_trained
from tests.messages import one_line
from tests.scored import evaluate
from tests.synthetic import bag_file, planted_bags

TASK = {"kind": "classification", "classes": ["normal", "tumour"], "positive": "tumour"}


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """The folder of a trained head; not to be changed."""
    study = make_study(tmp_path_factory.mktemp("trained"))
    fit(study)
    return study / "head"


@pytest.fixture
def fitted(study, trained_once):
    """A study whose head is trained: a copy, to be changed."""
    shutil.copytree(trained_once, study / "head")
    return study


def make_study(tmp_path):
    """24 bags with one planted tile in each positive one, a dataset and one fold of 12 / 6 / 6."""
    features, labels = zip(*planted_bags(seed=0), strict=True)
    names = ["normal", "tumour"]
    rows = []
    folds = []
    for i in range(24):
        slide = f"s{i:02d}"
        label = names[labels[i]]
        bag_file(tmp_path / "bags" / f"{slide}.h5", slide, features[i])
        rows.append({"slide": slide, "patient": slide, "label": label})
        split = "train" if i < 12 else "val" if i < 18 else "test"
        folds.append({"fold": 0, **rows[-1], "split": split})
    (tmp_path / "toy.yaml").write_text("classes: [normal, tumour]\n")
    (tmp_path / "fast.yaml").write_text(
        "name: acmil\nlosses: {cross_entropy: 1, branch_cross_entropy: 1, branch_diversity: 1}\n"
        "train: {epochs: 12, lr: 3.0e-3, batch_bags: 4}\n"
    )
    write_csv(tmp_path / "toy.csv", rows)
    write_csv(tmp_path / "folds.csv", folds)
    return tmp_path


def fit(study, out="head", seed=1, recipe="fast.yaml"):
    return train(
        str(study / "toy.yaml"),
        study / "bags",
        study / "folds.csv",
        study / out,
        recipe=str(study / recipe),
        fold=0,
        seed=seed,
        threads=1,
        device="cpu",
    )


def predict(study, out="evaluated", head="head"):
    return evaluate(
        str(study / "toy.yaml"),
        [study / head],
        study / "bags",
        study / "folds.csv",
        study / out,
        slides_dir=study,
        threads=1,
    )


def test_a_head_is_not_tested_on_the_slides_it_was_trained_with(fitted):
    rows = read_csv(fitted / "folds.csv")
    turned = [
        row | {"split": {"train": "test", "test": "train"}.get(row["split"], row["split"])}
        for row in rows
    ]
    write_csv(fitted / "folds.csv", turned)
    with one_line(
        DatasetError, match=r"fold 0 trains and validates on other slides than those fast seed 1"
    ):
        predict(fitted)
    assert not (fitted / "evaluated").exists()
    # Slides of another study, or a test set alone, are nothing that it could have seen.
    write_csv(fitted / "folds.csv", [row for row in rows if row["split"] == "test"])
    assert predict(fitted)["test"]["n_slides"] == 6
    write_csv(fitted / "folds.csv", turned)
    for name in ("toy.yaml", "toy.csv"):
        (fitted / name).rename(fitted / name.replace("toy", "other"))
    where = fitted / "bags", fitted / "folds.csv", fitted / "evaluated"
    found = evaluate(
        str(fitted / "other.yaml"), [fitted / "head"], *where, slides_dir=fitted, threads=1
    )
    assert found["test"]["n_slides"] == 12


@pytest.mark.parametrize("slide", ["s00", "s14", "s23"])
def test_a_label_of_no_class_is_one_line(fitted, slide):
    """In training, validation and test."""
    rows = read_csv(fitted / "folds.csv")
    write_csv(
        fitted / "folds.csv",
        [row | ({"label": "other"} if row["slide"] == slide else {}) for row in rows],
    )
    with pytest.raises(
        DatasetError,
        match=f"fold 0: {slide} has the label 'other'; the dataset's classes are: normal",
    ):
        (predict if slide == "s23" else fit)(fitted)


def exchanged_labels(study, slides):
    other = {"normal": "tumour", "tumour": "normal"}
    rows = read_csv(study / "folds.csv")
    changed = [
        row | ({"label": other[row["label"]]} if row["slide"] in slides else {}) for row in rows
    ]
    write_csv(study / "folds.csv", changed)


@pytest.mark.parametrize("slides", [["s00"], ["s15"], ["s23"]], ids=["train", "val", "test"])
def test_folds_that_contradict_the_slide_table_are_refused(study, slides):
    exchanged_labels(study, slides)
    with one_line(
        DatasetError, match=rf"1 slides have another label .* such as {slides[0]}: .* `mil split`"
    ):
        fit(study)
    assert not (study / "head").exists()


def test_exchanged_labels_are_not_evaluated(fitted):
    exchanged_labels(fitted, ["s20", "s21"])
    with one_line(DatasetError, match="2 slides have another label than in the slide table"):
        predict(fitted)
    assert not (fitted / "evaluated").exists()


def test_a_bag_of_another_slide_does_not_train(study):
    shutil.copy(study / "bags/s01.h5", study / "bags/s00.h5")
    with one_line(FormatError, match=r"s00\.h5: is the bag of slide 's01'"):
        fit(study)


def test_a_bag_whose_row_was_set_to_zero_does_not_train(study):
    with h5py.File(study / "bags/s00.h5", "r+") as file:
        file["features"][0] = 0
    with one_line(FormatError, match=r"s00\.h5: its features differ from their checksum"):
        fit(study)


def test_a_head_learns_and_predicts_unseen_slides(fitted):
    metrics = predict(fitted)
    assert metrics["test"]["auroc"]["value"] >= 0.95
    assert metrics["test"]["n_slides"] == 6
    rows = read_csv(fitted / "evaluated" / "predictions.csv")
    assert list(rows[0]) == [
        "slide",
        "patient",
        "split",
        "label",
        "p_normal",
        "p_tumour",
        "recipe",
        "encoder",
        "seed",
        "fold",
        "temperature",
        "threshold",
    ]
    assert len(rows) == 24
    assert all(
        float(r["p_normal"]) + float(r["p_tumour"]) == pytest.approx(1, abs=1e-7) for r in rows
    )


@pytest.mark.slow
def test_same_seed_gives_the_same_predictions_to_the_last_digit(fitted):
    """The head that is there was trained with seed 1."""
    fit(fitted, "again", seed=1)
    fit(fitted, "other", seed=2)
    texts = []
    for head in ("head", "again", "other"):
        predict(fitted, f"eval_{head}", head)
        texts.append((fitted / f"eval_{head}" / "predictions.csv").read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_the_folder_rebuilds_the_head(study):
    trained = fit(study)
    head, again = load_trained(study / "head")
    assert again == trained
    assert not head.training
    bag = read_bag(study / "bags" / "s00.h5")
    scores = apply(head, trained, bag)
    assert scores.attention.sum() == pytest.approx(1, abs=1e-6)
    assert scores.predictions.sum() == pytest.approx(1, abs=1e-6)
    history = json.loads((study / "head" / "history.json").read_text())
    assert len(history["train"]) == len(history["valid"]) == 12
    losses = [epoch["loss"] for epoch in history["valid"]]
    assert history["best_epoch"] == losses.index(min(losses)) + 1
    assert history["train"][-1]["loss"] < history["train"][0]["loss"]


@pytest.mark.slow
def test_a_head_learns_in_half_precision_too(study, trained_once):
    recipe = (study / "fast.yaml").read_text().replace("{epochs", "{precision: bf16, epochs")
    (study / "half.yaml").write_text(recipe)
    fit(study, recipe="half.yaml")
    head, trained = load_trained(study / "head")
    assert trained.recipe.train.precision == "bf16"
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}
    assert predict(study)["test"]["auroc"]["value"] >= 0.95
    full, _ = load_trained(trained_once)
    assert not torch.equal(head.classify.weight, full.classify.weight)


def test_test_slides_are_not_read_in_training(study):
    for row in read_csv(study / "folds.csv"):
        if row["split"] == "test":
            (study / "bags" / f"{row['slide']}.h5").unlink()
    assert fit(study).epoch >= 1


def test_invalid_tiles_are_left_out(fitted):
    head, trained = load_trained(fitted / "head")
    bag = read_bag(fitted / "bags" / "s01.h5")
    valid = np.ones(len(bag.features), bool)
    valid[2] = False
    spoiled = bag.features.copy()
    spoiled[2] = 1e4
    bag_file(fitted / "bags" / "bad.h5", "bad", spoiled, valid=valid)
    scores = apply(head, trained, read_bag(fitted / "bags" / "bad.h5"))
    assert len(scores.attention) == len(bag.features) - 1


def test_nan_in_a_bag_is_one_line(study):
    bag_file(study / "bags" / "s00.h5", "s00", np.full((3, 16), np.nan, np.float32))
    with pytest.raises(FormatError, match=r"s00\.h5: holds values that are not numbers"):
        fit(study)


def test_bags_of_several_widths_are_one_line(study):
    bag_file(study / "bags" / "s02.h5", "s02", np.ones((3, 15), np.float32))
    with one_line(FormatError, match=r"\.h5: 1[56] features per tile, but 1[56] in s\d\d\.h5"):
        fit(study)


def test_an_empty_bag_is_one_line(study):
    bag_file(study / "bags" / "s00.h5", "s00", np.empty((0, 16), np.float32))
    with pytest.raises(FormatError, match=r"s00\.h5: the bag has no tiles"):
        fit(study)


def test_a_missing_fold_is_one_line(study):
    with pytest.raises(DatasetError, match=r"fold 3 has no .*; folds that have some: 0$"):
        train(
            str(study / "toy.yaml"),
            study / "bags",
            study / "folds.csv",
            study / "h",
            recipe=str(study / "fast.yaml"),
            fold=3,
            seed=1,
            threads=1,
            device="cpu",
        )


def test_a_recipe_with_an_unknown_term_is_one_line(study):
    (study / "bad.yaml").write_text("name: abmil\nlosses: {cross_entropy: 1, entropy: 1}\n")
    with pytest.raises(MilError, match="no loss term named 'entropy'"):
        fit(study, recipe="bad.yaml")


@pytest.mark.parametrize("spoil", ["head.safetensors", "recipe.json"])
def test_a_spoilt_head_folder_is_one_line(fitted, spoil):
    (fitted / "head" / spoil).write_bytes(b"{}")
    with one_line(FormatError):
        load_trained(fitted / "head")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dim", "wide", "dim: "),
        ("dim", -1, "dim: .*greater than 0"),
        ("dim", 10**13, r"too large for this machine"),
        ("task", TASK | {"classes": "normal"}, r"task\W.*classes: "),
        ("fold", None, "fold: "),
        ("task", TASK | {"positive": "cyst"}, "'cyst'.* none of the classes"),
        ("recipe", {"name": "abmil"}, r"recipe\.losses: "),
        ("colour", "red", "no key named 'colour'"),
    ],
)
def test_a_recipe_json_that_says_what_cannot_be_is_one_line(
    trained_once, tmp_path, key, value, message
):
    head = shutil.copytree(trained_once, tmp_path / "copy")
    # As a head of an older version, whose files have no checksums.
    (head / "seal.json").unlink()
    path = head / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with one_line(FormatError, match=message):
        load_trained(head)


def test_weights_that_are_no_numbers_are_one_line(fitted):
    path = fitted / "head" / "head.safetensors"
    weights = load_file(path)
    weights["classify.weight"][1, 2] = torch.inf
    save_file(weights, path)
    (fitted / "head/seal.json").unlink()
    with one_line(FormatError, match=r"head\.safetensors: holds values that are not numbers"):
        load_trained(fitted / "head")


def test_new_settings_never_lie_beside_old_weights(fitted, monkeypatch):
    monkeypatch.setattr(
        "mil.trained.folder.save", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        fit(fitted, seed=2)
    with pytest.raises(FormatError, match=r"head\.safetensors"):
        load_trained(fitted / "head")


def test_a_pickle_is_never_opened(fitted):
    torch.save({"weights": torch.zeros(1)}, fitted / "head" / "head.safetensors")
    (fitted / "head/seal.json").unlink()
    with pytest.raises(FormatError, match=r"does not fit recipe\.json"):
        load_trained(fitted / "head")


def test_select_last_keeps_the_last_epoch(study):
    (study / "last.yaml").write_text(
        "name: abmil\nlosses: {cross_entropy: 1}\ntrain: {epochs: 3, select: last}\n"
    )
    assert fit(study, recipe="last.yaml").epoch == 3


def test_without_validation_slides_the_last_epoch_is_kept(study):
    rows = [row for row in read_csv(study / "folds.csv") if row["split"] != "val"]
    write_csv(study / "folds.csv", rows)
    assert fit(study).epoch == 12


def test_bags_of_other_weights_are_refused(fitted):
    spoilt = read_bag(fitted / "bags" / "s20.h5").features
    bag_file(fitted / "bags" / "s20.h5", "s20", spoilt, encoder={"weights_sha256": "other"})
    with pytest.raises(
        FormatError,
        match=r"s20\.h5: weights_sha256 is other, but .* in the features that fast was trained on",
    ):
        predict(fitted)
    bag_file(fitted / "bags" / "s03.h5", "s03", spoilt, encoder={"weights_sha256": "other"})
    with pytest.raises(FormatError, match=r"weights_sha256 is .*delete the bags of one of them"):
        fit(fitted)


@pytest.mark.parametrize("select", ["loss", "f1_auc", "last"])
@pytest.mark.parametrize("validated", [True, False])
def test_a_loss_that_is_no_number_is_one_line(study, select, validated):
    if not validated:
        write_csv(
            study / "folds.csv",
            [row for row in read_csv(study / "folds.csv") if row["split"] != "val"],
        )
    how = f"{{epochs: 3, lr: 1.0e+30, select: {select}}}"
    (study / "wild.yaml").write_text(f"name: abmil\nlosses: {{cross_entropy: 1}}\ntrain: {how}\n")
    with one_line(DatasetError, match=r"epoch \d: the loss is not a number; lower train\.lr"):
        fit(study, recipe="wild.yaml")
    assert not (study / "head").exists()


def test_a_validation_loss_that_is_no_number_is_one_line(study, monkeypatch):
    monkeypatch.setattr("mil.train.loop.validate", lambda *_: {"score": float("nan")})
    with pytest.raises(DatasetError, match=r"epoch 1: the loss is not a number; lower train\.lr"):
        fit(study)
    assert not (study / "head").exists()


def test_losses_that_teach_a_head_nothing_are_one_line(study):
    (study / "idle.yaml").write_text(
        "name: abmil\nlosses: {branch_diversity: 1, branch_cross_entropy: 1}\n"
    )
    with one_line(
        ConfigError, match=r"branch_diversity, branch_cross_entropy: .*; add cross_entropy"
    ):
        fit(study, recipe="idle.yaml")


def test_heads_of_two_recipes_are_not_averaged(fitted):
    study = fitted
    (study / "other.yaml").write_text((study / "fast.yaml").read_text())
    fit(study, out="second", recipe="other.yaml")
    with pytest.raises(
        DatasetError, match=r"second is of recipe other .* give heads of one recipe"
    ):
        evaluate(
            str(study / "toy.yaml"),
            [study / "head", study / "second"],
            study / "bags",
            study / "folds.csv",
            study / "out",
            slides_dir=study,
            threads=1,
        )
    assert not (study / "out").exists()


def test_another_table_than_the_folds_is_one_line(study):
    (study / "folds.csv").write_text("slide,label\ns00,normal\n")
    with pytest.raises(FormatError, match="line 2: not of a folds file"):
        fit(study)


def test_a_head_too_large_for_the_machine_is_one_line(study):
    (study / "wide.yaml").write_text(
        "name: abmil\noptions: {hidden: 1000000000000}\nlosses: {cross_entropy: 1}\n"
    )
    with pytest.raises(ConfigError, match="head abmil: too large for this machine"):
        fit(study, recipe="wide.yaml")
