"""Rollout of trained heads: those that mix tiles have one, averages the mean, others none."""

import pytest
import torch

from mil.bags import attention, join
from mil.heads import build_head
from mil.score.flipping import flipped_by, flipped_logits
from mil.trained.assembled import assemble
from mil.trained.evidence import evidence_of
from mil.trained.forward import forward, rollout_of
from tests.evaluate.test_metrics import trained

BAG = join([torch.randn(6, 4, generator=torch.Generator().manual_seed(0))])


def mixed(seed=0, **options):
    torch.manual_seed(seed)
    given = {"hidden": 4, "mix": {"attention": "full", "heads": 2}} | options
    return build_head("mixed_abmil", given, dim=4, classes=2).eval()


def test_scores_of_a_head_that_mixes_have_both_maps():
    head = mixed()
    with torch.inference_mode():
        output, rolled = head(BAG), head.rollout(BAG)
    found = forward(head, trained(), BAG)
    assert found.rollout.tolist() == rolled.double().tolist()
    assert found.attention.tolist() == attention(output, BAG, 0).double().tolist()
    assert abs(found.rollout - found.attention).max() > 1e-3
    assert found.rollout.sum() == pytest.approx(1, abs=1e-6)


def test_the_mean_mix_gives_half_of_the_attention_and_half_of_the_uniform_one():
    found = forward(mixed(mix={"attention": "uniform", "heads": 2}), trained(), BAG)
    assert found.rollout == pytest.approx((found.attention + 1 / 6) / 2, abs=1e-6)


def test_an_average_has_the_mean_and_none_where_a_member_has_none():
    members = [mixed(0), mixed(1)]
    with torch.inference_mode():
        both = torch.stack([member.rollout(BAG) for member in members]).mean(0)
        torch.testing.assert_close(rollout_of(assemble(members), BAG), both)
        assert rollout_of(assemble([mixed(0), mixed(1, layers=0)]), BAG) is None


def test_heads_without_mixing_layers_have_none():
    plain = build_head("abmil", {"hidden": 4}, dim=4, classes=2).eval()
    for head in (plain, mixed(layers=0), assemble([plain, plain])):
        assert forward(head, trained(), BAG).rollout is None


@pytest.mark.slow
def test_patch_flipping_follows_the_order_of_the_rollout():
    from dataclasses import replace

    head, record = mixed(), trained()
    scores = forward(head, record, BAG)
    removals, evidence = evidence_of(head, None, BAG)
    scores = replace(scores, evidence=evidence)
    found = flipped_by("rollout", removals, record, scores)
    as_attention = replace(scores, attention=scores.rollout)
    expected = flipped_logits(removals, record, as_attention)[0]
    assert found.tobytes() == expected.tobytes()
    assert flipped_by("rollout", removals, record, replace(scores, rollout=None)) is None
