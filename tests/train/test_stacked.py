"""Several heads trained at once are those that are trained apart."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from mil.bags import HeadOutput, join, per_bag
from mil.config import LossWeight, TrainConfig, config_path, load_recipe
from mil.errors import ConfigError
from mil.heads import TwoStage, UsesGraph, build_head
from mil.losses import total_loss
from mil.tasks import CLASSES, Classification
from mil.train.data import LabelledBag, batches, with_graphs
from mil.train.loop import DivergedError, TrainingData, fit
from mil.train.random_state import RandomState
from mil.train.stack import Stack
from mil.train.stack_size import can_stack, choose_size
from mil.train.stacked import fit_stack
from mil.train.state import Checkpoint
from tests.synthetic import planted_bags
from tests.train.test_resume import killed_after

CPU = torch.device("cpu")
DIM = 16
SEEDS = (11, 12, 13)
CROSS_ENTROPY = {"cross_entropy": LossWeight(start=1.0)}
FAST = ("acmil", "clam_sb")
# The number of their edges is drawn, or their selection is an operation of its own.
NOT_STACKED = ("graph_select", "graph_select_acmil", "graph_select_no_graph")
# Fitted to all bags at once, without steps.
AT_ONCE = ("knn", "linear_probe", "linear_probe_std")
RECIPES = [
    pytest.param(path.stem, marks=[] if path.stem in FAST else [pytest.mark.slow])
    for path in sorted(config_path("heads").glob("*.yaml"))
    if path.stem not in AT_ONCE
]
MIXERS = ("full", "agent", "neighbourhood", "dynamic_mask", "nystrom", "hyper")
OTHERS = [recipe.values[0] for recipe in RECIPES if recipe.values[0] != "acmil"]
STACKED = [recipe for recipe in RECIPES if recipe.values[0] not in NOT_STACKED]
# With all that a step may have: a last step of fewer bags, batches whose gradients add
# up, and draws that the heads share.
HOW = TrainConfig(
    epochs=3, batch_bags=2, accumulate=2, lr=1e-3, clip_norm=1.0, max_tiles=9, feature_dropout=0.1
)


def on_a_grid(tiles):
    """Corners of tiles, six in a row."""
    return torch.tensor([(number % 6, number // 6) for number in range(tiles)]) * 256


def study(count=10, tiles=12):
    """7 training and 3 validation bags."""
    bags = [
        LabelledBag(f"s{i}", torch.from_numpy(features), on_a_grid(tiles), torch.tensor(label))
        for i, (features, label) in enumerate(planted_bags(count, tiles, DIM))
    ]
    task = Classification(classes=("normal", "tumour"), positive="tumour")
    return TrainingData(
        task=task,
        train=bags[:7],
        train_labels=[str(int(bag.label)) for bag in bags[:7]],
        valid=bags[7:],
        device=CPU,
    )


def heads_of(recipe, count=3):
    """Heads that differ in their initialisation, ready to be trained."""
    settings = load_recipe(recipe)
    options = settings.options | {"hidden": 16}
    if settings.name == "graph_select":
        # Fewer than a bag has: else all tiles are selected.
        options |= {"keep_least": 4}
    heads = []
    for seed in range(count):
        torch.manual_seed(seed)
        head = build_head(settings.name, options, dim=DIM, classes=2)
        if isinstance(head, TwoStage):
            head.follow(head.first_stage(), (bags for bags, _ in batches(study().train, 1, CPU)))
        heads.append(head)
    return heads


def graphs_for(head, data):
    if not isinstance(head, UsesGraph):
        return data
    return replace(data, train=with_graphs(data.train, head), valid=with_graphs(data.valid, head))


def apart(heads, data, losses, config):
    results = []
    for head, seed in zip(heads, SEEDS, strict=True):
        torch.manual_seed(seed)
        results.append(fit(head, data, losses, config, seed=5))
    return results


def together(heads, data, losses, config, **others):
    return fit_stack(heads, data, losses, config, seed=5, head_seeds=SEEDS, **others)


def assert_same_history(one, other, tolerance):
    assert one.best_epoch == other.best_epoch
    for epochs, others in ((one.train, other.train), (one.valid, other.valid)):
        assert len(epochs) == len(others)
        for values, other_values in zip(epochs, others, strict=True):
            assert values == pytest.approx(other_values, abs=tolerance)


@pytest.mark.parametrize("recipe", STACKED)
def test_losses_and_gradients_of_a_stack_are_those_of_its_heads(recipe):
    settings = load_recipe(recipe)
    weights = {name: weight.start for name, weight in settings.losses.items()}
    heads = [head.double() for head in heads_of(recipe)]
    features = [torch.randn(tiles, DIM).double() for tiles in (23, 40)]
    bags = join(features, [on_a_grid(tiles) for tiles in (23, 40)])
    labels = torch.tensor([1, 0])
    alone = deepcopy(heads)
    stack = Stack(heads, [RandomState(seed, CPU) for seed in SEEDS], settings.train)
    losses, terms = stack.losses(weights, bags, labels, CLASSES)
    stack.backward(losses)
    for i, (head, seed) in enumerate(zip(alone, SEEDS, strict=True)):
        torch.manual_seed(seed)
        loss, own_terms = total_loss(weights, head.train()(bags), bags, labels)
        loss.backward()
        assert losses[i].item() == pytest.approx(loss.item(), rel=1e-12)
        for name, term in own_terms.items():
            assert terms[name][i].item() == pytest.approx(term.item(), rel=1e-12, abs=1e-14)
        for name, parameter in head.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(
                    stack.gradients[name][i], parameter.grad, rtol=1e-10, atol=1e-13
                )


# With restarts side by side in the fast forms, which compute in float64 if asked.
@pytest.mark.parametrize("options", [{}, {"query_heads": 4, "key_heads": 2}], ids=str)
@pytest.mark.parametrize(
    "attention", ["landmark", *(pytest.param(name, marks=pytest.mark.slow) for name in MIXERS)]
)
def test_attention_of_a_stack_is_that_of_its_heads(attention, options, monkeypatch):
    every = lambda *_, **__: "cpu"  # noqa: E731
    monkeypatch.setattr("mil.kernels.bag_attn.choose_backend", every)
    monkeypatch.setattr("mil.kernels.window_attn.choose_backend", every)
    mix = {"attention": attention, "heads": 4, **options}
    heads = []
    for seed in range(len(SEEDS)):
        torch.manual_seed(seed)
        built = build_head("mixed_abmil", {"hidden": 16, "mix": mix}, dim=DIM, classes=2)
        heads.append(built.double())
    sizes = (23, 1, 60)
    features = [torch.randn(tiles, DIM).double() for tiles in sizes]
    bags = join(features, [on_a_grid(tiles) for tiles in sizes])
    alone = deepcopy(heads)
    stack = Stack(heads, [RandomState(seed, CPU) for seed in SEEDS], HOW)
    weights, labels = {"cross_entropy": 1.0}, torch.tensor([1, 0, 1])
    losses, _ = stack.losses(weights, bags, labels, CLASSES)
    stack.backward(losses)
    for i, (head, seed) in enumerate(zip(alone, SEEDS, strict=True)):
        torch.manual_seed(seed)
        loss, _ = total_loss(weights, head.train()(bags), bags, labels)
        loss.backward()
        assert losses[i].item() == pytest.approx(loss.item(), rel=1e-12)
        for name, parameter in head.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(
                    stack.gradients[name][i], parameter.grad, rtol=1e-11, atol=1e-12
                )


@pytest.mark.parametrize(
    "recipe", ["acmil", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_heads_trained_together_are_those_trained_apart(recipe):
    settings = load_recipe(recipe)
    one_by_one = heads_of(recipe)
    at_once = heads_of(recipe)
    data = graphs_for(at_once[0], study())
    expected = apart(one_by_one, data, settings.losses, HOW)
    random_state = torch.get_rng_state()
    results = together(at_once, data, settings.losses, HOW)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert can_stack(at_once[0], data, settings.losses, HOW) == (recipe not in NOT_STACKED)
    tolerance = 0.0 if recipe in NOT_STACKED else 1e-5
    bags, _ = next(batches(data.valid, 3, CPU))
    for head, other, result, wanted in zip(at_once, one_by_one, results, expected, strict=True):
        assert_same_history(result.history, wanted.history, tolerance)
        with torch.no_grad():
            # Some weights change no prediction, such as a bias before a softmax: what
            # AdamW makes of their gradient's rounding is no difference.
            last = [each.eval()(bags).logits for each in (head, other)]
            head.load_state_dict(result.weights)
            other.load_state_dict(wanted.weights)
            selected = [each.eval()(bags).logits for each in (head, other)]
        torch.testing.assert_close(*last, rtol=0, atol=tolerance)
        torch.testing.assert_close(*selected, rtol=0, atol=tolerance)


def test_stacks_within_a_small_memory_give_the_same(monkeypatch):
    expected = together(heads_of("abmil"), study(), CROSS_ENTROPY, HOW)
    monkeypatch.setattr("mil.train.stack_size.STACK_BYTES", 80_000)
    heads = heads_of("abmil")
    assert choose_size(heads, study(), CROSS_ENTROPY, HOW).heads == 2
    for result, wanted in zip(together(heads, study(), CROSS_ENTROPY, HOW), expected, strict=True):
        assert_same_history(result.history, wanted.history, 1e-6)


def test_large_bags_are_computed_head_by_head(monkeypatch):
    monkeypatch.setattr("mil.train.stack_size.LARGEST_HEAD_BYTES", 1000)
    heads = heads_of("abmil")
    assert choose_size(heads, study(), CROSS_ENTROPY, HOW).heads == 1
    expected = apart(heads_of("abmil"), study(), CROSS_ENTROPY, HOW)
    for result, wanted in zip(together(heads, study(), CROSS_ENTROPY, HOW), expected, strict=True):
        assert_same_history(result.history, wanted.history, 0.0)


@pytest.mark.parametrize("recipe", ["abmil", pytest.param("graph_select", marks=pytest.mark.slow)])
def test_a_head_that_diverges_spoils_no_other(recipe):
    heads = heads_of(recipe)
    expected = apart(deepcopy(heads[:1]) + heads_of(recipe)[1:], study(), CROSS_ENTROPY, HOW)
    with torch.no_grad():
        heads[1].classify.weight.fill_(torch.inf)
    results = together(heads, study(), CROSS_ENTROPY, HOW)
    assert [result.failed for result in results] == [False, True, False]
    assert results[1].history.best_score == -torch.inf
    for i in (0, 2):
        assert_same_history(results[i].history, expected[i].history, 1e-5)


def test_all_heads_that_diverge_are_one_line():
    heads = heads_of("abmil")
    with torch.no_grad():
        for head in heads:
            head.classify.weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match=r"^training, epoch 1: the loss is not a number; lower"):
        together(heads, study(), CROSS_ENTROPY, HOW)


@pytest.mark.slow
def test_each_head_waits_for_its_own_better_epoch():
    config = HOW.model_copy(update={"epochs": 30, "lr": 3e-2, "patience": 3})
    one_by_one = heads_of("abmil")
    at_once = heads_of("abmil")
    expected = apart(one_by_one, study(), CROSS_ENTROPY, config)
    results = together(at_once, study(), CROSS_ENTROPY, config)
    lengths = [len(result.history.train) for result in results]
    assert lengths == [len(wanted.history.train) for wanted in expected]
    assert len(set(lengths)) > 1
    for head, other, result, wanted in zip(at_once, one_by_one, results, expected, strict=True):
        assert_same_history(result.history, wanted.history, 1e-3)
        torch.testing.assert_close(head.classify.weight, other.classify.weight, rtol=0, atol=1e-2)


def test_without_validation_bags_the_last_epoch_is_selected():
    data = replace(study(), valid=[])
    heads = heads_of("mean")
    for head, result in zip(heads, together(heads, data, CROSS_ENTROPY, HOW), strict=True):
        assert result.history.best_epoch == HOW.epochs
        for name, tensor in head.state_dict().items():
            assert torch.equal(tensor, result.weights[name])


def test_heads_have_tensors_of_their_own_afterwards():
    heads = heads_of("mean")
    together(heads, study(), CROSS_ENTROPY, HOW)
    addresses = {head.classify[0].weight.untyped_storage().data_ptr() for head in heads}
    assert len(addresses) == 3
    assert (
        heads[0].classify[0].weight.untyped_storage().nbytes() == heads[0].classify[0].weight.nbytes
    )


@pytest.mark.parametrize("recipe", ["acmil", pytest.param("graph_select", marks=pytest.mark.slow)])
def test_killed_and_resumed_the_heads_are_those_of_an_undisturbed_training(
    recipe, tmp_path: Path, monkeypatch, capfd
):
    monkeypatch.setattr("mil.train.state.EVERY_S", 0.0)
    losses = load_recipe(recipe).losses
    config = HOW.model_copy(update={"patience": 2, "lr": 3e-2, "epochs": 4})
    undisturbed = heads_of(recipe)
    expected = together(undisturbed, study(), losses, config)

    def checkpoint():
        return Checkpoint(tmp_path / "checkpoint.safetensors", {"recipe": recipe}, "train")

    # A stack takes a step for all heads, single heads one each.
    steps = 2 * 2 * (1 if recipe == "acmil" else 3)
    with killed_after(steps + 1):
        together(heads_of(recipe), study(), losses, config, checkpoint=checkpoint())
    resumed = heads_of(recipe)
    reported = []
    results = together(
        resumed,
        study(),
        losses,
        config,
        checkpoint=checkpoint(),
        report=lambda histories: reported.append([len(each.train) for each in histories]),
    )
    assert "train: resumes after epoch 2 of 4, from " in capfd.readouterr().err
    assert reported[0] == [2, 2, 2]
    for head, other, result, wanted in zip(resumed, undisturbed, results, expected, strict=True):
        assert result.history == wanted.history
        for name, tensor in other.state_dict().items():
            assert torch.equal(head.state_dict()[name], tensor)
            assert torch.equal(result.weights[name], wanted.weights[name])


class Odd(nn.Module):
    """Mean pooling with something that a stack cannot do."""

    def __init__(self, kind):
        super().__init__()
        self.classify = nn.Linear(DIM, 2)
        self.kind = kind
        self.calls = 0

    def forward(self, bags):
        rows = torch.stack([rows.mean(0) for rows in per_bag(bags.features, bags.offsets)])
        logits = self.classify(rows)
        if self.kind == "reads a value" and float(logits.sum()) > 0:
            logits = logits * 2
        if self.kind == "draws by an unknown function" and self.training:
            logits = functional.feature_alpha_dropout(logits, training=True)
        if self.kind == "counts its calls":
            self.calls += 1
            logits = logits * self.calls
        return HeadOutput(logits, bags.features[:, :1])


@pytest.mark.parametrize(
    ("kind", "stacked"),
    [
        ("plain", True),
        ("draws by an unknown function", False),
        pytest.param("reads a value", False, marks=pytest.mark.slow),
        pytest.param("counts its calls", False, marks=pytest.mark.slow),
    ],
)
def test_a_head_whose_code_cannot_be_stacked_is_trained_all_the_same(kind, stacked):
    def heads():
        made = []
        for seed in range(3):
            torch.manual_seed(seed)
            made.append(Odd(kind))
        return made

    assert can_stack(heads()[0], study(), CROSS_ENTROPY, HOW) == stacked
    expected = apart(heads(), study(), CROSS_ENTROPY, HOW)
    for result, wanted in zip(
        together(heads(), study(), CROSS_ENTROPY, HOW), expected, strict=True
    ):
        assert_same_history(result.history, wanted.history, 1e-6 if stacked else 0.0)


def test_what_no_trial_met_costs_time_alone(monkeypatch):
    """A few small bags first, whose tiles are all selected; a selection in the others."""

    def heads():
        settings = load_recipe("graph_select_no_graph")
        made = []
        for seed in range(3):
            torch.manual_seed(seed)
            made.append(build_head(settings.name, settings.options, dim=DIM, classes=2))
        return made

    data = study(tiles=30)
    small = [replace(bag, features=bag.features[:16]) for bag in data.train[:2]]
    data = replace(data, train=[*small, *data.train[2:]])
    config = HOW.model_copy(update={"max_tiles": None, "epochs": 1})
    assert can_stack(heads()[0], data, CROSS_ENTROPY, config)
    expected = apart(heads(), data, CROSS_ENTROPY, config)
    for result, wanted in zip(
        together(heads(), data, CROSS_ENTROPY, config), expected, strict=True
    ):
        assert_same_history(result.history, wanted.history, 0.0)


def test_terms_that_no_head_has_are_one_line():
    with pytest.raises(ConfigError, match="this head has no output for these terms"):
        together(heads_of("abmil"), study(), {"branch_cross_entropy": LossWeight(start=1.0)}, HOW)
