"""GigaPath's slide encoder: LongNet over the features of a slide's tiles.

Xu et al. 2024, A whole-slide foundation model for digital pathology from real-world
data, https://doi.org/10.1038/s41586-024-07441-w. It was pretrained as a masked
autoencoder, whose class token no loss saw: the vector is the mean of the tiles after the
last layer, as in the demonstration of its authors (`global_pool`, `last_layer_embed`).

Positions are whole tiles: a corner divided by the side of a tile. Its authors cut tiles
of 256 pixels at 0.5 µm/px and encode the middle 224; here tiles of 224 pixels lie edge to
edge, so that neighbours are one position apart in both, which is 128 µm there and 112 µm
here.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mil.kernels.chunks import chunks
from mil.slide_encoders._dilated_attn import Branch, dilated_attn

IN_DIM = 1536
DIM = 768
HIDDEN = 3072
HEADS = 16
DEPTH = 12
# Segments are five powers of 2, their exponents evenly spaced from 10 to 20, rounded
# down: 20 for the (262144 / 256)² tiles of the largest slide that its authors expect.
BRANCHES = (
    Branch(1024, 1),
    Branch(5792, 2),
    Branch(32768, 4),
    Branch(185363, 8),
    Branch(1048576, 16),
)
# Longest wave of the positions, over 2 pi.
LONGEST_WAVE = 10000
# Rows of the feed-forward network at once; of 8192 they take 100 MB.
CHUNK_ROWS = 8192


class SelfAttention(nn.Module):
    """Dilated attention between projections, with a norm before the last."""

    def __init__(self, dim: int, heads: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.heads = heads
        self.branches = branches
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.inner_attn_ln = nn.LayerNorm(dim)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens dim"]:
        """Tokens with context, without the tokens themselves."""
        queries = self._by_head(self.q_proj(tokens))
        keys = self._by_head(self.k_proj(tokens))
        values = self._by_head(self.v_proj(tokens))
        attended = dilated_attn(queries, keys, values, self.branches).flatten(1)
        context: Tensor = self.out_proj(self.inner_attn_ln(attended))
        return context

    def _by_head(self, rows: Tensor) -> Tensor:
        """[tokens, dim] to [tokens, heads, dim / heads]."""
        return rows.unflatten(1, (self.heads, -1))


class FeedForward(nn.Module):
    """Two linear layers with GELU and a norm between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.ffn_layernorm = nn.LayerNorm(hidden)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens dim"]:
        """Tokens after the network, some rows at a time."""
        parts = [self._rows(tokens[rows]) for rows in chunks(len(tokens), CHUNK_ROWS)]
        return torch.cat(parts)

    def _rows(self, tokens: Tensor) -> Tensor:
        hidden = self.ffn_layernorm(functional.gelu(self.fc1(tokens)))
        output: Tensor = self.fc2(hidden)
        return output


class Layer(nn.Module):
    """Attention and feed-forward network, each after a norm and added to its input."""

    def __init__(self, dim: int, hidden: int, heads: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, heads, branches)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, hidden)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens dim"]:
        """Tokens after the layer."""
        tokens = tokens + self.self_attn(self.self_attn_layer_norm(tokens))
        return tokens + self.ffn(self.final_layer_norm(tokens))


class LongNet(nn.Module):
    """Layers in a row.

    The norm after the last layer, `layer_norm` in the checkpoint, has no part in the
    vector.
    """

    def __init__(
        self, depth: int, dim: int, hidden: int, heads: int, branches: tuple[Branch, ...]
    ) -> None:
        super().__init__()
        layers = [Layer(dim, hidden, heads, branches) for _ in range(depth)]
        self.layers = nn.ModuleList(layers)

    def forward(self, tokens: Float[Tensor, "tokens dim"]) -> Float[Tensor, "tokens dim"]:
        """Tokens after the last layer."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class SlideEncoder(nn.Module):
    """Vector of a slide; without arguments in the published shape, `enc12l768d`.

    Args:
        in_dim: Length of a tile's features.
        dim: Length of a token and of the vector, a multiple of 4 and of `heads`.
        hidden: Width of the feed-forward networks.
        heads: Attention heads, a multiple of each ratio.
        depth: Number of layers.
        branches: Patterns of the dilated attention.
    """

    def __init__(
        self,
        *,
        in_dim: int = IN_DIM,
        dim: int = DIM,
        hidden: int = HIDDEN,
        heads: int = HEADS,
        depth: int = DEPTH,
        branches: tuple[Branch, ...] = BRANCHES,
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        # A dictionary for the name in the checkpoint.
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(in_dim, dim)})
        self.encoder = LongNet(depth, dim, hidden, heads, branches)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(
        self,
        features: Float[Tensor, "tiles in_dim"],
        corners: Int[Tensor, "tiles 2"],
        side_px: float,
    ) -> Float[Tensor, " dim"]:
        """Vector of a slide.

        Args:
            features: Features of its tiles, by the encoder `gigapath`; at least one.
            corners: Top left corners of the tiles, level-0 pixels, (x, y).
            side_px: Side of a tile, level-0 pixels.
        """
        places = grid_places(corners, side_px)
        order = reading_order(places)
        tiles = self.patch_embed["proj"](features[order])
        tiles = tiles + position_waves(places[order], tiles.shape[1]).to(tiles)
        tokens = self.encoder(torch.cat([self.cls_token[0], tiles]))
        vector: Tensor = self.norm(tokens[1:].mean(0))
        return vector


def grid_places(corners: Int[Tensor, "tiles 2"], side_px: float) -> Int[Tensor, "tiles 2"]:
    """Column and row of each tile, in tiles.

    Corners are rounded to whole pixels, to half a pixel below the side's multiple at
    most; half a pixel more puts them back. Of whole sides it changes nothing.

    Args:
        corners: Top left corners, level-0 pixels.
        side_px: Side of a tile, level-0 pixels.
    """
    return ((corners.double() + 0.5) / side_px).floor().long()


def reading_order(places: Int[Tensor, "tiles 2"]) -> Int[Tensor, " tiles"]:
    """Order of the tiles row by row, that of the authors' tiling, whatever the bag's.

    Segments and dilation follow the order: without it the same tiles, written by another
    tool, would give another vector.

    Args:
        places: Column and row of each tile.
    """
    columns, rows = places.T
    across = columns.argsort(stable=True)
    return across[rows[across].argsort(stable=True)]


def position_waves(places: Int[Tensor, "tiles 2"], dim: int) -> Float[Tensor, "tiles dim"]:
    """Sines, then cosines of the row, then those of the column, float64.

    The published table of 1000 × 1000 places takes 3 GB; its rows are computed here.

    Args:
        places: Column and row of each tile.
        dim: Length of the result, a multiple of 4.
    """
    steps = torch.arange(dim // 4, dtype=torch.float64, device=places.device)
    frequencies = LONGEST_WAVE ** (-steps / (dim // 4))
    angles = places.flip(1)[..., None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
