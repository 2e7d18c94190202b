"""TransMIL against published arithmetic in float64; Nyström against plain attention."""

from functools import partial

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mil.bags import attention, join, log_attention
from mil.errors import ConfigError
from mil.heads import build_head
from mil.heads._nystrom import NystromAttention, attention_of_first, pseudo_inverse
from mil.losses import attention_entropy, cross_entropy
from tests.messages import one_line

LOGITS = [-1.0616305039112262, 1.577138332413682, -0.6574372979963417]
ATTENTION = [
    0.07332761340559049,
    0.04739550320612686,
    0.027516447401339912,
    0.021641699678015006,
    0.07970072571739832,
    0.040321595793449246,
    0.0235768616419877,
    0.020776171871216255,
    0.04995048198693177,
    0.037445738172070836,
    0.03174485650211545,
]


def head_of(dim=6, **options):
    torch.manual_seed(0)
    return build_head("transmil", options, dim=dim, classes=3).double().eval()


def bag_of(tiles, dim=6, seed=0):
    return torch.randn(tiles, dim, generator=torch.Generator().manual_seed(seed)).double()


def nystrom(hidden=16, heads=4, landmarks=8):
    torch.manual_seed(0)
    return NystromAttention(hidden, heads, landmarks, dropout=0.1).double().eval()


def plain(layer, tokens):
    """What the layer would give, and its maps, if attention were over all pairs of tokens."""
    queries, keys, values = (
        part.unflatten(1, (layer.heads, -1)).transpose(0, 1)
        for part in layer.project(tokens).chunk(3, 1)
    )
    maps = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(-1)
    mixed = maps @ values + layer.along(values[None])[0]
    return layer.out(mixed.transpose(0, 1).flatten(1)), maps


def test_golden_numbers():
    """Tensor t is 0.5 sin(1 + index + 10 t), by state dict; 11 tiles make a square of 16."""
    head = head_of(hidden=16)
    for t, tensor in enumerate(head.state_dict().values()):
        index = torch.arange(tensor.numel(), dtype=torch.float64)
        tensor.copy_((0.5 * torch.sin(1 + index + 10 * t)).reshape(tensor.shape))
    out = head(join([torch.cos(torch.arange(66.0, dtype=torch.float64)).reshape(11, 6)]))
    torch.testing.assert_close(
        out.logits[0], torch.tensor(LOGITS, dtype=torch.float64), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        out.scores[:, 0].exp(), torch.tensor(ATTENTION, dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.fixture
def exact(monkeypatch):
    """As many steps towards the inverse as it takes, where the published 6 stop on the way."""
    monkeypatch.setattr("mil.heads._nystrom.pseudo_inverse", partial(pseudo_inverse, steps=60))


@pytest.mark.parametrize("tokens", [1, 2, 5, 8])
def test_with_a_landmark_a_token_it_is_plain_attention(exact, tokens):
    layer = nystrom()
    rows = 4 * bag_of(tokens, 16)
    first, factors = layer.first(rows[None])
    want, maps = plain(layer, rows)
    torch.testing.assert_close(layer(rows[None])[0], want, rtol=0, atol=1e-9)
    torch.testing.assert_close(first[0], want[:1], rtol=0, atol=1e-9)
    torch.testing.assert_close(
        attention_of_first(factors, tokens)[0], maps[:, 0].mean(0), rtol=0, atol=1e-9
    )


def test_where_tokens_repeat_fewer_landmarks_are_as_good(exact):
    # each landmark stands for three equal tokens
    layer = nystrom()
    rows = bag_of(8, 16).repeat_interleave(3, 0)
    torch.testing.assert_close(layer(rows[None])[0], plain(layer, rows)[0], rtol=0, atol=1e-9)


def test_after_the_published_steps_it_is_close_to_plain_attention():
    layer = nystrom()
    rows = bag_of(8, 16)
    _, factors = layer.first(rows[None])
    want, maps = plain(layer, rows)
    torch.testing.assert_close(layer(rows[None])[0], want, rtol=0, atol=1e-2)
    torch.testing.assert_close(
        attention_of_first(factors, 8)[0], maps[:, 0].mean(0), rtol=0, atol=1e-2
    )


@pytest.mark.parametrize("tokens", [9, 13, 24])
def test_the_first_row_is_that_of_the_product_of_the_three_maps(tokens):
    layer = nystrom()
    _, parts = layer.first(3 * bag_of(tokens, 16)[None])
    near = (parts.query @ parts.key_marks.mT).softmax(-1)
    far = (parts.query_marks @ parts.keys.mT).softmax(-1)
    dense = (near @ parts.inverse @ far)[0].mean(0)
    torch.testing.assert_close(attention_of_first(parts, tokens)[0], dense[0, -tokens:])


@pytest.mark.parametrize("tokens", [1, 2, 8, 9, 40, 70])
def test_the_row_of_the_first_token_alone_is_that_among_all(tokens):
    layer = nystrom()
    rows = 3 * bag_of(tokens, 16)[None].expand(2, -1, -1)
    torch.testing.assert_close(layer.first(rows)[0], layer(rows)[:, :1], rtol=0, atol=1e-12)


def test_landmarks_are_means_of_segments_of_queries_and_keys():
    layer = nystrom()
    rows = bag_of(21, 16)[None]  # of 24, three in front are empty
    _, factors = layer.first(rows)
    projected = layer.project(functional.pad(rows, (0, 0, 3, 0)))
    for got, part, scale in ((factors.query_marks, 0, 4**-0.5), (factors.key_marks, 1, 1.0)):
        by_head = projected.chunk(3, 2)[part].unflatten(2, (4, 4)).transpose(1, 2)
        means = by_head.unflatten(2, (8, 3)).mean(3) * scale
        torch.testing.assert_close(got, means, rtol=0, atol=1e-12)


def test_gradient_of_the_pseudo_inverse_is_that_of_its_definition():
    def definition(matrices):
        identity = torch.eye(7).double()
        row, column = (matrices.abs().sum(axis).amax((1, 2)) for axis in (-1, -2))
        inverse = matrices.mT / (row * column)[:, None, None, None]
        for _ in range(6):
            product = matrices @ inverse
            inner = 15 * identity - product @ (7 * identity - product)
            inverse = 0.25 * inverse @ (13 * identity - product @ inner)
        return inverse

    draw = torch.Generator().manual_seed(0)
    matrices, upstream = torch.randn(2, 2, 3, 7, 7, generator=draw).double()
    matrices.requires_grad_()
    found = []
    for inverse_of in (pseudo_inverse, definition):
        inverse = inverse_of(matrices)
        found.append([inverse, *torch.autograd.grad((inverse * upstream).sum(), matrices)])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_pseudo_inverse_nears_that_of_linalg():
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    matrices = (noise + 4 * torch.eye(8)).softmax(-1)
    want = torch.linalg.pinv(matrices)
    torch.testing.assert_close(pseudo_inverse(matrices), want, rtol=0, atol=1e-3)
    torch.testing.assert_close(pseudo_inverse(matrices, steps=12), want, rtol=0, atol=1e-12)


def test_pseudo_inverse_of_a_matrix_that_has_no_inverse():
    matrices = torch.full((1, 1, 6, 6), 1 / 6).double()
    torch.testing.assert_close(pseudo_inverse(matrices), torch.linalg.pinv(matrices))


def test_a_bag_is_the_same_alone_and_in_a_batch():
    head = head_of(hidden=16)
    bags = [bag_of(tiles, seed=seed) for seed, tiles in enumerate((7, 1, 40, 7, 2))]
    together = head(join(bags))
    for number, (bag, scores) in enumerate(
        zip(bags, together.scores.split([7, 1, 40, 7, 2]), strict=True)
    ):
        alone = head(join([bag]))
        torch.testing.assert_close(
            together.logits[number : number + 1], alone.logits, rtol=0, atol=1e-12
        )
        torch.testing.assert_close(scores, alone.scores, rtol=0, atol=1e-10)


def test_single_and_double_precision_agree_on_a_cpu():
    head = head_of(hidden=16)
    bags = join([bag_of(50)])
    double = head(bags)
    single = head.float()(bags._replace(features=bags.features.float()))
    assert single.logits.dtype == single.scores.dtype == torch.float32
    torch.testing.assert_close(single.logits.double(), double.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(single.scores.exp().double(), double.scores.exp(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("tiles", [1, 2, 3, 5, 16, 17])
def test_few_or_equal_tiles(tiles):
    head = head_of(hidden=16).train()
    bags = join([torch.ones(tiles, 6).double()])
    out = head(bags)
    (
        cross_entropy(out, bags, torch.tensor([1]))
        + attention_entropy(out, bags, torch.tensor([1]))
    ).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    assert attention(out, bags, 0).sum().item() == pytest.approx(1)


def test_scores_are_the_logarithm_of_the_class_tokens_attention(monkeypatch):
    head = head_of(hidden=16)
    bag = bag_of(11)
    seen = {}

    def remembered(factors, length):
        seen["row"] = attention_of_first(factors, length)
        return seen["row"]

    monkeypatch.setattr("mil.heads.transmil.attention_of_first", remembered)
    out = head(join([bag]))
    row = seen["row"][0]
    assert len(row) == 17  # the class token, 11 tiles and 5 copies
    kept = row[1:12].clamp(min=1e-12)
    torch.testing.assert_close(
        log_attention(out.scores, torch.tensor([0, 11]))[:, 0].exp(), kept / kept.sum()
    )


def test_attention_terms_train_the_last_layer():
    head = head_of(hidden=16)
    bags = join([bag_of(9)])
    attention_entropy(head(bags), bags, torch.tensor([1])).backward()
    assert head.attention.mix.project.weight.grad.abs().max() > 0
    assert head.classify.weight.grad is None


def test_three_convolutions_are_one():
    place = head_of(hidden=16).place
    square = bag_of(25, 16)[None]
    image = square.mT.unflatten(2, (5, 5))
    want = image + sum(
        functional.conv2d(
            image, conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2, groups=16
        )
        for conv in (place.wide, place.middle, place.narrow)
    )
    torch.testing.assert_close(place(square, 5), want.flatten(2).mT)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation gives, in numbers."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            self.found = max(self.found, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return out


def test_memory_is_linear_in_the_tiles():
    tiles = 2000
    head = head_of(hidden=32).train()
    bags = join([bag_of(tiles)])
    with Largest() as largest:
        out = head(bags)
        (
            cross_entropy(out, bags, torch.tensor([1]))
            + attention_entropy(out, bags, torch.tensor([1]))
        ).backward()
    # queries, keys and values; a map of tokens by landmarks for all heads would have
    # 128 numbers a token
    assert largest.found <= 3 * 32 * (tiles + 200)


def test_width_is_a_multiple_of_the_heads():
    assert head_of(dim=30).classify.in_features == 16
    with one_line(ConfigError, match=r"hidden must be a multiple of heads \(8\), not 20"):
        head_of(hidden=20)
