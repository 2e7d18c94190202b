"""Evidence by heads whose tiles attend to one another: estimated, and checked by removal."""

import numpy as np
import pytest
import torch

from mil.bags import Bags, join
from mil.heads import build_head
from mil.trained import evidence as evidence_module
from mil.trained import gradients
from mil.trained.assembled import assemble
from mil.trained.evidence import RunRemovals, evidence_of, remover_of
from mil.trained.gradients import integrated_gradients
from tests.trained.test_assembled import DIM, member_of, zscore_of

TILES = 40
BAG = join(
    [torch.randn(TILES, DIM, generator=torch.Generator().manual_seed(4))],
    [torch.stack([torch.arange(TILES) % 8, torch.arange(TILES) // 8], 1) * 224],
)
TRANSMIL = pytest.param("transmil", marks=pytest.mark.slow)
GRAPH_SELECT = pytest.param("graph_select", marks=pytest.mark.slow)


def trained_like(name, seed=1):
    """A head whose logits depend on its tiles, smoothly enough for a few points."""
    if name == "transmil":
        torch.manual_seed(seed)
        return build_head(name, {}, dim=DIM, classes=3).eval()
    head = member_of(name, seed)
    for parameter in head.parameters():
        parameter.data.mul_(0.4)
    return head


def logits_of(head, numbers):
    return head(Bags(BAG.features[numbers], torch.tensor([0, len(numbers)]), BAG.coords[numbers]))


@pytest.mark.parametrize("name", ["dsmil", "dtfd", GRAPH_SELECT, TRANSMIL])
def test_alone_and_removed_tiles_are_what_the_head_gives(name):
    head = trained_like(name)
    removals, evidence = evidence_of(head, remover_of(head), BAG)
    with torch.inference_mode():
        numbers = torch.arange(TILES)
        alone = torch.cat([logits_of(head, numbers[i : i + 1]).logits for i in range(TILES)])
        whole = head(BAG).logits[0]
        removed = [numbers[numbers != tile] for tile in evidence.removed_tiles]
        effect = torch.stack([whole - logits_of(head, rest).logits[0] for rest in removed])
        kept = removals.kept(numbers.flip(0), [3, 39])
        for ends, rest in ((kept.last[0], numbers[:3]), (kept.first[1], numbers[1:])):
            torch.testing.assert_close(ends.float(), logits_of(head, rest).logits[0])
    np.testing.assert_allclose(evidence.alone, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(evidence.removed_effect, effect, rtol=1e-4, atol=1e-6)
    assert len(np.unique(evidence.removed_tiles)) == 32
    assert all(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize("name", ["dsmil", "dtfd", GRAPH_SELECT, TRANSMIL])
def test_integrated_gradients_sum_to_the_change_of_the_logits(name):
    head = trained_like(name)
    found = integrated_gradients([(head, BAG)])
    assert found.change.abs().max() > 1e-3
    assert found.error <= gradients.TOLERANCE
    sums = found.of_tiles.sum(0)
    assert (sums - found.change).abs().max() <= 0.0101 * found.change.abs().max()


def test_the_change_is_from_a_bag_of_mean_tiles():
    head = trained_like("dsmil")
    baseline = BAG.features.mean(0).expand(TILES, DIM)
    with torch.no_grad():
        change = head(BAG).logits[0] - head(BAG._replace(features=baseline)).logits[0]
    found = integrated_gradients([(head, BAG)])
    torch.testing.assert_close(found.change, change.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dtfd", "graph_select"])
def test_choices_are_held_as_they_are_for_the_bag(name):
    """The function that is integrated is the head's own at the bag, and there has no jump."""
    head = trained_like(name)
    with torch.no_grad():
        held = head.logits_held(BAG)
        torch.testing.assert_close(held(BAG.features), head(BAG).logits)
    evidence = evidence_of(head, None, BAG)[1]
    # Tier 2 of DTFD sees the highest and the lowest tile of each of 4 pseudo-bags.
    assert np.count_nonzero(evidence.effect.any(1)) <= (8 if name == "dtfd" else TILES)


def test_more_points_until_the_sum_is_close_or_the_bag_is_large(monkeypatch):
    tried = []
    head = trained_like("dsmil")
    original = gradients._integrated
    monkeypatch.setattr(gradients, "TOLERANCE", -1.0)
    monkeypatch.setattr(gradients, "WORTHWHILE", np.inf)
    monkeypatch.setattr(
        gradients, "_integrated", lambda *args: tried.append(args[2]) or original(*args)
    )
    monkeypatch.setattr(gradients, "POINTS", (2, 3, 4))
    integrated_gradients([(head, BAG)])
    assert tried == [2, 3, 4]
    monkeypatch.setattr(gradients, "MOST_TILES", 3 * TILES)
    tried.clear()
    integrated_gradients([(head, BAG)])
    assert tried == [2, 3]
    monkeypatch.setattr(gradients, "TOLERANCE", 1e9)
    tried.clear()
    integrated_gradients([(head, BAG)])
    assert tried == [2]


def test_no_more_points_where_they_do_not_help(monkeypatch):
    """The error rises from 3 points to 4: those of 3 are kept."""
    errors = {2: 8.0, 3: 1.0, 4: 2.0, 5: 0.0}
    tried = []

    def integrated(head, bags, points):
        tried.append(points)
        return torch.full((1, 1), 10 + errors[points])

    monkeypatch.setattr(gradients, "POINTS", tuple(errors))
    monkeypatch.setattr(gradients, "_change", lambda head, bags: torch.full((1,), 10.0))
    monkeypatch.setattr(gradients, "_integrated", integrated)
    assert integrated_gradients([(None, BAG)]).error == pytest.approx(0.1)
    assert tried == [2, 3, 4]


def test_small_bags_are_computed_together(monkeypatch):
    head = trained_like("dsmil")
    together = evidence_of(head, None, BAG)[1]
    # As many points, and as many bags without a tile, as take two bags at a time.
    monkeypatch.setattr(gradients, "TILES_AT_ONCE", 2 * TILES)
    monkeypatch.setattr(evidence_module, "RUN_AT_ONCE", 2 * TILES)
    by_two = evidence_of(head, None, BAG)[1]
    np.testing.assert_allclose(by_two.effect, together.effect, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_two.removed_effect, together.removed_effect, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dsmil", "transmil"])
def test_integrated_gradients_are_captums(monkeypatch, name):
    attr = pytest.importorskip("captum.attr")
    head = trained_like(name)
    monkeypatch.setattr(gradients, "POINTS", (6,))
    found = integrated_gradients([(head, BAG)])

    def logits(features):
        # Captum lays the bags of all points end to end.
        return torch.cat([head(join([part])).logits for part in features.split(TILES)])

    oracle = attr.IntegratedGradients(logits)
    baseline = BAG.features.mean(0).expand(TILES, DIM)
    for output in range(3):
        expected = oracle.attribute(
            BAG.features, baseline, output, n_steps=6, internal_batch_size=TILES
        )
        torch.testing.assert_close(
            found.of_tiles[:, output].float(), expected.sum(1), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("name", ["dsmil", GRAPH_SELECT])
def test_members_are_averaged(name):
    members = [trained_like(name, seed) for seed in (1, 2)]
    scalings = [zscore_of(seed) for seed in (1, 2)]
    head = assemble(members, scalings).eval()
    _, evidence = evidence_of(head, remover_of(head), BAG)
    alone = []
    effect = []
    for member, zscore in zip(members, scalings, strict=True):
        own = BAG._replace(features=zscore(BAG.features))
        _, of_member = evidence_of(member, None, own)
        alone.append(of_member.alone)
        effect.append(of_member.effect)
    np.testing.assert_allclose(evidence.alone, np.mean(alone, axis=0), rtol=1e-4, atol=1e-6)
    if evidence.completeness_error <= gradients.TOLERANCE:
        np.testing.assert_allclose(
            evidence.effect, np.mean(effect, axis=0), rtol=0.02, atol=0.02 * np.ptp(effect)
        )


def test_a_bag_of_one_tile():
    for name in ("dsmil", "dtfd", "graph_select"):
        head = trained_like(name)
        one = Bags(BAG.features[:1], torch.tensor([0, 1]), BAG.coords[:1])
        removals, evidence = evidence_of(head, None, one)
        assert isinstance(removals, RunRemovals)
        np.testing.assert_allclose(evidence.alone, head(one).logits.detach(), rtol=1e-5)
        assert not evidence.effect.any()
        assert evidence.removed_tiles is None
        assert evidence.completeness_error == 0
