"""ACMIL written from the paper in plain torch: the baseline of the head `acmil`."""

import torch
from torch import Tensor, nn
from torch.nn import functional

ATTENTION = 128
BRANCHES = 5
TOP = 10
SHARE = 0.6


class LiteralAcmil(nn.Module):
    """ACMIL with gated attention for one bag, float32, layer by layer.

    Zhang et al. 2024, https://arxiv.org/abs/2311.07125.
    """

    def __init__(self, dim: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(dim, hidden, bias=False)
        self.value = nn.Linear(hidden, ATTENTION)
        self.gate = nn.Linear(hidden, ATTENTION)
        self.score = nn.Linear(ATTENTION, BRANCHES)
        self.branch_classify = nn.ModuleList(nn.Linear(hidden, classes) for _ in range(BRANCHES))
        self.classify = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the branches and of the bag, and attention.

        Returns:
            [branches, classes], [1, classes] and [branches, tiles].
        """
        hidden = functional.relu(self.reduce(features))
        gated = torch.tanh(self.value(hidden)) * torch.sigmoid(self.gate(hidden))
        scores = self.score(gated).T
        top = min(TOP, scores.shape[1])
        highest = scores.topk(top, dim=-1).indices
        ranks = torch.rand(BRANCHES, top).argsort(-1)[:, : int(top * SHARE)]
        masked = scores.scatter(-1, highest.gather(-1, ranks), -1e9)
        attention = masked.softmax(-1)
        pooled = attention @ hidden
        branches = [classify(pooled[i : i + 1]) for i, classify in enumerate(self.branch_classify)]
        bag = attention.mean(0, keepdim=True) @ hidden
        return torch.cat(branches), self.classify(bag), attention


def literal_loss(out: tuple[Tensor, Tensor, Tensor], label: Tensor) -> Tensor:
    """Cross-entropy of bag and branches, and mean cosine between branches' attention."""
    branches, bag, attention = out
    pairs = [(i, j) for i in range(BRANCHES) for j in range(i + 1, BRANCHES)]
    cosines = [functional.cosine_similarity(attention[i], attention[j], dim=-1) for i, j in pairs]
    bag_loss = functional.cross_entropy(bag, label)
    branch_loss = functional.cross_entropy(branches, label.repeat(BRANCHES))
    return bag_loss + branch_loss + torch.stack(cosines).mean()
