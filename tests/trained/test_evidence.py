"""Evidence by heads whose tiles attend to one another: estimated, and checked by removal."""

import numpy as np
import pytest
import torch

from mil.bags import Bags, join
from mil.heads import RemovesTiles, UsesGraph, head_names
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
ESTIMATED = ("dsmil", "dtfd", "graph_select", "transmil")


def trained_like(name, seed=1):
    """A head whose logits depend on its tiles, smoothly enough for a few points."""
    head = member_of(name, seed)
    for parameter in head.parameters():
        parameter.data.mul_(0.4)
    return head


def logits_of(head, numbers):
    return head(Bags(BAG.features[numbers], torch.tensor([0, len(numbers)]), BAG.coords[numbers]))


def test_all_heads_remove_tiles_or_are_estimated():
    removing = {n for n in head_names() if isinstance(member_of(n, 0), RemovesTiles)}
    assert removing.isdisjoint(ESTIMATED)
    assert removing.union(ESTIMATED) == set(head_names())


@pytest.mark.parametrize("name", ESTIMATED)
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
        assert torch.equal(kept.last[0], logits_of(head, numbers[:3]).logits[0].double())
        assert torch.equal(kept.first[1], logits_of(head, numbers[1:]).logits[0].double())
    np.testing.assert_allclose(evidence.alone, alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(evidence.removed_effect, effect, rtol=1e-4, atol=1e-6)
    assert len(np.unique(evidence.removed_tiles)) == 32
    assert all(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize("name", ["dsmil", "transmil"])
def test_integrated_gradients_sum_to_the_change_of_the_logits(name):
    head = trained_like(name)
    found = integrated_gradients([(head, BAG)])
    baseline = BAG.features.mean(0).expand(TILES, DIM)
    with torch.no_grad():
        change = head(BAG).logits[0] - head(BAG._replace(features=baseline)).logits[0]
    assert found.change.abs().max() > 1e-3
    torch.testing.assert_close(found.change, change.double())
    assert found.error <= gradients.TOLERANCE
    assert (found.of_tiles.sum(0) - change).abs().max() <= 0.0101 * change.abs().max()


@pytest.mark.parametrize("name", ["dsmil", "graph_select", "transmil"])
def test_integrated_gradients_are_captums(monkeypatch, name):
    attr = pytest.importorskip("captum.attr")
    head = trained_like(name)
    bag = BAG
    if isinstance(head, UsesGraph):
        bag = BAG._replace(graph=head.build_graph(BAG.features, BAG.coords))
    monkeypatch.setattr(gradients, "POINTS", (6,))
    found = integrated_gradients([(head, bag)])

    def logits(features):
        # Captum scales whole batches: one of `TILES` rows for each point.
        parts = features.split(TILES)
        return torch.cat([head(bag._replace(features=part)).logits for part in parts])

    oracle = attr.IntegratedGradients(logits)
    baseline = BAG.features.mean(0).expand(TILES, DIM)
    for output in range(3):
        expected = oracle.attribute(
            BAG.features,
            baseline,
            output,
            n_steps=6,
            method="gausslegendre",
            internal_batch_size=TILES,
        )
        torch.testing.assert_close(
            found.of_tiles[:, output].float(), expected.sum(1), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("name", ["dsmil", "graph_select"])
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
    for name in ESTIMATED:
        head = trained_like(name)
        one = Bags(BAG.features[:1], torch.tensor([0, 1]), BAG.coords[:1])
        removals, evidence = evidence_of(head, None, one)
        assert isinstance(removals, RunRemovals)
        np.testing.assert_allclose(evidence.alone, head(one).logits.detach(), rtol=1e-5)
        assert not evidence.effect.any()
        assert evidence.removed_tiles is None
        assert evidence.completeness_error == 0
