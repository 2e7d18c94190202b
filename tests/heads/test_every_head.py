"""A new head is tested here by existing."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from mil.bags import Bags, join, per_bag
from mil.config import config_path, load_recipe
from mil.errors import ConfigError
from mil.heads import (
    Division,
    FitProblem,
    FitsAtOnce,
    FollowsSteps,
    RemovesTiles,
    TwoStage,
    UsesGraph,
    build_head,
    head_module,
    head_names,
)
from mil.losses import total_loss
from mil.statistics.discrimination import auroc
from tests.synthetic import planted_bags

# Presets of another recipe's head, and heads that take seconds a training.
SLOW_RECIPES = {
    "abmil_probe",
    "knn",
    "linear_probe_std",
    "acmil_2023_11",
    "acmil_2024_07",
    "acmil_2024_10",
    "acmil_mha",
    "dtfd",
    "transmil",
    "ep_frozen",
    "ep_published",
    "lama",
    "mixed_agent",
    "mixed_dynamic_mask",
    "mixed_full",
    "gaam",
    "mixed_hyper",
    "mixed_landmark",
    "mixed_neighbourhood",
    "mixed_nystrom",
    "mixed_uniform",
    "abmil_experts",
    "aem_camelyon16",
    "aem_camelyon17",
    "aem_lbc",
    "graph_select",
    "graph_select_acmil",
    "graph_select_no_graph",
}
RECIPES = [
    pytest.param(path.stem, marks=[pytest.mark.slow] if path.stem in SLOW_RECIPES else [])
    for path in sorted(config_path("heads").glob("*.yaml"))
]
# Heads whose reducer is a mixture of experts must pass as well.
WITH_EXPERTS = ("abmil", "acmil", "clam_sb", "mha", "mixed_abmil", "transmil", "mean")
HEADS = [
    *(pytest.param(name, {}, id=name) for name in head_names()),
    *(pytest.param(name, {"project": "experts"}, id=f"{name}_experts") for name in WITH_EXPERTS),
]
BAGS = join([torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (4, 1, 5)])


def planted(seed):
    features, labels = zip(*planted_bags(count=100, tiles=8, push=8.0, seed=seed), strict=True)
    grid = torch.tensor([(n % 4, n // 4) for n in range(8)]) * 256
    bags = join([torch.from_numpy(bag) for bag in features], [grid] * 100)
    return bags, torch.tensor(labels)


def learn(head, bags, labels, weights):
    optimiser = torch.optim.AdamW([p for p in head.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        total_loss(weights, head.train()(bags), bags, labels)[0].backward()
        optimiser.step()
        if isinstance(head, FollowsSteps):
            head.after_step()


@torch.no_grad()
def fit_at_once(head, bags, labels):
    loss = partial(cross_entropy, reduction="none")
    numbers = range(len(labels))
    divisions = [
        Division([n for n in numbers if n % 5 != part], [n for n in numbers if n % 5 == part])
        for part in range(5)
    ]
    head.fit_rows(head.rows(bags).double(), FitProblem(labels, loss, divisions))


def has_hidden(name):
    return "hidden" in head_module(name).Config.model_fields


def head_of(name, options):
    torch.manual_seed(0)
    return build_head(name, options, dim=16, classes=3).eval()


@pytest.mark.parametrize(("name", "options"), HEADS)
def test_order_of_tiles_does_not_matter(name, options):
    head = head_of(name, options)
    if getattr(head, "ordered", False):
        pytest.skip("this head reads tiles as a sequence")
    shuffled = Bags(BAGS.features[[3, 1, 0, 2, 4, 9, 8, 7, 6, 5]], BAGS.offsets)
    torch.testing.assert_close(head(BAGS).logits, head(shuffled).logits)


@pytest.mark.parametrize(("name", "options"), HEADS)
def test_a_bag_does_not_see_its_neighbours(name, options):
    head = head_of(name, options)
    alone = Bags(BAGS.features[5:], torch.tensor([0, 5]))
    torch.testing.assert_close(head(BAGS).logits[2:], head(alone).logits)
    torch.testing.assert_close(head(BAGS).scores[5:], head(alone).scores)


@pytest.mark.parametrize(("name", "options"), HEADS)
def test_attention_changes_the_answer(name, options):
    head = head_of(name, options)
    if not hasattr(head, "attention"):
        pytest.skip("this head has no attention")
    before = head(BAGS).logits
    with torch.no_grad():
        for parameter in head.attention.parameters():
            parameter.mul_(5)
    assert (head(BAGS).logits - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", head_names())
def test_unknown_option_is_one_line(name):
    known = "did you mean 'hidden'" if has_hidden(name) else "there are: "
    with pytest.raises(ConfigError, match=f"hiden.*{known}"):
        build_head(name, {"hiden": 3}, dim=4, classes=2)


def test_unknown_head_lists_the_heads():
    with pytest.raises(
        ConfigError, match=r"did you mean 'abmil'\? there are: .*abmil, abmil_probe, acmil"
    ):
        build_head("abmli", {}, dim=4, classes=2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_learns_to_find_one_planted_tile(recipe):
    settings = load_recipe(recipe)
    bags, labels = planted(seed=1)
    small = {"hidden": 32} if has_hidden(settings.name) else {}
    if "mask_top" in settings.options:
        small["mask_top"] = 2  # the bags are small, too
    torch.manual_seed(0)
    head = build_head(
        settings.name, settings.options | small, dim=bags.features.shape[1], classes=2
    )
    if isinstance(head, TwoStage):
        torch.manual_seed(0)  # with others ABMIL learns these bags by heart
        first = head.first_stage()
        learn(first, bags, labels, {"cross_entropy": 1.0})
        head.follow(first.eval(), [bags])
    if isinstance(head, UsesGraph):
        head.see_training([bags])
    if isinstance(head, FitsAtOnce):
        fit_at_once(head.eval(), bags, labels)
    else:
        learn(head, bags, labels, {name: weight.start for name, weight in settings.losses.items()})
    fresh, truth = planted(seed=2)
    logits = head.eval()(fresh).logits.detach().numpy()
    # With context a head learns these hundred bags by heart sooner.
    # A mean of 8 tiles holds an eighth of the planted one; and distances of means count
    # every direction alike, of which one in 16 holds the planted tile.
    least = {"mixed_abmil": 0.85, "linear_probe": 0.9, "knn": 0.8}.get(settings.name, 0.97)
    assert auroc(truth.numpy(), logits[:, 1] - logits[:, 0]) >= least
    if isinstance(head, RemovesTiles) and settings.name != "knn":
        assert_planted_tile_is_first(head, fresh, truth, logits)


@torch.inference_mode()
def assert_planted_tile_is_first(head, bags, labels, logits):
    """In bags that the head calls positive, the tile that makes them so has the largest effect."""
    called = (labels == 1).numpy() & (logits[:, 1] > logits[:, 0])
    first = []
    for bag in np.flatnonzero(called):
        features = per_bag(bags.features, bags.offsets)[bag]
        effect = head.remover()(join([features])).effect()
        first.append(int((effect[:, 1] - effect[:, 0]).argmax()) == int(features[:, 0].argmax()))
    assert np.mean(first) >= 0.95
