"""ACMIL as one writes it down from the paper, in plain torch: what `mil bench train` compares the head `acmil` with."""

import torch
from torch import Tensor, nn
from torch.nn import functional

ATTENTION = 128
BRANCHES = 5
TOP = 10
SHARE = 0.6


class LiteralAcmil(nn.Module):
    """Zhang et al. 2024, https://arxiv.org/abs/2311.07125, with gated attention; one bag, float32, layer by layer."""

    def __init__(self, dim: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(dim, hidden, bias=False)
        self.value = nn.Linear(hidden, ATTENTION)
        self.gate = nn.Linear(hidden, ATTENTION)
        self.score = nn.Linear(ATTENTION, BRANCHES)
        self.branch_classify = nn.ModuleList(nn.Linear(hidden, classes) for _ in range(BRANCHES))
        self.classify = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the branches [branches, classes] and of the bag [1, classes], attention [branches, tiles]."""
        hidden = functional.relu(self.reduce(features))
        scores = self.score(torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden))).T
        top = min(TOP, scores.shape[1])
        highest = scores.topk(top, dim=-1).indices
        drawn = torch.rand(BRANCHES, top).argsort(-1)[:, : int(top * SHARE)]
        attention = scores.scatter(-1, highest.gather(-1, drawn), -1e9).softmax(-1)
        pooled = attention @ hidden
        branches = torch.cat(
            [classify(pooled[i : i + 1]) for i, classify in enumerate(self.branch_classify)]
        )
        return branches, self.classify(attention.mean(0, keepdim=True) @ hidden), attention


def literal_loss(out: tuple[Tensor, Tensor, Tensor], label: Tensor) -> Tensor:
    """Cross-entropy of the bag and of the branches, and the mean cosine of two branches' attention."""
    branches, bag, attention = out
    pairs = [(i, j) for i in range(BRANCHES) for j in range(i + 1, BRANCHES)]
    cosines = [functional.cosine_similarity(attention[i], attention[j], dim=-1) for i, j in pairs]
    loss = functional.cross_entropy(bag, label) + functional.cross_entropy(
        branches, label.repeat(BRANCHES)
    )
    return loss + torch.stack(cosines).mean()
