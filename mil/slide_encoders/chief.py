"""CHIEF's slide vector (Wang et al., Nature 2024, doi:10.1038/s41586-024-07894-z).

Gated attention over the tiles, of which the authors' extraction of slide features takes
the weights alone: the vector is the mean of the tiles' own features by attention, in
their 768 dimensions. Text about the organ, and the classifier, do not enter it; their
tensors of the checkpoint are dropped.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEATURES = 768
HIDDEN = 512
GATE = 256


class Gate(nn.Module):
    """Gated attention score of a tile: tanh times sigmoid, then a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(HIDDEN, GATE), nn.Tanh())
        self.attention_b = nn.Sequential(nn.Linear(HIDDEN, GATE), nn.Sigmoid())
        self.attention_c = nn.Linear(GATE, 1)

    def forward(self, hidden: Float[Tensor, "tiles hidden"]) -> Float[Tensor, "tiles 1"]:
        return self.attention_c(self.attention_a(hidden) * self.attention_b(hidden))


class SlideEncoder(nn.Module):
    """Mean of the tiles' features by attention, 768 to 768."""

    def __init__(self) -> None:
        super().__init__()
        # Place 2 is a dropout, which the published names of the tensors count.
        self.attention_net = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Identity(), Gate()
        )

    def forward(self, features: Float[Tensor, "tiles 768"]) -> Float[Tensor, " 768"]:
        weights = torch.softmax(self.attention_net(features)[:, 0], dim=0)
        return weights @ features
