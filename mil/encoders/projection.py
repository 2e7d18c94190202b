"""Layers with weights between a model's tokens and the feature, which timm does not have."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mil.config import EncoderConfig

# Of both CONCH models.
ATTENTION_HEADS = 8


class AttentionPooling(nn.Module):
    """What a learned query attends to among all tokens, normalised: CoCa's pooling for contrast.

    Yu et al., CoCa, 2022, section 3.2, with the normalisations of CONCH (Lu et al. 2024):
    LN(W_o MHA(W_q LN(query), [W_k; W_v] LN(tokens))).

    Args:
        width: Length of a token.
        dim: Length of the feature, a multiple of `heads`.
        heads: Number of attention heads.
    """

    def __init__(self, width: int, dim: int, heads: int = ATTENTION_HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, dim))
        self.norm_query = nn.LayerNorm(dim)
        self.norm_tokens = nn.LayerNorm(width)
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(width, 2 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Float[Tensor, "tiles tokens width"]) -> Float[Tensor, "tiles dim"]:
        """Features of tiles from all their tokens, the class token among them."""
        query = self.to_query(self.norm_query(self.query))
        key, value = self.to_key_value(self.norm_tokens(tokens)).chunk(2, dim=-1)
        attended = functional.scaled_dot_product_attention(
            self._split(query.expand(len(tokens), 1, -1)), self._split(key), self._split(value)
        )
        pooled: Tensor = self.norm(self.to_out(attended.transpose(1, 2).flatten(2)))
        return pooled[:, 0]

    def _split(self, rows: Tensor) -> Tensor:
        """[tiles, rows, dim] to [tiles, heads, rows, dim / heads]."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class UnitMlp(nn.Module):
    """Two linear layers with GELU between them, then unit length: KEEP's image projection.

    Args:
        width: Length of the pooled tokens.
        dim: Length of the feature.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, pooled: Float[Tensor, "tiles width"]) -> Float[Tensor, "tiles dim"]:
        """Features of unit length."""
        return functional.normalize(self.fc2(functional.gelu(self.fc1(pooled))), dim=-1)


def projection_of(entry: EncoderConfig, width: int) -> nn.Module | None:
    """Layers with weights behind the model of an entry; None where it has none.

    Args:
        entry: Entry of configs/encoders.yaml.
        width: Length of the model's tokens.
    """
    dim = entry.dim // len(entry.scales)
    if entry.pooling == "attention":
        return AttentionPooling(width, dim)
    pooled = width * len(entry.pooling.split("+"))
    if entry.projection == "linear":
        return nn.Linear(pooled, dim, bias=False)
    if entry.projection == "mlp":
        return UnitMlp(pooled, dim)
    return None
