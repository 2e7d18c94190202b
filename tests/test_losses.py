"""Loss terms: signs, bounds, gradients."""

import pytest
import torch
from torch import nn

from mil.bags import HeadOutput, join
from mil.config import LOSS_TERMS, load_recipe
from mil.errors import ConfigError
from mil.heads import build_head
from mil.kernels.attn_pool import attn_pool_with_stats
from mil.losses import (
    TERMS,
    attention_entropy,
    attention_entropy_share,
    branch_cross_entropy,
    branch_diversity,
    cross_entropy,
    full_cross_entropy,
    sufficiency,
    total_loss,
)

BAGS = join([torch.zeros(4, 1), torch.zeros(6, 1)])
LABELS = torch.tensor([0, 1])


def out_of(scores):
    return HeadOutput(torch.zeros(2, 2, dtype=scores.dtype), scores)


def test_entropy_of_uniform_attention_is_minus_log_n():
    value = attention_entropy(out_of(torch.zeros(10, 1)), BAGS, LABELS)
    assert value.item() == pytest.approx(-(torch.tensor([4.0, 6.0]).log().mean()).item(), rel=1e-6)


def test_entropy_of_abmil_is_the_plain_sum_over_its_tiles():
    head = build_head("abmil", {}, dim=6, classes=2).double().eval()
    bags = join(
        [torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))]
    )
    out = head(bags)
    a = out.scores[:, 0].softmax(0)
    assert attention_entropy(out, bags, LABELS[:1]).item() == pytest.approx(
        (a * a.log()).sum().item(), rel=1e-12
    )


@pytest.mark.parametrize(
    ("recipe", "weight"), [("camelyon16", 0.001), ("camelyon17", 0.1), ("lbc", 0.2)]
)
def test_published_weights_of_the_entropy(recipe, weight):
    found = load_recipe(f"aem_{recipe}")
    assert {name: (w.start, w.end) for name, w in found.losses.items()} == {
        "cross_entropy": (1.0, None),
        "attention_entropy": (weight, None),
    }
    how = found.train
    assert (how.epochs, how.lr, how.min_lr, how.weight_decay) == (50, 1e-4, 0.0, 1e-5)
    assert (how.batch_bags, how.select) == (1, "f1_auc")


def test_entropy_gradient_has_its_closed_form():
    scores = torch.randn(
        10, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    attention_entropy(out_of(scores), BAGS, LABELS).backward()
    for rows, grad in zip(scores.detach().split([4, 6]), scores.grad.split([4, 6]), strict=True):
        a = rows.softmax(0)
        entropy = -(a * a.log()).sum()
        torch.testing.assert_close(grad, a * (a.log() + entropy) / 2, rtol=0, atol=1e-15)


def test_a_step_down_the_entropy_term_spreads_attention():
    scores = nn.Parameter(
        torch.tensor([[4.0], [0.0], [0.0], [0.0], [3.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    )
    before = attention_entropy(out_of(scores), BAGS, LABELS)
    before.backward()
    with torch.no_grad():
        scores -= 0.5 * scores.grad
    assert attention_entropy(out_of(scores), BAGS, LABELS) < before


def test_entropy_is_finite_where_probabilities_underflow():
    scores = torch.tensor([[900.0], [0.0], [-1e9], [0.0], *[[0.0]] * 6]).requires_grad_()
    value = attention_entropy(out_of(scores), BAGS, LABELS)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize(("second", "want"), [([9.0, 0, 0, 0], 1.0), ([0.0, 0, 0, 99.0], 0.0)])
def test_diversity_is_one_for_equal_maps_and_zero_for_disjoint_ones(second, want):
    scores = torch.tensor([[9.0, 0, 0, 0], second]).T * torch.tensor(
        [11.0, 1.0 if want == 0 else 11.0]
    )
    bags = join([torch.zeros(4, 1)])
    value = branch_diversity(HeadOutput(torch.zeros(1, 2), scores), bags, LABELS[:1])
    assert value.item() == pytest.approx(want, abs=1e-6)


def test_diversity_is_the_mean_over_pairs():
    scores = torch.randn(10, 3, generator=torch.Generator().manual_seed(2))
    got = branch_diversity(out_of(scores), BAGS, LABELS)
    pairs = []
    for rows in scores.split([4, 6]):
        a = rows.softmax(0)
        pairs += [
            torch.cosine_similarity(a[:, i], a[:, j], dim=0) for i, j in [(0, 1), (0, 2), (1, 2)]
        ]
    assert got.item() == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-6)


@pytest.mark.parametrize("term", [attention_entropy, attention_entropy_share, branch_diversity])
@pytest.mark.parametrize("heads", [1, 2])
def test_statistics_of_the_attention_say_what_the_scores_say(term, heads):
    draw = torch.Generator().manual_seed(5)
    scores = torch.randn(10, 6, dtype=torch.float64, generator=draw).requires_grad_()
    _, stats = attn_pool_with_stats(scores, BAGS.features, BAGS.offsets)
    alone = out_of(scores)._replace(attention_heads=heads)
    given = out_of(torch.full_like(scores, torch.nan))._replace(
        attention_heads=heads, attention_stats=stats
    )
    found = []
    for out in (alone, given):  # the scores are not looked at again
        value = term(out, BAGS, LABELS)
        found.append((value, *torch.autograd.grad(value, scores)))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_branch_cross_entropy_is_the_mean_over_branches():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    out = HeadOutput(torch.zeros(2, 4), torch.zeros(10, 3), logits)
    want = torch.stack([nn.functional.cross_entropy(logits[:, i], LABELS) for i in range(3)]).mean()
    assert branch_cross_entropy(out, BAGS, LABELS).item() == pytest.approx(want.item(), rel=1e-6)


def test_entropy_as_a_share_weighs_large_bags_no_more():
    bags = join([torch.zeros(size, 1) for size in (4, 600, 1)])
    out = HeadOutput(torch.zeros(3, 2), torch.zeros(605, 1))
    value = attention_entropy_share(out, bags, torch.tensor([0, 1, 0]))
    assert value.item() == pytest.approx(
        -2 / 3, rel=1e-6
    )  # both are uniform, and one tile has no entropy


def selecting():
    """What selected tiles say, and what all tiles say, of two bags."""
    logits = torch.tensor([[1.0, 0.0], [0.5, 2.0]], requires_grad=True)
    full = torch.tensor([[3.0, 0.0], [0.0, -1.0]], requires_grad=True)
    return HeadOutput(logits, torch.zeros(10, 1), full_logits=full)


def test_full_cross_entropy_is_of_what_all_tiles_say():
    out = selecting()
    value = full_cross_entropy(out, BAGS, LABELS)
    p = out.full_logits.softmax(1)
    assert value.item() == pytest.approx(-(p[0, 0].log() + p[1, 1].log()).item() / 2, rel=1e-6)
    value.backward()
    assert out.logits.grad is None


def test_sufficiency_moves_the_selected_towards_all_and_not_the_other_way():
    out = selecting()
    value = sufficiency(out, BAGS, LABELS)
    p = out.logits.softmax(1)
    full = out.full_logits.softmax(1)
    assert value.item() == pytest.approx((full * (full / p).log()).sum().item() / 2, rel=1e-6)
    value.backward()
    torch.testing.assert_close(out.logits.grad, (p - full).detach() / 2)
    assert out.full_logits.grad is None


@pytest.mark.parametrize("term", ["full_cross_entropy", "sufficiency", "instance_cross_entropy"])
def test_a_term_that_a_head_gives_nothing_for_is_one_line(term):
    with pytest.raises(
        ConfigError, match=f"loss term {term}: .* take it out of the recipe, or use "
    ) as error:
        TERMS[term](out_of(torch.zeros(10, 1)), BAGS, LABELS)
    assert "\n" not in str(error.value)


def test_total_is_the_weighted_sum():
    out = HeadOutput(torch.tensor([[1.0, 0.0], [0.3, 0.2]]), torch.randn(10, 2))
    total, terms = total_loss({"cross_entropy": 2.0, "attention_entropy": 0.1}, out, BAGS, LABELS)
    want = 2 * cross_entropy(out, BAGS, LABELS) + 0.1 * attention_entropy(out, BAGS, LABELS)
    assert total.item() == pytest.approx(want.item(), rel=1e-6)
    assert set(terms) == {"cross_entropy", "attention_entropy"}


def test_recipes_are_checked_against_the_terms_that_exist():
    assert set(LOSS_TERMS) == set(TERMS)
