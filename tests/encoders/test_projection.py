"""Attention pooling against torch's attention and a sum by hand; projections; scales."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mil.config import EncoderConfig, checked
from mil.encoders.checkpoint_names import from_conch, from_keep
from mil.encoders.pooling import MultiScale, TokenPooling
from mil.encoders.projection import AttentionPooling, UnitMlp, projection_of
from mil.errors import ConfigError
from tests.messages import one_line

WIDTH = 12
DIM = 16
HEADS = 8


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def pooler(published: dict[str, torch.Tensor]) -> AttentionPooling:
    """Attention pooling with the tensors of a checkpoint, all of them."""
    pooling = AttentionPooling(WIDTH, DIM).double()
    named = {name.removeprefix("projection."): t for name, t in from_conch(published).items()}
    pooling.load_state_dict(named)
    return pooling


def test_conchs_pooling_is_torchs_multihead_attention(draw):
    attention = nn.MultiheadAttention(DIM, HEADS, kdim=WIDTH, vdim=WIDTH, dtype=torch.float64)
    own = {name: draw(*tensor.shape) for name, tensor in attention.state_dict().items()}
    attention.load_state_dict(own)
    norms = {"ln_q": DIM, "ln_k": WIDTH}
    published = {f"visual.attn_pool_contrast.attn.{name}": t for name, t in own.items()}
    published["visual.attn_pool_contrast.query"] = draw(1, DIM)
    for norm, size in norms.items():
        published[f"visual.attn_pool_contrast.{norm}.weight"] = draw(size)
        published[f"visual.attn_pool_contrast.{norm}.bias"] = draw(size)
    published["visual.ln_contrast.weight"] = draw(DIM)
    published["visual.ln_contrast.bias"] = draw(DIM)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        stem = f"visual.{name}"
        return functional.layer_norm(
            x, x.shape[-1:], published[f"{stem}.weight"], published[f"{stem}.bias"]
        )

    tokens = draw(3, 5, WIDTH)
    query = norm(published["visual.attn_pool_contrast.query"], "attn_pool_contrast.ln_q")
    keys = norm(tokens, "attn_pool_contrast.ln_k").transpose(0, 1)
    attended, _ = attention(query[:, None].expand(1, 3, DIM), keys, keys)
    expected = norm(attended[0], "ln_contrast")
    torch.testing.assert_close(pooler(published)(tokens), expected, rtol=0, atol=1e-12)


def test_the_pooling_of_conch_v1_5_is_the_sum_by_hand(draw):
    published = {
        "attn_pool_contrast.query": draw(1, DIM),
        "attn_pool_contrast.ln_q.weight": draw(DIM),
        "attn_pool_contrast.ln_q.bias": draw(DIM),
        "attn_pool_contrast.ln_k.weight": draw(WIDTH),
        "attn_pool_contrast.ln_k.bias": draw(WIDTH),
        "attn_pool_contrast.to_q.weight": draw(DIM, DIM),
        "attn_pool_contrast.to_kv.weight": draw(2 * DIM, WIDTH),
        "attn_pool_contrast.to_out.weight": draw(DIM, DIM),
        "ln_contrast.weight": draw(DIM),
        "ln_contrast.bias": draw(DIM),
    }

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * published[f"{name}.weight"] + published[f"{name}.bias"]

    tokens = draw(2, 4, WIDTH)
    query = norm(published["attn_pool_contrast.query"][0], "attn_pool_contrast.ln_q")
    query = published["attn_pool_contrast.to_q.weight"] @ query
    rows = norm(tokens, "attn_pool_contrast.ln_k") @ published["attn_pool_contrast.to_kv.weight"].T
    size = DIM // HEADS
    expected = torch.zeros(2, DIM, dtype=torch.float64)
    for tile in range(2):
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            keys = rows[tile, :, :DIM][:, part]
            values = rows[tile, :, DIM:][:, part]
            weights = (keys @ query[part] / size**0.5).softmax(0)
            expected[tile, part] = weights @ values
    expected = norm(expected @ published["attn_pool_contrast.to_out.weight"].T, "ln_contrast")
    torch.testing.assert_close(pooler(published)(tokens), expected, rtol=0, atol=1e-12)


def test_keeps_projection_is_of_unit_length(draw):
    published = {
        "visual_head.0.weight": draw(DIM, WIDTH),
        "visual_head.0.bias": draw(DIM),
        "visual_head.2.weight": draw(DIM, DIM),
        "visual_head.2.bias": draw(DIM),
    }
    reference = nn.Sequential(nn.Linear(WIDTH, DIM), nn.GELU(), nn.Linear(DIM, DIM)).double()
    reference.load_state_dict({n.removeprefix("visual_head."): t for n, t in published.items()})
    projection = UnitMlp(WIDTH, DIM).double()
    named = {n.removeprefix("projection."): t for n, t in from_keep(published).items()}
    projection.load_state_dict(named)
    pooled = draw(3, WIDTH)
    features = projection(pooled)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3, dtype=torch.float64))
    expected = reference(pooled)
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-12)


class Tokens(nn.Module):
    num_prefix_tokens = 1
    cls_token = torch.zeros(1)

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward_features(self, pixels):
        return torch.arange(24.0).reshape(2, 3, 4)


def test_a_projection_follows_the_pooling():
    double = nn.Linear(4, 4, bias=False)
    double.weight.data = torch.eye(4) * 2
    assert TokenPooling(Tokens(double), "cls")(torch.zeros(2)).tolist() == [
        [0, 2, 4, 6],
        [24, 26, 28, 30],
    ]
    seen = []
    pooling = TokenPooling(Tokens(nn.Identity()), "attention")
    pooling.model.projection.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    pooling(torch.zeros(2))
    assert seen[0].shape == (2, 3, 4)  # all tokens, the class token too


def entry(**changes: object) -> EncoderConfig:
    return checked(
        EncoderConfig,
        {"timm": "x", "dim": 8, "licence": "x", "weights": "random", **changes},
        "x.yaml: x",
    )


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"pooling": "cls", "projection": "linear"}, (8, 5)),
        ({"pooling": "cls+mean", "projection": "linear"}, (8, 10)),
        ({"pooling": "cls", "projection": "linear", "scales": [1, 2]}, (4, 5)),
    ],
)
def test_the_sizes_of_a_projection(changes, shape):
    assert projection_of(entry(**changes), 5).weight.shape == shape


def test_an_entry_without_a_projection_has_none():
    assert projection_of(entry(pooling="cls"), 5) is None


@pytest.mark.parametrize("pooling", ["model", "attention"])
def test_a_projection_of_no_tokens_is_refused(pooling):
    with one_line(ConfigError, match=f"needs pooling cls, mean or cls.mean, not {pooling}"):
        entry(pooling=pooling, projection="linear")


@pytest.mark.parametrize(
    "changes", [{"pooling": "attention"}, {"pooling": "cls", "projection": "linear"}]
)
def test_timms_own_weights_have_no_projection(changes):
    with one_line(ConfigError, match="come with the weights of a file"):
        entry(**changes, weights="timm")


def test_scales_that_are_none():
    for scales in ([], [0], [9], [1, 1, 1, 1]):
        with one_line(ConfigError, match="scales"):
            entry(scales=scales)


def test_a_bag_without_projection_and_scales_records_neither():
    plain = entry().settings()
    assert "scales" not in plain
    assert "projection" not in plain
    assert '"scales":[1,2]' in entry(scales=[1, 2]).settings()
    assert '"projection":"mlp"' in entry(pooling="cls", projection="mlp").settings()


def test_a_tile_at_two_scales_by_hand():
    class Corner(nn.Module):
        """First pixel of red and the mean of green."""

        def forward(self, pixels):
            return torch.stack([pixels[:, 0, 0, 0], pixels[:, 1].mean((1, 2))], dim=1)

    pixels = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    features = MultiScale(Corner(), [1, 2])(pixels)
    large = functional.interpolate(pixels, scale_factor=2, mode="bicubic")
    corners = torch.stack([large[:, 0, row, column] for row in (0, 4) for column in (0, 4)])
    expected = torch.stack(
        [pixels[:, 0, 0, 0], pixels[:, 1].mean((1, 2)), corners.mean(0), large[:, 1].mean((1, 2))],
        dim=1,
    )
    torch.testing.assert_close(features, expected)


def test_squares_of_one_tile_are_not_mixed_with_those_of_another():
    class Mean(nn.Module):
        def forward(self, pixels):
            return pixels.mean((1, 2, 3))[:, None]

    pixels = torch.arange(3.0)[:, None, None, None].expand(3, 3, 4, 4)
    assert MultiScale(Mean(), [2])(pixels).squeeze(1).tolist() == pytest.approx([0, 1, 2])
