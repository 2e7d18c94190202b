"""Loss terms: functions of (output, bags, labels, task), composed by weights in the recipe.

Labels are the stacked targets of the task (`mil.tasks`); for classes their numbers
[bags].
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mil.bags import Bags, HeadOutput, log_attention, per_bag
from mil.errors import ConfigError
from mil.losses.tasks import task_loss
from mil.tasks import CLASSES, AnyTask

Term = Callable[[HeadOutput, Bags, Tensor, AnyTask], Tensor]
Given = TypeVar("Given")
TEACHER_TEMPERATURE = 0.1
OF_CLASSES = ("instance_cross_entropy", "sufficiency")  # of one class of several, and no other task


def cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy of the bag logits, or another task's loss of them; mean over bags, nats."""
    return task_loss(task, out.logits, labels).mean()


def branch_cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy (or the task's loss) of the branches' own logits, mean over bags and branches; 0 without branches.

    ACMIL, Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 4. Of DSMIL's most
    suspicious tile and of DTFD-MIL's pseudo-bags too.
    """
    if out.branch_logits is None:
        return out.logits.new_zeros(())
    return torch.stack(
        [task_loss(task, logits, labels).mean() for logits in out.branch_logits.unbind(1)]
    ).mean()


def branch_diversity(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cosine between the attention maps of two branches, mean over pairs and bags, 0..1; 0 with one branch.

    Adding it pushes the maps apart. ACMIL, Zhang et al. 2024,
    https://arxiv.org/abs/2311.07125, eq. 5. Where a branch has several attention heads,
    a head is compared with the same head of the other branch.
    """
    branches = out.scores.shape[1] // out.attention_heads
    if branches < 2:
        return out.logits.new_zeros(())
    first, second = torch.triu_indices(branches, branches, offset=1, device=out.scores.device)
    products = _products(out, bags, branches)
    norms = products.diagonal(dim1=-2, dim2=-1).sqrt()
    cosines = products / (norms[..., :, None] * norms[..., None, :])
    return cosines[..., first, second].mean()


def _products(
    out: HeadOutput, bags: Bags, branches: int
) -> Float[Tensor, "bags heads branches branches"]:
    """Attention of one branch times that of another, summed over the tiles: no pair's tiles are laid out apart."""
    columns = branches, out.attention_heads
    if out.attention_stats is not None:
        of_all = out.attention_stats.products.unflatten(2, columns).unflatten(1, columns)
        return of_all.diagonal(dim1=2, dim2=4).movedim(-1, 1)
    maps = log_attention(out.scores, bags.offsets).exp().unflatten(1, columns)
    rows = [bag.permute(2, 1, 0) for bag in per_bag(maps, bags.offsets)]  # [heads, branches, tiles]
    return torch.stack([bag @ bag.mT for bag in rows])


def attention_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Minus the entropy of each bag's attention, mean over bags and branches, nats.

    Adding it spreads attention out. AEM, Zhang et al. 2024,
    https://arxiv.org/abs/2406.15303. The mean is over all columns of the scores:
    branches, attention heads (the published MHA) or classes (the published DSMIL).
    """
    return _negative_entropies(out, bags).mean()


def attention_entropy_share(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """`attention_entropy` as a share of the most a bag of its size can have, -1..0: large bags weigh no more. Ours."""
    most = (
        bags.offsets.diff().to(out.scores.dtype).log().clamp(min=1.0)
    )  # a bag of 1 or 2 tiles has next to none
    return (_negative_entropies(out, bags) / most[:, None]).mean()


def _negative_entropies(out: HeadOutput, bags: Bags) -> Float[Tensor, "bags branches"]:
    if out.attention_stats is not None:
        return -out.attention_stats.entropy
    log_a = log_attention(out.scores, bags.offsets)
    return torch.stack([rows.sum(0) for rows in per_bag(log_a.exp() * log_a, bags.offsets)])


def instance_cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy of single tiles, mean over bags, nats: those its label attends to most are of it, others not.

    With more than two classes the tiles most attended by the other classes are not of
    those, and the mean over classes counts. A bag of one tile has none. CLAM, Lu et al.
    2021, https://arxiv.org/abs/2004.09666.
    """
    check_terms(["instance_cross_entropy"], task)
    found = _given(out.instances, "instance_cross_entropy", "clam_sb, clam_mb")
    count, classes = out.logits.shape
    of_label = found.of_class == labels[found.bag]
    counted = of_label | found.highest if classes > 2 else of_label
    loss = functional.cross_entropy(
        found.logits, (of_label & found.highest).long(), reduction="none"
    )
    group = (found.bag * classes + found.of_class)[counted]
    sums = loss.new_zeros(count * classes).index_add(0, group, loss[counted])
    sizes = torch.bincount(group, minlength=count * classes).clamp(min=1)
    return (sums / sizes).sum() / count / (classes if classes > 2 else 1)


def full_cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy (or the task's loss) of what all tiles would give: keeps the scores of tiles not selected fair."""
    full_logits = _given(out.full_logits, "full_cross_entropy", "graph_select")
    return task_loss(task, full_logits, labels).mean()


def sufficiency(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """KL(all tiles ‖ selected tiles) of the predictions, mean over bags, nats: the selected ones must say the same.

    The prediction of all tiles is the target and gets no gradient.
    """
    check_terms(["sufficiency"], task)
    full = _given(out.full_logits, "sufficiency", "graph_select").detach().log_softmax(-1)
    return functional.kl_div(
        out.logits.log_softmax(-1), full, reduction="batchmean", log_target=True
    )


def teacher_consistency(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy from the teacher's sharpened bag embedding to the student's, mean over bags, nats.

    MHIM-MIL, Tang et al. 2023, https://arxiv.org/abs/2307.15254; the teacher's
    temperature is the published 0.1. 0 where no teacher took part (`mhim` before its
    second stage, or in evaluation).
    """
    if out.embedding is None or out.teacher_embedding is None:
        return out.logits.new_zeros(())
    target = (out.teacher_embedding.detach() / TEACHER_TEMPERATURE).softmax(-1)
    return -(target * out.embedding.log_softmax(-1)).sum(-1).mean()


def _given(value: Given | None, term: str, heads: str) -> Given:
    if value is None:
        raise ConfigError(
            f"loss term {term}: this head does not give what it needs; take it out, or use {heads}"
        )
    return value


def check_terms(names: Iterable[str], task: AnyTask) -> None:
    """Refuse terms that are not of a task.

    Raises:
        ConfigError: a term is of classes that exclude one another, and the task has
            none.
    """
    for name in names:
        if name in OF_CLASSES and not task.one_of_classes:
            raise ConfigError(
                f"loss term {name}: is of classes, which the task {task.kind} does not have; "
                "take it out"
            )


TERMS: dict[str, Term] = {
    term.__name__: term
    for term in (
        cross_entropy,
        branch_cross_entropy,
        branch_diversity,
        attention_entropy,
        attention_entropy_share,
        instance_cross_entropy,
        full_cross_entropy,
        sufficiency,
        teacher_consistency,
    )
}


def total_loss(
    weights: Mapping[str, float],
    out: HeadOutput,
    bags: Bags,
    labels: Tensor,
    task: AnyTask = CLASSES,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Weighted sum of terms, and each term without its weight, detached."""
    terms = {name: TERMS[name](out, bags, labels, task) for name in weights}
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}
