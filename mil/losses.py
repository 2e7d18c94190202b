"""Loss terms: functions of (output, bags, labels), composed by weights in the recipe."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from mil.bags import log_attention, per_bag
from mil.types import Bags, HeadOutput

Term = Callable[[HeadOutput, Bags, Tensor], Tensor]


def cross_entropy(out: HeadOutput, bags: Bags, labels: Int[Tensor, " bags"]) -> Float[Tensor, ""]:
    """Cross-entropy of the bag logits, mean over bags, nats."""
    return functional.cross_entropy(out.logits, labels)


def branch_cross_entropy(out: HeadOutput, bags: Bags, labels: Int[Tensor, " bags"]) -> Float[Tensor, ""]:
    """Cross-entropy of the branches' own logits, mean over bags and branches, nats; 0 with one branch or none.

    ACMIL, Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 4.
    """
    if out.branch_logits is None or out.branch_logits.shape[1] < 2:
        return out.logits.new_zeros(())
    branches = out.branch_logits.shape[1]
    return functional.cross_entropy(out.branch_logits.flatten(0, 1), labels.repeat_interleave(branches))


def branch_diversity(out: HeadOutput, bags: Bags, labels: Int[Tensor, " bags"]) -> Float[Tensor, ""]:
    """Cosine between the attention maps of two branches, mean over pairs and bags, 0..1; 0 with one branch.

    Adding it pushes the maps apart. ACMIL, Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 5.
    """
    branches = out.scores.shape[1]
    if branches < 2:
        return out.logits.new_zeros(())
    first, second = torch.triu_indices(branches, branches, offset=1, device=out.scores.device)
    attention = log_attention(out.scores, bags.offsets).exp()
    cosines = [functional.cosine_similarity(a[:, first], a[:, second], dim=0) for a in per_bag(attention, bags.offsets)]
    return torch.stack(cosines).mean()


def attention_entropy(out: HeadOutput, bags: Bags, labels: Int[Tensor, " bags"]) -> Float[Tensor, ""]:
    """Minus the entropy of each bag's attention, mean over bags and branches, nats.

    Adding it spreads attention out. AEM, Zhang et al. 2024, https://arxiv.org/abs/2406.15303
    """
    log_a = log_attention(out.scores, bags.offsets)
    negative = [rows.sum(0).mean() for rows in per_bag(log_a.exp() * log_a, bags.offsets)]
    return torch.stack(negative).mean()


TERMS: dict[str, Term] = {
    term.__name__: term for term in (cross_entropy, branch_cross_entropy, branch_diversity, attention_entropy)
}


def total_loss(
    weights: Mapping[str, float], out: HeadOutput, bags: Bags, labels: Int[Tensor, " bags"]
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Weighted sum of terms, and each term without its weight, detached."""
    terms = {name: TERMS[name](out, bags, labels) for name in weights}
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}
