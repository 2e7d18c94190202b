"""Madeleine's slide vector (Jaume et al., ECCV 2024, arXiv:2408.02859).

Layers that all heads share, then a gated attention for each of four heads over numbers
of its own, and a linear map of the four pooled rows. The tensor of the local loss
(`token_projector`) is dropped. Its authors compute it in bfloat16, here it is float32.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

DIM = 512
HEADS = 4

# The published file was saved from a model on several GPUs.
NAMES = [(r"^module\.", "")]


class Gate(nn.Module):
    """Gated attention score of a tile in one head: tanh times sigmoid, then a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh())
        self.attention_b = nn.Sequential(nn.Linear(DIM, DIM), nn.Sigmoid())
        self.attention_c = nn.Linear(DIM, 1)

    def forward(self, hidden: Float[Tensor, "tiles 512"]) -> Float[Tensor, "tiles 1"]:
        return self.attention_c(self.attention_a(hidden) * self.attention_b(hidden))


def layer(width: int) -> list[nn.Module]:
    """Linear layer, norm and GELU; in training a dropout follows, which names count."""
    return [nn.Linear(DIM, width), nn.LayerNorm(width), nn.GELU(), nn.Identity()]


class Pooling(nn.Module):
    """Rows of four heads, pooled over the tiles."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_attn = nn.Sequential(*layer(DIM), *layer(DIM), *layer(DIM * HEADS))
        self.attn = nn.ModuleList([Gate() for _ in range(HEADS)])

    def forward(self, features: Float[Tensor, "tiles 512"]) -> Float[Tensor, "512 heads"]:
        # Numbers of the heads alternate: the head is the last axis.
        hidden = self.pre_attn(features).unflatten(1, (DIM, HEADS))
        rows = [
            torch.softmax(gate(hidden[:, :, head])[:, 0], dim=0) @ hidden[:, :, head]
            for head, gate in enumerate(self.attn)
        ]
        return torch.stack(rows, dim=1)


class SlideEncoder(nn.Module):
    """Linear map of the pooled rows of four heads, 512 to 512."""

    def __init__(self) -> None:
        super().__init__()
        self.wsi_embedders = Pooling()
        self.projector = nn.Linear(DIM * HEADS, DIM)

    def forward(self, features: Float[Tensor, "tiles 512"]) -> Float[Tensor, " 512"]:
        return self.projector(self.wsi_embedders(features).flatten())
