"""What a recipe may say of training: each option does what it says, and nothing when it is off."""

import json

import pytest
import torch

from mil.bags import join
from mil.config import LossWeight, TrainConfig, checked
from mil.errors import ConfigError
from mil.graph import knn_graph
from mil.heads import build_head
from mil.tasks import CLASSES
from mil.train.data import LabelledBag
from mil.train.loop import TrainingData, fit
from mil.train.optim import AdamW, learning_rate
from mil.train.precision import choose_dtype, forward_autocast
from mil.train.sampling import (
    bags_per_epoch,
    drop_features,
    epoch_order,
    sample_tiles,
    training_batches,
)
from tests.messages import one_line

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def labelled(count, tiles=6, dim=8, seed=0):
    draw = generator(seed)
    return [
        LabelledBag(f"s{i}", torch.randn(tiles, dim, generator=draw), None, torch.tensor(i % 2))
        for i in range(count)
    ]


class InOrder(TrainingData):
    """Bags in their own order, in float64, with validation metrics of the test's own."""

    metrics = staticmethod(lambda _: {})

    def batches(self, config, rng):
        for start in range(0, len(self.train), config.batch_bags):
            group = self.train[start : start + config.batch_bags]
            yield (
                join([bag.features.double() for bag in group]),
                torch.stack([bag.label for bag in group]),
            )

    def validate(self, head, select):
        return type(self).metrics(head)


def trained(bags, losses=("cross_entropy",), validate=lambda _: {}, **settings):
    """A small gated attention head after training in the bags' own order, and the result."""
    config = TrainConfig(**{"epochs": 3, "lr": 1e-2, "select": "last", **settings})
    torch.manual_seed(0)
    head = build_head("abmil", {"hidden": 4, "attention": 4}, dim=8, classes=2).double()
    kind = type("Scripted", (InOrder,), {"metrics": staticmethod(validate)})
    data = kind(task=CLASSES, train=bags, train_labels=["a"] * len(bags), valid=bags, device=CPU)
    weights = {name: LossWeight(start=1.0, end=0.5) for name in losses}
    return head, fit(head, data, weights, config, seed=0)


@pytest.mark.parametrize("count", [12, 11, 9, 7])
@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_accumulated_batches_are_as_one_large_batch(count, clip_norm):
    """Also where the last step, or the last batch, has fewer bags."""
    bags = labelled(count)
    losses = ("cross_entropy", "attention_entropy")
    small, _ = trained(
        bags, losses, batch_bags=2, accumulate=3, clip_norm=clip_norm, warmup_epochs=1
    )
    large, _ = trained(bags, losses, batch_bags=6, clip_norm=clip_norm, warmup_epochs=1)
    other, _ = trained(bags, losses, batch_bags=2, clip_norm=clip_norm, warmup_epochs=1)
    for one, two in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(large.classify.weight, other.classify.weight, atol=1e-6)


def test_the_learning_rate_is_set_at_each_step(monkeypatch):
    rates = []
    monkeypatch.setattr(AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]))
    trained(labelled(8), batch_bags=2, accumulate=2, warmup_epochs=1)
    config = TrainConfig(epochs=3, lr=1e-2, warmup_epochs=1)
    assert rates == pytest.approx(
        [learning_rate(config, at) for at in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)], abs=1e-18
    )
    assert rates[:3] == [0.0, 5e-3, 1e-2]


def test_the_optimiser_is_that_of_torch_to_the_last_bit():
    torch.manual_seed(0)
    ours, torchs = (torch.nn.Linear(5, 3) for _ in range(2))
    torchs.load_state_dict(ours.state_dict())
    unused = torch.nn.Parameter(torch.ones(2))
    one = AdamW([*ours.parameters(), unused], lr=1e-2, weight_decay=0.1)
    two = torch.optim.AdamW([*torchs.parameters(), unused], lr=1e-2, weight_decay=0.1, fused=True)
    for number in range(7):
        x = torch.randn(4, 5)
        for head, optimiser in ((ours, one), (torchs, two)):
            optimiser.zero_grad()
            optimiser.param_groups[0]["lr"] = 1e-2 / (number + 1)
            head(x).square().sum().backward()
            optimiser.step()
        assert all(
            torch.equal(a, b) for a, b in zip(ours.parameters(), torchs.parameters(), strict=True)
        )
    assert torch.equal(unused, torch.ones(2))


def test_balanced_sampling_draws_each_label_equally_often():
    labels = ["a"] * 7 + ["b"] * 2 + ["c"] * 3
    config = TrainConfig(sampling="balanced")
    draw = generator()
    counts = torch.zeros(12, dtype=torch.int64)
    for _ in range(100):
        order = epoch_order(labels, config, draw)
        assert len(order) == bags_per_epoch(labels, config) == 12
        assert [sum(labels[i] == name for i in order) for name in "abc"] == [4, 4, 4]
        assert [order.count(i) for i in (7, 8)] == [2, 2]
        counts += torch.bincount(torch.tensor(order), minlength=12)
    assert counts[:7].min() > 40  # 400 draws of 7 bags: none is forgotten
    assert epoch_order(labels, config, generator(3)) == epoch_order(labels, config, generator(3))


def test_without_balance_each_bag_comes_once_in_the_order_it_always_had():
    labels = ["a", "b"] * 5
    assert (
        epoch_order(labels, TrainConfig(), generator(1))
        == torch.randperm(10, generator=generator(1)).tolist()
    )
    assert bags_per_epoch(labels, TrainConfig()) == 10


def test_a_step_sees_at_most_so_many_tiles_with_their_coordinates_and_edges():
    features = torch.randn(30, 4, generator=generator())
    coords = torch.stack([torch.arange(30), torch.arange(30) * 2], 1)
    bag = LabelledBag(
        "s", features, coords, torch.tensor(1), knn_graph(features, 5, torch.zeros(4))
    )
    few = sample_tiles(bag, 12, generator(5))
    rows = few.coords[:, 0]
    assert len(rows) == 12
    assert torch.equal(rows, rows.unique())  # in their order, none twice
    assert torch.equal(few.features, features[rows])
    edges = set(
        zip(
            bag.graph.sources.tolist(),
            bag.graph.targets.tolist(),
            bag.graph.kinds.tolist(),
            strict=True,
        )
    )
    expected = {edge for edge in edges if edge[0] in rows and edge[1] in rows}
    remaining = list(
        zip(
            rows[few.graph.sources].tolist(),
            rows[few.graph.targets].tolist(),
            few.graph.kinds.tolist(),
            strict=True,
        )
    )
    assert set(remaining) == expected
    assert remaining == sorted(remaining, key=lambda edge: (edge[1], edge[0]))
    assert sum(source == target for source, target, _ in remaining) == 12
    assert sample_tiles(bag, 30, generator()) is sample_tiles(bag, None, generator()) is bag


def test_dropped_dimensions_are_zero_in_the_whole_bag_and_the_rest_keeps_the_mean():
    features = torch.ones(3, 4000)
    dropped = drop_features(features, 0.25, generator())
    assert (dropped == dropped[:1]).all()
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert dropped[0].mean() == pytest.approx(1.0, abs=0.03)
    assert (dropped[0] == 0).float().mean() == pytest.approx(0.25, abs=0.03)


def test_augmentation_is_seeded_and_new_at_each_epoch():
    bags = labelled(4)
    labels = list("abab")
    config = TrainConfig(max_tiles=3, feature_dropout=0.5, batch_bags=4)
    draw = generator(1)
    again = generator(1)
    ((one, _),) = training_batches(bags, labels, config, CPU, draw)
    ((same, _),) = training_batches(bags, labels, config, CPU, again)
    ((two, _),) = training_batches(bags, labels, config, CPU, draw)
    assert torch.equal(one.features, same.features)
    assert one.features.shape == two.features.shape == (12, 8)
    assert not torch.equal(one.features == 0, two.features == 0)


def test_validation_sees_all_tiles_and_features(small, monkeypatch):
    seen = {True: set(), False: set()}
    forward = torch.nn.Module.__call__

    def look(self, *given):
        if hasattr(given[0], "offsets"):
            seen[self.training].add(
                (len(given[0].features), bool((given[0].features == 0).all(0).any()))
            )
        return forward(self, *given)

    monkeypatch.setattr(torch.nn.Module, "__call__", look)
    monkeypatch.setattr(
        "mil.train.result.write_manifest", lambda _: None
    )  # which applies the head to a bag of its own
    small.train("acmil", "epochs: 3, max_tiles: 5, feature_dropout: 0.3")
    # Four bags of 12 tiles go through together.
    assert seen == {True: {(5, True)}, False: {(48, False)}}


def scores(*values):
    left = iter(values)
    return lambda _: {"score": float(next(left))}


@pytest.mark.parametrize(("patience", "epochs", "best"), [(2, 5, 3), (3, 9, 6), (None, 10, 10)])
def test_training_stops_after_so_many_epochs_without_a_better_one(patience, epochs, best):
    score = scores(1, 2, 5, 4, 5, 6, 1, 1, 1, 9)  # to be as good as the best is not to be better
    _, done = trained(labelled(2), validate=score, epochs=10, select="loss", patience=patience)
    assert len(done.history.train) == epochs
    assert done.history.best_epoch == best


def test_the_learning_rate_falls_as_if_nothing_stopped_it(monkeypatch):
    rates = []
    monkeypatch.setattr(AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]))
    trained(
        labelled(2), validate=scores(5, 1, 1, 1), epochs=10, select="loss", patience=2, batch_bags=2
    )
    assert rates == [
        learning_rate(TrainConfig(epochs=10, lr=1e-2), epoch) for epoch in (0.0, 1.0, 2.0)
    ]


def test_patience_without_a_score_is_one_line(small):
    with pytest.raises(
        ConfigError,
        match=r"acmil\.yaml: train\.patience: must be empty where select is last, not 3",
    ):
        small.train("acmil", "select: last, patience: 3")


@pytest.mark.parametrize(
    "wrong",
    [
        {"accumulate": 0},
        {"max_tiles": 0},
        {"feature_dropout": 1.0},
        {"sampling": "even"},
        {"patience": 0},
        {"class_weights": "equal"},
        {"precision": "fp8"},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with one_line(ConfigError, match=f"^here: {next(iter(wrong))}: "):
        checked(TrainConfig, wrong, "here")


def test_class_weights_are_those_of_the_training_slides(small):
    plain = small.train("acmil", "epochs: 1", "plain")
    weighted = small.train("acmil", "epochs: 1, class_weights: balanced", "weighted")
    assert plain.task.weights is None
    labels = [
        row.split(",")[3]
        for row in (small.folder / "folds.csv").read_text().splitlines()
        if ",train" in row
    ]
    counts = [labels.count(name) for name in ("normal", "tumour")]
    assert weighted.task.weights == [8 / (2 * count) for count in counts]
    assert (
        json.loads(small.files("weighted")["recipe.json"])["task"]["weights"]
        == weighted.task.weights
    )


def test_fp16_without_a_gpu_is_one_line(small):
    with pytest.raises(
        ConfigError, match=r"train\.precision: fp16 needs a GPU, .* set bf16, auto or fp32$"
    ):
        small.train("acmil", "precision: fp16")
    assert not (small.folder / "head").exists()


@pytest.mark.parametrize("name", ["abmil", "acmil", "clam_sb", "dsmil", "dtfd", "mhim", "transmil"])
def test_heads_answer_in_fp16_with_full_results(name):
    torch.manual_seed(0)
    head = build_head(name, {}, dim=64, classes=2).train()
    out = forward_autocast(head, join([torch.randn(40, 64).half()]))
    assert out.logits.dtype == out.scores.dtype == torch.float32
    assert out.logits.isfinite().all()


def test_fp16_scales_the_loss_and_gives_the_gradients_back_unscaled():
    """The scaler alone, in float64 on the CPU: the same training, to the last digits."""
    bags = labelled(6)
    plain, _ = trained(bags, batch_bags=2, accumulate=2, clip_norm=0.01)
    scaled, done = trained(bags, batch_bags=2, accumulate=2, clip_norm=0.01, precision="fp16")
    for one, two in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)
    assert choose_dtype("fp32", CPU) == torch.float32
    assert len(done.history.train) == 3
