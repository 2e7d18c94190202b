"""Layer that takes features to hidden rows: linear, or a mixture of low-rank experts.

After MAMMOTH, Shao et al. 2026, https://arxiv.org/abs/2603.22198, written from the paper's
abstract and from reviews of it; its code was not read. From there: several routers, soft
routing, experts of low rank behind a shared layer, no more parameters than the linear layer.
Ours: each tile is routed by itself, where the paper gathers the tiles of a bag into slots of
its experts. So a tile's row depends on no other tile, and heads stream as before.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from mil.config import Section
from mil.errors import ConfigError

EXPERTS = 8
ROUTERS = 4
OF_EXPERTS = ("experts", "rank", "routers")


class ReducerConfig(Section):
    """Options of heads that reduce tiles before they pool them."""

    project: Literal["linear", "experts"] = Field(
        "linear",
        description="Layer that reduces a tile: linear, or experts: a mixture of low-rank layers, "
        "weighted for each tile.",
    )
    experts: int | None = Field(
        None,
        gt=1,
        le=1000,
        description=f"Number of experts of a router (E), with project: experts; if unset, "
        f"{EXPERTS}.",
    )
    routers: int | None = Field(
        None,
        gt=0,
        le=1000,
        description="Number of groups of hidden channels, each with a router and experts of its "
        "own, with project: experts; if unset, 4, or the largest divisor of 4 that divides the "
        "width.",
    )
    rank: int | None = Field(
        None,
        gt=0,
        description="Rank of all experts of a tile together, a multiple of routers, with project: "
        "experts; if unset, the largest with no more parameters than the linear layer.",
    )

    @model_validator(mode="after")
    def _has_experts(self) -> "ReducerConfig":
        unused = [name for name in OF_EXPERTS if getattr(self, name) is not None]
        if unused and self.project != "experts":
            raise ValueError(f"{unused[0]}: needs project: experts; add it, or leave it out")
        return self


def project(config: ReducerConfig, dim: int, hidden: int, *, bias: bool = False) -> nn.Module:
    """Layer from features [tiles, dim] to rows [tiles, hidden], before the ReLU.

    Args:
        config: Options of the head.
        dim: Number of features of a tile.
        hidden: Width of a row.
        bias: Whether the layer has a bias.

    Raises:
        ConfigError: The width or the rank cannot be divided among the routers.
    """
    if config.project == "linear":
        return nn.Linear(dim, hidden, bias=bias)
    return Experts(config, dim, hidden, bias=bias)


class Experts(nn.Module):
    """``h_p = Σ_e softmax_e(K_p u_p) B_pe u_p`` with ``u = A x``, for each router p.

    u [rank] and h [hidden] are divided among the routers. A is shared by all experts.
    """

    def __init__(self, config: ReducerConfig, dim: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        experts = config.experts or EXPERTS
        routers = config.routers or math.gcd(ROUTERS, hidden)
        if hidden % routers:
            raise ConfigError(
                f"routers: must divide the width after the reducer ({hidden}), not {routers}"
            )
        rank = config.rank or largest_rank(dim, hidden, experts, routers)
        if rank % routers:
            raise ConfigError(f"rank: must be a multiple of routers ({routers}), not {rank}")
        width = rank // routers
        # Of features of unit variance, shared rows have it too, and rows a variance of 0.2 to
        # 0.4, as those of a new linear layer have a third: weights average independent rows.
        self.shared = nn.Parameter(torch.randn(rank, dim) / math.sqrt(dim))
        self.keys = nn.Parameter(torch.randn(routers, experts, width) / math.sqrt(width))
        self.experts = nn.Parameter(
            torch.randn(routers, experts, width, hidden // routers) / math.sqrt(width)
        )
        self.bias = nn.Parameter(torch.zeros(hidden)) if bias else None

    def forward(self, features: Float[Tensor, "tiles dim"]) -> Float[Tensor, "tiles hidden"]:
        """Rows of the tiles."""
        return self.mixed(*self.routed(features))

    def routed(
        self, features: Float[Tensor, "tiles dim"]
    ) -> tuple[Float[Tensor, "routers tiles width"], Float[Tensor, "routers tiles experts"]]:
        """Shared rows, and the weights of the experts, which sum to 1 for each router."""
        rows = functional.linear(features, self.shared).unflatten(1, (len(self.keys), -1))
        # Router by router in memory, as the products read them.
        shared = rows.transpose(0, 1).contiguous()
        weights = (shared @ self.keys.to(shared.dtype).mT).softmax(-1)
        # Autocast computes a softmax in float32.
        return shared, weights.to(shared.dtype)

    def mixed(
        self,
        shared: Float[Tensor, "routers tiles width"],
        weights: Float[Tensor, "routers tiles experts"],
    ) -> Float[Tensor, "tiles hidden"]:
        """Weighted sum of the experts' rows."""
        # One product for all experts of a router: the rows of each would be as many bags.
        weighted = (weights[..., None] * shared[:, :, None]).flatten(2)
        experts = self.experts.flatten(1, 2).to(shared.dtype)
        rows = (weighted @ experts).transpose(0, 1).flatten(1)
        return rows if self.bias is None else rows + self.bias.to(rows.dtype)


def largest_rank(dim: int, hidden: int, experts: int, routers: int) -> int:
    """Largest rank with no more parameters than a linear layer; at least one for each router."""
    # Of one of its rows: the shared layer, the keys, and the experts' layers.
    per_rank = dim + experts + experts * hidden // routers
    return max(1, dim * hidden // per_rank // routers) * routers
