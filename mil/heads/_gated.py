"""Gated attention scores, shared by the heads that use them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GatedScores(nn.Module):
    """Score each tile, once per branch: ``w_i · (tanh(V h + b_V) ⊙ sigmoid(U h + b_U)) + b_i``.

    Ilse et al. 2018, https://arxiv.org/abs/1802.04712, eq. 9; without the gate, eq. 8. The branches share V and U.
    """

    def __init__(self, hidden: int, attention: int, branches: int, dropout: float = 0.0, gated: bool = True) -> None:
        super().__init__()
        self.value = nn.Linear(hidden, attention)
        self.gate = nn.Linear(hidden, attention) if gated else None
        self.score = nn.Linear(attention, branches)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Float[Tensor, "tiles hidden"]) -> Float[Tensor, "tiles branches"]:
        """Scores before the softmax, float32 whatever the precision of the rest."""
        values = torch.tanh(self.value(hidden))
        if self.gate is not None:
            values = values * torch.sigmoid(self.gate(hidden))
        scores: Tensor = self.score(self.dropout(values))
        return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def default_hidden(hidden: int | None, dim: int) -> int:
    """Width after the reducer: what the recipe says, else half of the features' length (ACMIL's rule of thumb)."""
    return hidden or max(1, dim // 2)
