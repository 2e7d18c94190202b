"""Pooling of tokens: by hand, without register tokens; wrong uses are one line."""

import pytest
import torch
from torch import nn

from mil.config import EncoderConfig
from mil.encoders.build import build_encoder
from mil.encoders.pooling import TokenPooling
from mil.errors import ConfigError
from tests.messages import one_line

# Two tiles, six tokens of two numbers: class, two registers, three patches.
TOKENS = torch.arange(24.0).reshape(2, 6, 2)


class Tokens(nn.Module):
    num_prefix_tokens = 3

    def __init__(self, cls: bool = True) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 2)) if cls else None

    def forward_features(self, pixels):
        return TOKENS[: len(pixels)]


@pytest.mark.parametrize(
    ("pooling", "first", "second"),
    [
        ("cls", [0, 1], [12, 13]),
        ("mean", [8, 9], [20, 21]),
        ("cls+mean", [0, 1, 8, 9], [12, 13, 20, 21]),
    ],
)
def test_by_hand(pooling, first, second):
    pooled = TokenPooling(Tokens(), pooling)(torch.zeros(2, 3, 4, 4))
    torch.testing.assert_close(pooled, torch.tensor([first, second], dtype=torch.float32))


def test_the_mean_needs_no_class_token():
    assert TokenPooling(Tokens(cls=False), "mean")(torch.zeros(1, 3, 4, 4)).tolist() == [[8, 9]]
    for pooling in ("cls", "cls+mean"):
        with pytest.raises(ValueError, match="needs a class token"):
            TokenPooling(Tokens(cls=False), pooling)


def build(pooling: str, timm: str = "test_vit", dim: int = 64, **args: object):
    torch.manual_seed(0)
    entry = EncoderConfig(
        timm=timm, args=args, pooling=pooling, dim=dim, tile_px=160, weights="random", licence="x"
    )
    return build_encoder("x", entry, tile_px=160, device=torch.device("cpu"), precision="fp32")


def test_an_entry_says_how():
    pixels = torch.randint(
        0, 256, (2, 160, 160, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    token = build("cls")
    mean = build("mean")
    both = build("cls+mean", dim=128)
    torch.testing.assert_close(both(pixels), torch.cat([token(pixels), mean(pixels)], dim=1))
    torch.testing.assert_close(token(pixels), build("model", global_pool="token")(pixels))
    assert (token(pixels) - mean(pixels)).abs().max() > 0.01
    assert both.identity["transform"].endswith(", pooling cls+mean")
    assert len({encoder.identity["weights_sha256"] for encoder in (token, mean, both)}) == 1


@pytest.mark.parametrize(
    ("pooling", "timm", "dim", "message"),
    [
        (
            "cls",
            "test_resnet",
            96,
            "pooling cls needs a model of tokens, which this one is not (test_resnet)",
        ),
        ("mean", "test_convnext", 64, "pooling mean needs a model of tokens"),
        (
            "cls+mean",
            "test_vit_relpos",
            192,
            "pooling cls+mean needs a class token, which this model lacks",
        ),
        ("cls+mean", "test_vit", 64, "dim is 64 in configs/encoders.yaml, the model returns [128]"),
    ],
)
def test_wrong_use_is_one_line(pooling, timm, dim, message):
    with one_line(ConfigError) as caught:
        build(pooling, timm, dim)
    assert message in str(caught.value)
