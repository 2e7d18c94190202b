"""TITAN, the slide encoder on CONCH v1.5 (Ding et al., Nature Medicine 2025, arXiv:2411.19666).

A vision transformer over the grid of tiles, whose attention falls with their distance (ALiBi,
Press et al. 2022, on a plane), and CoCa's pooling for contrast (Yu et al. 2022). The vector is
what its authors take for linear probes: before the projection to the space of texts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

DIM = 768
DEPTH = 6
HEADS = 12
MLP_RATIO = 4
POOL_HEADS = 8
# Epsilon of the transformer's layer normalisations; the pooling has torch's.
EPSILON = 1e-6
# Bytes of one block of the attention's bias, which would be heads x tokens x tokens. Larger
# blocks were not faster.
BLOCK_BYTES = 16 * 2**20

NAMES = [
    (r"^vision_encoder\.", ""),
    (r"^patch_embed\.0\.", "embed."),
    (r"^blocks\.modules_list\.", "blocks."),
    (r"^attn_pool_contrastive\.", "pool."),
    (r"^(blocks\.\d+\.|pool\.)attn\.", r"\1attention."),
    (r"\.ln_q\.", ".norm_query."),
    (r"\.ln_k\.", ".norm_tokens."),
    (r"\.mlp\.fc([12])\.", r".fc\1."),
]
# The text tower, the pooling to 128 tokens that captions are made of, and the projection.
UNUSED = [r"text_encoder\..*", r"attn_pool\..*", r"proj"]


class Grid(NamedTuple):
    """Features of the cells of a grid that hold tiles.

    Attributes:
        features: One row a cell.
        cells: Column and row of each cell, from 0.
    """

    features: Float[Tensor, "cells dim"]
    cells: Int[Tensor, "cells 2"]


def on_grid(
    features: Float[Tensor, "tiles dim"], corners: Int[Tensor, "tiles 2"], side_px: float
) -> Grid:
    """Tiles on the grid of their own size, column by column.

    As its authors do, features of tiles of one cell are added, and cells of nothing but zeros
    left out.

    Args:
        features: Features of the tiles.
        corners: Top left corners, level-0 pixels, (x, y).
        side_px: Side of a tile, level-0 pixels.
    """
    places = (corners - corners.min(0).values).double() / side_px
    # Corners of tiles whose side is a fraction are rounded to pixels, some to before their cell.
    cells = places.floor() if float(side_px).is_integer() else places.round()
    cells, cell_of_tile = torch.unique(cells.long(), dim=0, return_inverse=True)
    summed = features.new_zeros(len(cells), features.shape[1])
    summed.index_add_(0, cell_of_tile, features)
    is_filled = (summed != 0).any(1)
    return Grid(summed[is_filled], cells[is_filled])


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    """Slope of each head's bias: 2^(-8 i / n) for i = 1 to n, where n is a power of two.

    Else those of the next lower power of two, then every other one of the next higher.

    Args:
        heads: Number of heads.
    """
    lower = 1 << (heads.bit_length() - 1)
    exponents = [8 * i / lower for i in range(1, lower + 1)]
    exponents += [4 * i / lower for i in range(1, 2 * lower, 2)][: heads - lower]
    return torch.tensor([2.0**-exponent for exponent in exponents])


def distances(
    cells: Float[Tensor, "cells 2"], start: int, stop: int
) -> Float[Tensor, "queries tokens"]:
    """Distances of some tokens to all of them, sides of a tile.

    Token 0 is the class token, which is at distance 0 from every token.

    Args:
        cells: Column and row of the other tokens.
        start: First of the tokens.
        stop: One past the last.
    """
    first = max(start, 1)
    columns, rows = (axis[first - 1 : stop - 1, None] - axis for axis in cells.unbind(1))
    # Cells are whole numbers, so that the squares are exact.
    apart = columns.square_().addcmul_(rows, rows).sqrt_()
    return functional.pad(apart, (1, 0, first - start, 0))


class GridAttention(nn.Module):
    """Self-attention with a bias of minus slope times distance, in blocks of queries.

    softmax(Q K^T / sqrt(d) - slope * distance) V for each head. Only a block of the bias is in
    memory at once, so that memory grows linearly with the number of tokens.

    Args:
        dim: Length of a token.
        heads: Number of heads.
    """

    slopes: Tensor

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("slopes", alibi_slopes(heads), persistent=False)

    def forward(
        self, tokens: Float[Tensor, "tokens dim"], cells: Float[Tensor, "cells 2"]
    ) -> Float[Tensor, "tokens dim"]:
        """Tokens that have attended to all, the class token first."""
        query, key, value = self.qkv(tokens).unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)
        block = max(1, BLOCK_BYTES // (tokens.element_size() * self.heads * len(tokens)))
        attended = torch.empty_like(query)
        for start in range(0, len(tokens), block):
            stop = min(start + block, len(tokens))
            bias = -self.slopes[:, None, None] * distances(cells, start, stop)
            attended[:, start:stop] = functional.scaled_dot_product_attention(
                query[None, :, start:stop], key[None], value[None], attn_mask=bias[None]
            )[0]
        mixed: Tensor = self.proj(attended.transpose(0, 1).flatten(1))
        return mixed


class Block(nn.Module):
    """Transformer block with normalisation before attention and MLP.

    Args:
        dim: Length of a token.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attention = GridAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(
        self, tokens: Float[Tensor, "tokens dim"], cells: Float[Tensor, "cells 2"]
    ) -> Float[Tensor, "tokens dim"]:
        """Tokens after the block."""
        tokens = tokens + self.attention(self.norm1(tokens), cells)
        return tokens + self.fc2(functional.gelu(self.fc1(self.norm2(tokens))))


class Pool(nn.Module):
    """What a learned query attends to: MHA(LN(query), LN(tokens), LN(tokens)).

    Args:
        dim: Length of a token, and of the vector.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, dim).uniform_(-1, 1))
        self.norm_query = nn.LayerNorm(dim)
        self.norm_tokens = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, " dim"]:
        """The vector."""
        keys = self.norm_tokens(tokens)
        pooled, _ = self.attention(self.norm_query(self.query), keys, keys, need_weights=False)
        return pooled[0]


class SlideEncoder(nn.Module):
    """TITAN's slide tower; see the module.

    Args:
        dim: Length of a feature, of a token and of the vector.
        depth: Number of blocks.
        heads: Number of heads of a block.
        pool_heads: Number of heads of the pooling.
    """

    def __init__(
        self,
        dim: int = DIM,
        depth: int = DEPTH,
        heads: int = HEADS,
        pool_heads: int = POOL_HEADS,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.pool = Pool(dim, pool_heads)

    def forward(
        self, features: Float[Tensor, "tiles dim"], corners: Int[Tensor, "tiles 2"], side_px: float
    ) -> Float[Tensor, " dim"]:
        """Vector of a slide.

        Args:
            features: Features of its tiles.
            corners: Their top left corners, level-0 pixels, (x, y).
            side_px: Side of a tile, level-0 pixels.
        """
        grid = on_grid(features, corners, side_px)
        tokens = torch.cat([self.cls_token[0], functional.gelu(self.embed(grid.features))])
        cells = grid.cells.to(tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens, cells)
        vector: Tensor = self.pool(self.norm(tokens))
        return vector
