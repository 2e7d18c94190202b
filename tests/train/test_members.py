"""Restarts and inner folds: which trainings there are, which are kept, and what they become."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mil.bags import log_attention
from mil.errors import ConfigError
from mil.io.bags import read_bag
from mil.io.bags.patients import FoldBag
from mil.io.tables import read_csv, write_csv
from mil.train.inner import inner_folds, largest_count
from mil.train.job import SEED_STRIDE
from mil.train.members import HeadTraining, MemberTraining
from mil.train.restarts import kept_restarts
from mil.train.result import assembled_head
from mil.train.stacked import fit_stack
from mil.trained import MemberRecord, apply, load_trained
from mil.trained.assembled import average_outputs
from mil.trained.forward import tensors_of
from mil.trained.scaling import ZScore
from mil.trained.seal import verify
from tests.messages import one_line

HOW = "epochs: 3, lr: 1.0e-2, batch_bags: 3, max_tiles: 9"


def member(loss, restart=0):
    return MemberRecord(seed=1, part=0, restart=restart, epoch=1, validation_loss=loss)


def history(small, out="head"):
    return json.loads((small.folder / out / "history.json").read_text())


def weights(small, out="head", name="head.safetensors"):
    return load_file(small.folder / out / name)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("losses", "within", "kept"),
    [
        ([0.5, 0.2, 0.3], 0.0, [1]),
        ([0.5, 0.2, 0.3], 0.1, [1, 2]),
        ([0.2, 0.2, 0.2], 0.0, [0]),
        ([0.5, 0.2, 0.3], 9.0, [1, 2, 0]),
        ([None], 0.0, [0]),
        ([None, 0.4, 0.3], 0.0, [2]),
    ],
)
def test_restarts_of_least_validation_loss_are_kept(losses, within, kept):
    assert kept_restarts([member(loss) for loss in losses], within) == kept


def test_the_best_restart_is_the_head_and_has_the_format_of_a_single_training(small):
    trained = small.train("acmil", f"{HOW}, restarts: 3")
    losses = [m["valid"][m["best_epoch"] - 1]["loss"] for m in history(small)["members"]]
    best = losses.index(min(losses))
    assert [m["kept"] for m in history(small)["members"]] == [i == best for i in range(3)]
    assert trained.members == [
        MemberRecord(
            seed=1 + SEED_STRIDE * best,
            part=0,
            restart=best,
            epoch=trained.epoch,
            validation_loss=losses[best],
        )
    ]
    small.train("acmil", HOW, "plain")
    assert weights(small).keys() == weights(small, "plain").keys()
    assert load_trained(small.folder / "head")[1] == trained


def test_restarts_differ_in_initialisation_and_see_the_same_batches(small, monkeypatch):
    seeds = []

    def record(heads, *arguments, **settings):
        seeds.append((len(heads), settings["seed"], settings["head_seeds"]))
        return fit_stack(heads, *arguments, **settings)

    monkeypatch.setattr("mil.train.members.fit_stack", record)
    small.train("acmil", f"{HOW}, restarts: 3, keep_within: 9")
    assert seeds == [(3, 1, [1, 1 + SEED_STRIDE, 1 + 2 * SEED_STRIDE])]
    losses = [m["train"][0]["loss"] for m in history(small)["members"]]
    assert len(set(losses)) == 3


@pytest.mark.parametrize(
    "head",
    ["acmil", *(pytest.param(name, marks=pytest.mark.slow) for name in ("graph_select", "mhim"))],
)
def test_kept_restarts_predict_as_their_mean(small, head):
    trained = small.train(head, f"{HOW}, restarts: 3, keep_within: 9")
    assert len(trained.members) == 3
    assembled, again = load_trained(small.folder / "head")
    assert again == trained
    assert set(weights(small)) == {
        f"members.{i}.{name}" for i in range(3) for name in assembled.members[0].state_dict()
    }
    bags = tensors_of(read_bag(small.folder / "bags" / "s00.h5"))
    with torch.inference_mode():
        outputs = [one(bags) for one in assembled.members]
        whole = assembled(bags)
    torch.testing.assert_close(whole.logits, torch.stack([one.logits for one in outputs]).mean(0))
    attention = torch.stack(
        [log_attention(one.scores, bags.offsets).exp().mean(1) for one in outputs]
    ).mean(0)
    scores = apply(assembled, trained, read_bag(small.folder / "bags" / "s00.h5"))
    np.testing.assert_allclose(scores.attention, attention.numpy(), atol=1e-6)
    assert verify(small.folder / "head") == []


def test_the_members_of_inner_folds_are_those_trained_alone_with_their_seed(small):
    """The first one draws from the random state of a single training."""
    small.train("acmil", f"{HOW}, inner_folds: 2")
    rows = read_csv(small.folder / "folds.csv")
    labels = [row["label"] for row in rows]
    part = inner_folds(fold_bags(labels), labels, 2, seed=1)[0]
    for index, row in enumerate(rows):
        row["split"] = "val" if index in part.valid else "train"
    write_csv(small.folder / "folds.csv", rows)
    small.train("acmil", HOW, "alone")
    members = weights(small)
    alone = weights(small, "alone")
    assert same({key: members[f"members.0.{key}"] for key in alone}, alone)


def test_the_scaling_that_other_seeds_use_stays_on_the_cpu():
    scaling = ZScore(3)
    training = MemberTraining(member(0.1), torch.nn.Linear(3, 2), None, scaling)
    kept = HeadTraining([training], [training], torch.empty(0), torch.empty(0), [])
    head = assembled_head(kept, torch.device("meta"))
    assert head.scalings[0].mean.device.type == "meta"
    assert scaling.mean.device.type == "cpu"


def fold_bags(labels, patients=None, splits=None):
    names = [f"s{i:02d}" for i in range(len(labels))]
    patients = patients or names
    splits = splits or ["train"] * len(labels)
    return [
        FoldBag(0, name, (name,), patient, label, split)
        for name, patient, label, split in zip(names, patients, labels, splits, strict=True)
    ]


def test_inner_folds_keep_patients_whole_and_classes_in_proportion():
    labels = ["a"] * 12 + ["b"] * 6
    patients = [f"p{i // 2}" for i in range(18)]
    bags = fold_bags(labels, patients)
    assert largest_count(bags, labels) == 3
    parts = inner_folds(bags, labels, 3, seed=0)
    assert sorted(index for part in parts for index in part.valid) == list(range(18))
    for part in parts:
        assert sorted(part.train + part.valid) == list(range(18))
        assert [labels[index] for index in part.valid].count("b") == 2
        inside = {patients[index] for index in part.valid}
        assert not inside & {patients[index] for index in part.train}
    assert inner_folds(bags, labels, 3, seed=1) != parts
    assert inner_folds(bags, labels, 3, seed=0) == parts


def test_each_slide_is_validated_on_once_and_calibration_is_out_of_fold(small, monkeypatch):
    collected = []

    def record(logits, targets, task, patients):
        collected.append((logits, targets))

    monkeypatch.setattr("mil.train.result.calibrate", record)
    trained = small.train("acmil", f"{HOW}, inner_folds: 3")
    assert [(m.part, m.restart) for m in trained.members] == [(0, 0), (1, 0), (2, 0)]
    assert [m.seed for m in trained.members] == [1, 1 + SEED_STRIDE, 1 + 2 * SEED_STRIDE]
    logits, targets = collected[0]
    assert logits.shape == (12, 2)
    labels = [row["label"] for row in read_csv(small.folder / "folds.csv")]
    assert sorted(targets.tolist()) == sorted(int(label == "tumour") for label in labels)
    # Of a slide only the member that did not train on it is asked.
    assembled, _ = load_trained(small.folder / "head")
    bags = fold_bags(labels)
    parts = inner_folds(bags, labels, 3, seed=1)
    row = 0
    for part, head in zip(parts, assembled.members, strict=True):
        for index in part.valid:
            bag = tensors_of(read_bag(small.folder / "bags" / f"s{index:02d}.h5"))
            with torch.inference_mode():
                torch.testing.assert_close(head(bag).logits[0], logits[row])
            row += 1


def test_restarts_and_inner_folds_together(small):
    trained = small.train("acmil", f"{HOW}, inner_folds: 2, restarts: 2")
    assert [m.part for m in trained.members] == [0, 1]
    numbers = [2 * m.part + m.restart for m in trained.members]
    assert [m.seed for m in trained.members] == [1 + SEED_STRIDE * n for n in numbers]
    assert len(history(small)["members"]) == 4


def test_more_inner_folds_than_patients_are_fewer_and_said(small, capfd):
    trained = small.train("acmil", f"{HOW}, inner_folds: 9")
    rarest = min(
        [row["label"] for row in read_csv(small.folder / "folds.csv")].count(label)
        for label in ("normal", "tumour")
    )
    assert len(trained.members) == rarest
    assert f"train.inner_folds: {rarest} instead of 9" in capfd.readouterr().err


def test_one_patient_of_a_class_leaves_the_own_split(small, capfd):
    rows = read_csv(small.folder / "folds.csv")
    kept = [rows[0], *(row for row in rows if row["label"] != rows[0]["label"])]
    write_csv(small.folder / "folds.csv", kept)
    trained = small.train("acmil", f"{HOW}, inner_folds: 3")
    assert trained.members == []
    assert "too few patients of a class to divide" in capfd.readouterr().err


def test_without_validation_slides_there_is_nothing_to_choose_by(small, capfd):
    rows = [row for row in read_csv(small.folder / "folds.csv") if row["split"] != "val"]
    write_csv(small.folder / "folds.csv", rows)
    trained = small.train("acmil", f"{HOW}, restarts: 3")
    assert (trained.epoch, trained.members, trained.calibration) == (3, [], None)
    assert "train.restarts: one training" in capfd.readouterr().err


@pytest.mark.parametrize(("setting", "value"), [("restarts", 0), ("inner_folds", 1)])
def test_numbers_that_cannot_be_are_one_line(small, setting, value):
    with one_line(ConfigError, match=f"train.{setting}: "):
        small.train("acmil", f"{setting}: {value}")


@pytest.mark.parametrize(
    "head", ["acmil", "graph_select", pytest.param("ibmil", marks=pytest.mark.slow)]
)
def test_z_scores_are_those_of_the_training_tiles_and_stay_with_the_head(small, head):
    shifted = [read_bag(small.folder / "bags" / f"s{i:02d}.h5").features for i in range(8)]
    trained = small.train(head, f"{HOW}, zscore: true")
    saved = weights(small)
    tiles = np.concatenate(shifted).astype(np.float64)
    np.testing.assert_allclose(saved["scalings.0.mean"], tiles.mean(0), atol=1e-6)
    np.testing.assert_allclose(saved["scalings.0.deviation"], tiles.std(0), rtol=1e-6)
    assembled, _ = load_trained(small.folder / "head")
    bag = read_bag(small.folder / "bags" / "s09.h5")
    bags = tensors_of(bag)
    mean, deviation = saved["scalings.0.mean"], saved["scalings.0.deviation"]
    with torch.inference_mode():
        own = assembled.members[0](bags._replace(features=(bags.features - mean) / deviation))
        torch.testing.assert_close(assembled(bags).logits, own.logits)
    assert apply(assembled, trained, bag).attention.sum() == pytest.approx(1, abs=1e-6)
    assert verify(small.folder / "head") == []


@pytest.mark.parametrize("head", ["acmil", "graph_select"])
def test_a_head_on_whitened_features_takes_bags_as_they_are(small, head):
    trained = small.train(head, f"{HOW}, whiten: 4")
    saved = weights(small)
    assert saved["scalings.0.projection"].shape == (trained.dim, 4)
    assembled, _ = load_trained(small.folder / "head")
    bag = read_bag(small.folder / "bags" / "s09.h5")
    bags = tensors_of(bag)
    components = (bags.features - saved["scalings.0.mean"]) @ saved["scalings.0.projection"]
    with torch.inference_mode():
        own = assembled.members[0](bags._replace(features=components))
        torch.testing.assert_close(assembled(bags).logits, own.logits)
    assert apply(assembled, trained, bag).attention.sum() == pytest.approx(1, abs=1e-6)
    assert verify(small.folder / "head") == []


def test_more_components_than_features_are_the_features(small):
    trained = small.train("acmil", f"{HOW}, whiten: 4096")
    assert weights(small)["scalings.0.projection"].shape == (trained.dim, trained.dim)


def test_scaled_bags_that_do_not_fit_in_memory_change_no_bit(small, monkeypatch):
    small.train("acmil", f"{HOW}, whiten: 4, restarts: 2")
    monkeypatch.setattr("mil.train.fold.SCALED_SHARE", 0.0)
    small.train("acmil", f"{HOW}, whiten: 4, restarts: 2", "read_again")
    assert small.files() == small.files("read_again")


def test_whitening_and_z_scores_exclude_each_other(small):
    with one_line(ConfigError, match="zscore and whiten: choose one"):
        small.train("acmil", f"{HOW}, zscore: true, whiten: 4")


def test_a_killed_head_of_several_members_resumes_to_the_same_bits(small, monkeypatch, capfd):
    from tests.train.test_resume import killed_after

    monkeypatch.setattr("mil.train.state.EVERY_S", 0.0)
    how = f"{HOW}, restarts: 2, inner_folds: 2, keep_within: 9, zscore: true"
    small.train("acmil", how, "undisturbed")
    with killed_after(12):  # steps, when the first of four trainings is finished
        small.train("acmil", how)
    assert list((small.folder / "head").glob("checkpoint*"))
    small.train("acmil", how)
    assert "resumes after epoch 3 of 3" in capfd.readouterr().err
    assert small.files() == small.files("undisturbed")


def test_average_outputs_of_one_head_change_no_prediction(small):
    small.train("acmil", HOW)
    head, _ = load_trained(small.folder / "head")
    bags = tensors_of(read_bag(small.folder / "bags" / "s00.h5"))
    with torch.inference_mode():
        output = head(bags)
        assert torch.equal(average_outputs([output], bags.offsets).logits, output.logits)
