"""PRISM, the slide encoder on Virchow (Shaikovski et al. 2024, arXiv:2405.10254).

A Perceiver (Jaegle et al. 2021): learned latents read the tiles eight times, and attend to each
other after each time. The vector is the first latent, normalised; the others are what its text
decoder makes reports of.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

TILE_DIM = 2560
DIM = 1280
# The first is the vector, the other 512 are for the text decoder.
LATENTS = 513
READS = 8
LAYERS = 6
HEADS = 8

# The first reading has weights of its own; the seven others share theirs, and all eight share
# the layers between the latents. A checkpoint may name a shared tensor once or each time.
NAMES = [
    (r"^image_resampler\.", ""),
    (r"^perceiver\.layers\.0\.xattn\.", "first."),
    (r"^perceiver\.layers\.[1-7]\.xattn\.", "again."),
    (r"^perceiver\.layers\.[0-7]\.tf\.", "layers."),
    (r"^perceiver\.", ""),
    (r"^cls_norm\.", "norm."),
    (r"\.xattn\.", ".attention."),
    (r"\.mhsa\.norm\.", ".attention.norm."),
    (r"\.mhsa\.mha\.", ".attention.heads."),
    (r"\.ff\.net\.0\.", ".ff.fc1."),
    (r"\.ff\.net\.2\.", ".ff.fc2."),
    (r"\.x_norm\.", ".norm."),
]
# The text decoder, the projections to the space of texts with their temperature, and the
# normalisation of the other latents.
UNUSED = [
    r"text_decoder\..*",
    r"(img|text)_to_latents\.to_latents\.weight",
    r"temperature",
    r"img_norm\.(weight|bias)",
]


class Mlp(nn.Module):
    """LN, then (a * GELU(b)) W + c, where [a, b] is a linear layer (GEGLU, Shazeer 2020).

    Args:
        dim: Length of a latent.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, latents: Float[Tensor, "latents dim"]) -> Float[Tensor, "latents dim"]:
        """What is added to the latents."""
        values, gates = self.fc1(self.norm(latents)).chunk(2, dim=-1)
        added: Tensor = self.fc2(values * functional.gelu(gates))
        return added


class ReadTiles(nn.Module):
    """Attention of latents to tiles: one head; tiles are not normalised.

    Args:
        dim: Length of a latent.
        tile_dim: Length of a tile's feature.
    """

    def __init__(self, dim: int, tile_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(tile_dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(
        self,
        latents: Float[Tensor, "latents dim"],
        keys: Float[Tensor, "tiles dim"],
        values: Float[Tensor, "tiles dim"],
    ) -> Float[Tensor, "latents dim"]:
        """What is added to the latents."""
        query = self.to_q(self.norm(latents))
        attended = functional.scaled_dot_product_attention(
            query[None, None], keys[None, None], values[None, None]
        )
        added: Tensor = self.to_out(attended[0, 0])
        return added


class Read(nn.Module):
    """Attention to the tiles, then an MLP.

    Args:
        dim: Length of a latent.
        tile_dim: Length of a tile's feature.
    """

    def __init__(self, dim: int, tile_dim: int) -> None:
        super().__init__()
        self.attention = ReadTiles(dim, tile_dim)
        self.ff = Mlp(dim)

    def keys_values(
        self, features: Float[Tensor, "tiles tile_dim"]
    ) -> tuple[Float[Tensor, "tiles dim"], Float[Tensor, "tiles dim"]]:
        """Keys and values of the tiles, which every reading by these weights shares."""
        keys, values = self.attention.to_kv(features).chunk(2, dim=-1)
        return keys, values

    def forward(
        self,
        latents: Float[Tensor, "latents dim"],
        keys: Float[Tensor, "tiles dim"],
        values: Float[Tensor, "tiles dim"],
    ) -> Float[Tensor, "latents dim"]:
        """Latents that have read the tiles."""
        latents = latents + self.attention(latents, keys, values)
        return latents + self.ff(latents)


class SelfAttention(nn.Module):
    """Attention of latents to each other, without biases.

    Args:
        dim: Length of a latent.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.heads = nn.MultiheadAttention(dim, heads, bias=False)

    def forward(self, latents: Float[Tensor, "latents dim"]) -> Float[Tensor, "latents dim"]:
        """What is added to the latents."""
        normed = self.norm(latents)
        added, _ = self.heads(normed, normed, normed, need_weights=False)
        return added


class Layer(nn.Module):
    """Attention of latents to each other, then an MLP.

    Args:
        dim: Length of a latent.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads)
        self.ff = Mlp(dim)

    def forward(self, latents: Float[Tensor, "latents dim"]) -> Float[Tensor, "latents dim"]:
        """Latents after the layer."""
        latents = latents + self.attention(latents)
        return latents + self.ff(latents)


class SlideEncoder(nn.Module):
    """PRISM's slide tower; see the module. Memory grows linearly with the number of tiles.

    Args:
        tile_dim: Length of a tile's feature.
        dim: Length of a latent, and of the vector.
        latents: Number of latents.
        layers: Number of layers between the latents.
        heads: Number of heads of a layer.
    """

    def __init__(
        self,
        tile_dim: int = TILE_DIM,
        dim: int = DIM,
        latents: int = LATENTS,
        layers: int = LAYERS,
        heads: int = HEADS,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(latents, dim).uniform_(-1, 1))
        self.first = Read(dim, tile_dim)
        self.again = Read(dim, tile_dim)
        self.layers = nn.ModuleList(Layer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Float[Tensor, "tiles tile_dim"]) -> Float[Tensor, " dim"]:
        """Vector of a slide; the order of its tiles does not count.

        Args:
            features: Features of its tiles.
        """
        latents = self.first(self.latents, *self.first.keys_values(features))
        latents = self._among_latents(latents)
        keys, values = self.again.keys_values(features)
        for _ in range(1, READS):
            latents = self._among_latents(self.again(latents, keys, values))
        vector: Tensor = self.norm(latents[0])
        return vector

    def _among_latents(self, latents: Float[Tensor, "latents dim"]) -> Float[Tensor, "latents dim"]:
        for layer in self.layers:
            latents = layer(latents)
        return latents
