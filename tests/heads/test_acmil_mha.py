"""ACMIL-MHA and MHA: golden numbers of the published code, and keys and values per tile."""

import math

import pytest
import torch
from torch.nn import functional

from mil.bags import MASKED, Bags, HeadOutput, join, log_attention, per_bag
from mil.errors import ConfigError
from mil.heads import build_head
from mil.losses import attention_entropy, branch_cross_entropy, branch_diversity, cross_entropy

SUB = [
    [1.88903982464674, -0.08741047153173755, -1.7488508222539232],
    [0.17585045506003624, -1.3278460180170435, -0.3598917142464261],
]
BAG = [0.3377547832733203, 0.35305860052212423, -1.0208237774066746]
LABEL = torch.tensor([1])
SIZES = [12, 1, 7]


def published_order(branches):
    """Names of our tensors in the published order; attention layers as q, k, v, out, norm."""
    rows = [(f"attention.{i}", f"branch_values.{i}") for i in range(branches)]
    layers = [
        f"{part}"
        for score, value in rows
        for part in (f"{score}.query", f"{score}.key", *layers_of(value))
    ]
    layers += [*layers_of("values"), *(f"branch_classify.{i}" for i in range(branches)), "classify"]
    return [
        "queries",
        "reduce.0.weight",
        *(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")),
    ]


def layers_of(values):
    return [f"{values}.value", f"{values}.out", f"{values}.norm"]


def golden_head(dtype=torch.float64, **options):
    """Tensor t holds 0.5 sin(1 + index + 10 t)."""
    head = build_head(
        "acmil_mha", {"hidden": 8, "branches": 2, **options}, dim=6, classes=3
    ).double()
    tensors = head.state_dict()
    names = published_order(2)
    assert sorted(names) == sorted(tensors)
    for t, name in enumerate(names):
        index = torch.arange(tensors[name].numel(), dtype=torch.float64)
        tensors[name].copy_((0.5 * torch.sin(1 + index + 10 * t)).reshape(tensors[name].shape))
    return head.to(dtype)


def golden_bag(dtype=torch.float64):
    index = torch.arange(30, dtype=torch.float64).reshape(5, 6)
    return join([torch.cos(index).to(dtype)])


def random_head(name="acmil_mha", **options):
    torch.manual_seed(0)
    head = build_head(name, {"hidden": 16, "heads": 4, **options}, dim=6, classes=3).double()
    with torch.no_grad():  # queries that say something
        (head.query if name == "mha" else head.queries).normal_(std=3.0)
    return head


def random_bags(sizes=SIZES):
    made = torch.Generator().manual_seed(1)
    return join([torch.randn(n, 6, generator=made, dtype=torch.float64) for n in sizes])


def attended(score, query, values, hidden, mask=lambda scores: scores):
    """One branch as published: keys and values tile by tile, heads by reshaping.

    Returns scores [heads, tiles] and the row.
    """
    heads = score.heads
    width = hidden.shape[1] // score.heads
    q = score.query(query).reshape(heads, 1, width)
    k = score.key(hidden).reshape(-1, heads, width).transpose(0, 1)
    scores = mask((q @ k.transpose(1, 2) / math.sqrt(width))[:, 0])  # [heads, tiles]
    return scores, finished(values, scores.softmax(-1), hidden)


def finished(values, attention, hidden):
    heads = len(attention)
    v = (
        values.value(hidden).reshape(len(hidden), heads, -1).transpose(0, 1)
    )  # [heads, tiles, width]
    row = values.out((attention[:, None] @ v)[:, 0].reshape(-1))
    return values.norm(functional.dropout(row[None], values.dropout.p, values.training))[0]


def published(head, features, mask=lambda scores: scores):
    """ACMIL-MHA of one bag: branch logits, bag logits, scores [heads, tiles] of each branch."""
    hidden = head.reduce(features)
    found = []
    logits = []
    for i, query in enumerate(head.queries):
        scores, row = attended(head.attention[i], query, head.branch_values[i], hidden, mask)
        found.append(scores)
        logits.append(head.branch_classify[i](row))
    mean = torch.stack([scores.softmax(-1) for scores in found]).mean(0)
    return torch.stack(logits), head.classify(finished(head.values, mean, hidden)), torch.cat(found)


def published_mask(scores):
    """One draw of torch.rand(heads, k): the first 60 % in ascending order are masked."""
    k = min(10, scores.shape[1])
    highest = scores.topk(k).indices
    drawn = torch.rand(len(scores), k).argsort(-1)[:, : int(k * 0.6)]
    return scores.scatter(1, highest.gather(1, drawn), MASKED)


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
def test_golden_numbers(dtype, close):
    out = golden_head(dtype).eval()(golden_bag(dtype))
    for got, want in [(out.branch_logits[0], SUB), (out.logits[0], BAG)]:
        torch.testing.assert_close(
            got.double(), torch.tensor(want, dtype=torch.float64), rtol=0, atol=close
        )
    assert out.scores.shape == (5, 16)
    assert out.attention_heads == 8


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-8), (torch.float32, 1e-5)], ids=str
)
def test_golden_losses(dtype, close):
    bags = golden_bag(dtype)
    out = golden_head(dtype).eval()(bags)
    assert branch_cross_entropy(out, bags, LABEL).item() == pytest.approx(2.11236113, abs=close)
    assert cross_entropy(out, bags, LABEL).item() == pytest.approx(0.80555358, abs=close)
    assert branch_diversity(out, bags, LABEL).item() == pytest.approx(0.99683083, abs=close)


def test_number_of_parameters():
    head = build_head("acmil_mha", {"hidden": 128}, dim=384, classes=2)
    assert sum(p.numel() for p in head.parameters()) == 416_140


@pytest.mark.parametrize("sizes", [[12], [1], [12, 1, 7]], ids=str)
def test_equal_to_keys_and_values_made_tile_by_tile(sizes):
    head = random_head(branches=3).eval()
    bags = random_bags(sizes)
    out = head(bags)
    scores_of = per_bag(out.scores, bags.offsets)
    for b, features in enumerate(per_bag(bags.features, bags.offsets)):
        branch_logits, logits, want = published(head, features)
        torch.testing.assert_close(out.branch_logits[b], branch_logits, rtol=0, atol=1e-12)
        torch.testing.assert_close(out.logits[b], logits, rtol=0, atol=1e-12)
        torch.testing.assert_close(
            scores_of[b].T, want, rtol=0, atol=1e-12
        )  # column = branch * heads + head


def test_gradients_are_those_of_keys_and_values_made_tile_by_tile():
    head = random_head(branches=2).eval()
    bags = random_bags([9])
    out = head(bags)
    (out.branch_logits.square().sum() + out.logits.square().sum()).backward()
    got = {name: p.grad.clone() for name, p in head.named_parameters()}
    head.zero_grad()
    branch_logits, logits, _ = published(head, bags.features)
    (branch_logits.square().sum() + logits.square().sum()).backward()
    for name, p in head.named_parameters():
        torch.testing.assert_close(got[name], p.grad, rtol=1e-10, atol=1e-12)


def test_random_numbers_are_drawn_in_the_published_order():
    head = random_head(branches=3, mask_top=10, mask_share=0.6, dropout=0.1).train()
    bags = random_bags([14])
    torch.manual_seed(7)
    out = head(bags)
    torch.manual_seed(7)
    branch_logits, logits, scores = published(head, bags.features, published_mask)
    torch.testing.assert_close(out.scores.T, scores, rtol=0, atol=1e-12)
    torch.testing.assert_close(out.branch_logits[0], branch_logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(out.logits[0], logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "masked"), [(14, 6), (7, 4), (1, 0)])
def test_each_head_of_each_branch_masks_its_own(size, masked):
    head = random_head(branches=2).train()
    bags = random_bags([size, 3])
    torch.manual_seed(0)
    mask = head(bags).scores[:size] == MASKED
    assert mask.sum(0).tolist() == [masked] * 8
    if size == 14:
        assert len({tuple(column) for column in mask.T.tolist()}) > 4
    assert not (head.eval()(bags).scores == MASKED).any()


def test_in_training_a_bag_does_not_see_its_neighbours():
    head = random_head(branches=2, dropout=0.0, mask_top=2, mask_share=1.0).train()
    bags = random_bags()
    out = head(bags)
    for b, features in enumerate(per_bag(bags.features, bags.offsets)):
        alone = head(join([features]))
        torch.testing.assert_close(out.logits[b], alone.logits[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(out.branch_logits[b], alone.branch_logits[0], rtol=0, atol=1e-12)


def test_the_bag_has_values_of_its_own():
    head = random_head(branches=2).eval()
    bags = random_bags([9])
    before = head(bags)
    with torch.no_grad():
        head.values.value.weight.mul_(-3)
    after = head(bags)
    assert torch.equal(before.branch_logits, after.branch_logits)
    assert (before.logits - after.logits).abs().max() > 1e-2


def test_one_branch_without_masking_is_mha():
    one = random_head(branches=1, mask_top=0).eval()
    bags = random_bags()
    mha = random_head("mha").eval()
    renamed = {
        name.replace("attention.0.", "attention."): tensor
        for name, tensor in one.state_dict().items()
    }
    renamed["query"] = renamed.pop("queries")
    mha.load_state_dict(
        {name: tensor for name, tensor in renamed.items() if not name.startswith("branch_")}
    )
    out = one(bags)
    torch.testing.assert_close(out.logits, mha(bags).logits, rtol=0, atol=1e-14)
    assert out.branch_logits is None
    labels = torch.tensor([0, 1, 2])
    assert (
        branch_diversity(out, bags, labels).item()
        == branch_cross_entropy(out, bags, labels).item()
        == 0.0
    )


def test_tensors_of_mha_are_the_published_ones():
    head = build_head("mha", {"hidden": 128}, dim=384, classes=2)
    square = [(128, 128), (128,)]
    want = [(1, 128), (128, 384), *square * 4, (128,), (128,), (2, 128), (2,)]
    assert [tuple(tensor.shape) for tensor in head.state_dict().values()] == want
    assert 0 < head.query.abs().max() < 1e-5
    assert head.values.norm.eps == 1e-6


def test_mha_is_one_published_branch():
    head = random_head("mha").eval()
    bags = random_bags()
    out = head(bags)
    for b, features in enumerate(per_bag(bags.features, bags.offsets)):
        scores, row = attended(head.attention, head.query[0], head.values, head.reduce(features))
        torch.testing.assert_close(out.logits[b], head.classify(row), rtol=0, atol=1e-12)
        torch.testing.assert_close(
            per_bag(out.scores, bags.offsets)[b].T, scores, rtol=0, atol=1e-12
        )


def test_entropy_of_mha_is_the_mean_over_its_heads():
    head = random_head("mha", hidden=16, heads=8).eval()
    bags = random_bags([9])
    out = head(bags)
    assert out.scores.shape == (9, 8)
    a = out.scores.T.softmax(-1)
    want = (a * a.log()).sum() / 8
    assert attention_entropy(out, bags, LABEL).item() == pytest.approx(want.item(), rel=1e-12)


def test_diversity_compares_a_head_with_the_same_head_of_the_other_branch():
    sharp = 99.0 * torch.eye(4)  # attention on tile 0, 1, 2, 3
    one = sharp[[0, 1]]  # two heads of the first branch
    for other, want in [(sharp[[0, 1]], 1.0), (sharp[[1, 0]], 0.0), (sharp[[0, 2]], 0.5)]:
        out = HeadOutput(torch.zeros(1, 2), torch.cat([one, other]).T, attention_heads=2)
        assert branch_diversity(out, join([torch.zeros(4, 1)]), LABEL).item() == pytest.approx(
            want, abs=1e-6
        )


@pytest.mark.parametrize("name", ["acmil", "acmil_mha"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_masks_and_stays_finite(name, dtype):
    torch.manual_seed(0)
    head = build_head(name, {"hidden": 16, "branches": 2}, dim=6, classes=3).to(dtype).train()
    bags = Bags(random_bags().features.to(dtype), random_bags().offsets)
    out = head(bags)
    assert (out.scores == MASKED).any()
    torch.testing.assert_close(
        log_attention(out.scores, bags.offsets).exp().sum(0),
        torch.full((out.scores.shape[1],), 3.0),
    )
    labels = torch.tensor([0, 1, 2])
    terms = cross_entropy, branch_cross_entropy, branch_diversity, attention_entropy
    sum(term(out, bags, labels) for term in terms).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_equal_tiles_and_all_masked_tiles_count_the_same():
    head = random_head(branches=2, dropout=0.0, mask_top=10, mask_share=1.0).train()
    row = random_bags([1])
    many = head(join([row.features.expand(5, -1)]))
    assert (many.scores == MASKED).all()
    torch.testing.assert_close(many.logits, head.eval()(row).logits, rtol=0, atol=1e-12)


def test_width_is_a_multiple_of_the_heads():
    assert build_head("acmil_mha", {}, dim=12, classes=2).classify.in_features == 8
    assert build_head("mha", {}, dim=1, classes=2).classify.in_features == 8
    assert build_head("mha", {}, dim=384, classes=2).classify.in_features == 192
    with pytest.raises(
        ConfigError, match=r"head mha: options: .*hidden must be a multiple of heads \(8\), not 100"
    ):
        build_head("mha", {"hidden": 100}, dim=384, classes=2)
