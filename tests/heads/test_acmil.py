"""ACMIL against golden numbers computed with the published code (RNG-free, float64)."""

import pytest
import torch

from mil.bags import MASKED, Bags, HeadOutput, join, log_attention
from mil.errors import ConfigError
from mil.heads import build_head
from mil.heads._stkim import mask_top
from mil.losses import attention_entropy, branch_cross_entropy, branch_diversity, cross_entropy

SUB = [
    [-0.27993740584494037, -0.6595729100881313, 0.6866861991257883],
    [-0.5020088162011257, 0.2267230445454269, 1.1182869359947352],
]
BAG = [-0.14000570231439446, 0.8519028286991001, 0.23412056932936903]
RAW = [
    [
        -0.23761838673445168,
        -0.1836034698709012,
        -0.16200749543272464,
        -0.1954905251689048,
        -0.25794779723858186,
    ],
    [
        -0.5739064524734957,
        -0.6743741076538754,
        -0.760724871227471,
        -0.7652167494803083,
        -0.7051058279511273,
    ],
]
MASKED_SUB = [
    [-0.24394654258573067, -0.6354484936794398, 0.6436751290604232],
    [-0.5106015072382751, 0.32172945892632243, 1.0992327540229736],
]
MASKED_BAG = [-0.09944701306241055, 0.8459552777417955, 0.19529261780811774]
LABEL = torch.tensor([1])


def golden_head(dtype=torch.float64, **options):
    """Tensor t is 0.5 sin(1 + index + 10 t).

    Order: reducer, V, U, w, branch classifiers, classifier.
    """
    head = build_head(
        "acmil", {"hidden": 8, "attention": 4, "branches": 2, **options}, dim=6, classes=3
    ).double()
    for t, tensor in enumerate(head.state_dict().values()):
        index = torch.arange(tensor.numel(), dtype=torch.float64)
        tensor.copy_((0.5 * torch.sin(1 + index + 10 * t)).reshape(tensor.shape))
    return head.to(dtype)


def golden_bag(dtype=torch.float64):
    index = torch.arange(30, dtype=torch.float64).reshape(5, 6)
    return join([torch.cos(index).to(dtype)])


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
def test_golden_numbers(dtype, close):
    out = golden_head(dtype).eval()(golden_bag(dtype))
    for got, want in [(out.branch_logits[0], SUB), (out.logits[0], BAG), (out.scores.T, RAW)]:
        torch.testing.assert_close(
            got.double(), torch.tensor(want, dtype=torch.float64), rtol=0, atol=close
        )


def test_golden_losses():
    bags = golden_bag()
    out = golden_head().eval()(bags)
    assert branch_cross_entropy(out, bags, LABEL).item() == pytest.approx(1.60388576, abs=1e-8)
    assert cross_entropy(out, bags, LABEL).item() == pytest.approx(0.6471069, abs=1e-7)
    assert branch_diversity(out, bags, LABEL).item() == pytest.approx(0.99551395, abs=1e-8)
    assert attention_entropy(out, bags, LABEL).item() == pytest.approx(-1.60786674, abs=1e-8)


def test_golden_numbers_with_the_highest_score_masked():
    head = golden_head(mask_top=1, mask_share=1.0).train()
    bags = golden_bag()
    out = head(bags)
    assert (out.scores == MASKED).sum(0).tolist() == [1, 1]
    torch.testing.assert_close(
        out.branch_logits[0], torch.tensor(MASKED_SUB).double(), rtol=0, atol=1e-7
    )
    torch.testing.assert_close(out.logits[0], torch.tensor(MASKED_BAG).double(), rtol=0, atol=1e-7)
    assert branch_cross_entropy(out, bags, LABEL).item() == pytest.approx(1.54390242, abs=1e-8)
    assert cross_entropy(out, bags, LABEL).item() == pytest.approx(0.64722009, abs=1e-8)
    assert branch_diversity(out, bags, LABEL).item() == pytest.approx(0.76255734, abs=1e-8)
    assert attention_entropy(out, bags, LABEL).item() == pytest.approx(-1.38569845, abs=1e-8)


@pytest.mark.parametrize(
    ("dim", "hidden", "classes", "branches", "count"),
    [(384, 128, 2, 5, 84_369), (512, 256, 3, 5, 202_135), (512, 256, 2, 2, 198_664)],
)
def test_number_of_parameters(dim, hidden, classes, branches, count):
    head = build_head("acmil", {"hidden": hidden, "branches": branches}, dim=dim, classes=classes)
    assert sum(p.numel() for p in head.parameters()) == count


@pytest.mark.parametrize(
    ("sizes", "top", "share", "masked"),
    [
        ([100, 7], 10, 0.6, [6, 4]),
        ([1], 10, 0.6, [0]),
        ([3], 10, 1.0, [3]),
        ([50], 10, 0.05, [0]),
        ([9], 0, 0.6, [0]),
    ],
)
def test_exactly_that_many_of_the_highest_scores_are_masked(sizes, top, share, masked):
    torch.manual_seed(0)
    bags = join([torch.zeros(n, 1) for n in sizes])
    scores = torch.randn(sum(sizes), 4)
    got = mask_top(scores, bags.offsets, top, share)
    for before, after, count in zip(scores.split(sizes), got.split(sizes), masked, strict=True):
        assert (after == MASKED).sum(0).tolist() == [count] * 4
        for branch in range(4):
            highest = set(before[:, branch].topk(min(top, len(before))).indices.tolist())
            assert set((after[:, branch] == MASKED).nonzero()[:, 0].tolist()) <= highest
    kept = got != MASKED
    assert torch.equal(got[kept], scores[kept])


@pytest.mark.parametrize(
    ("tiles", "most", "masked"), [(100, 0.01, 0), (1000, 0.01, 6), (300, 0.01, 1), (50, 1.0, 6)]
)
def test_in_small_bags_fewer_are_masked_if_the_recipe_says_so(tiles, most, masked):
    got = mask_top(torch.randn(tiles, 2), torch.tensor([0, tiles]), 10, 0.6, most)
    assert (got == MASKED).sum(0).tolist() == [masked] * 2


def test_masking_draws_as_the_published_code_does():
    scores = torch.randn(20, 2, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(5)
    got = mask_top(scores, torch.tensor([0, 20]), 10, 0.6)
    torch.manual_seed(5)
    order = torch.rand(2, 10).argsort(-1)[:, :6]
    for branch in range(2):
        highest = scores[:, branch].topk(10).indices
        want = set(highest[order[branch]].tolist())
        assert set((got[:, branch] == MASKED).nonzero()[:, 0].tolist()) == want


def test_branches_are_masked_independently_and_differently_each_time():
    torch.manual_seed(0)
    scores = torch.arange(30.0).reshape(30, 1).expand(30, 2)
    first, second = (mask_top(scores, torch.tensor([0, 30]), 10, 0.6) == MASKED for _ in range(2))
    assert not torch.equal(first[:, 0], first[:, 1])
    assert not torch.equal(first, second)


def test_a_bag_of_masked_tiles_has_uniform_attention_and_finite_losses():
    head = golden_head(mask_top=10, mask_share=1.0).train()
    bags = golden_bag()
    out = head(bags)
    torch.testing.assert_close(
        log_attention(out.scores, bags.offsets).exp(), torch.full((5, 2), 0.2).double()
    )
    total = (
        cross_entropy(out, bags, LABEL)
        + branch_diversity(out, bags, LABEL)
        + attention_entropy(out, bags, LABEL)
    )
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_masked_tiles_get_no_gradient_from_the_attention_terms():
    scores = torch.tensor([[3.0], [2.0], [1.0]], requires_grad=True)
    masked = scores.clone()
    masked = masked.masked_fill(torch.tensor([[True], [False], [False]]), MASKED)
    bags = Bags(torch.zeros(3, 1), torch.tensor([0, 3]))
    attention_entropy(HeadOutput(torch.zeros(1, 2), masked), bags, LABEL).backward()
    assert scores.grad[0].item() == 0.0
    assert scores.grad[1:].abs().min() > 0


def test_one_branch_without_masking_is_abmil():
    torch.manual_seed(0)
    one = build_head("acmil", {"branches": 1, "mask_top": 0}, dim=12, classes=2).double()
    abmil = build_head("abmil", {}, dim=12, classes=2).double()
    abmil.load_state_dict(
        {k: v for k, v in one.state_dict().items() if not k.startswith("branch_classify")}
    )
    bags = join([torch.randn(7, 12).double(), torch.randn(3, 12).double()])
    assert torch.equal(one(bags).logits, abmil(bags).logits)
    assert branch_diversity(one(bags), bags, torch.tensor([0, 1])).item() == 0.0
    assert branch_cross_entropy(one(bags), bags, torch.tensor([0, 1])).item() == 0.0


def test_bag_row_is_pooled_with_the_mean_attention():
    head = golden_head().eval()
    bags = golden_bag()
    out = head(bags)
    mean = log_attention(out.scores, bags.offsets).exp().mean(1)
    want = head.classify(mean @ head.reduce(bags.features))
    torch.testing.assert_close(out.logits[0], want, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("acmil", {"branches": 2_000_000}),
        ("acmil_mha", {"branches": 2_000_000}),
        ("graph_select", {"layers": 2_000_000}),
    ],
)
def test_a_number_of_modules_that_is_surely_a_slip_is_refused(name, options):
    with pytest.raises(ConfigError, match="less than or equal to 100"):
        build_head(name, options, dim=4, classes=2)
