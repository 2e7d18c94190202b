"""Loss terms: functions of (output, bags, labels, task), composed by weights in the recipe.

`out` is the head's output for `bags`; `labels` are the stacked targets of the task
(`mil.losses.tasks.target_tensor`), of classes their numbers [bags].
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
Value = TypeVar("Value")
TEACHER_TEMPERATURE = 0.1  # the published value of MHIM-MIL
# Terms that compare classes which exclude one another.
OF_CLASSES = ("instance_cross_entropy", "sufficiency")


def cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy of the bag logits, or another task's loss of them; mean over bags, nats."""
    return task_loss(task, out.logits, labels).mean()


def branch_cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Loss of the branches' own logits, mean over bags and branches; 0 without branches.

    ACMIL, Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 4. It also trains
    the highest-scoring tile of DSMIL and the pseudo-bags of DTFD-MIL.
    """
    if out.branch_logits is None:
        return out.logits.new_zeros(())
    branches = out.branch_logits.shape[1]
    # Where each bag has a loss of its own, all branches are one call.
    if task.one_of_classes:
        of_branches = labels.repeat_interleave(branches)
        return task_loss(task, out.branch_logits.flatten(0, 1), of_branches).mean()
    losses = [task_loss(task, logits, labels).mean() for logits in out.branch_logits.unbind(1)]
    return torch.stack(losses).mean()


def branch_diversity(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cosine similarity of the attention maps of two branches, mean over pairs and bags.

    It is 0..1, and 0 with one branch; adding it to the loss pushes the maps apart.
    ACMIL, Zhang et al. 2024, https://arxiv.org/abs/2311.07125, eq. 5. Where a branch
    has several attention heads, a head is compared with the same head of the other
    branch.
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
    """Attention of one branch times that of another, summed over tiles.

    Matrix products: no pair of branches gets a copy of its tiles.
    """
    columns = branches, out.attention_heads
    if out.attention_stats is not None:
        products = out.attention_stats.products.unflatten(2, columns).unflatten(1, columns)
        # A head of one branch against the same head of the other.
        return products.diagonal(dim1=2, dim2=4).movedim(-1, 1)
    maps = log_attention(out.scores, bags.offsets).exp().unflatten(1, columns)
    by_bag = [tiles.permute(2, 1, 0) for tiles in per_bag(maps, bags.offsets)]
    return torch.stack([bag @ bag.mT for bag in by_bag])  # of [heads, branches, tiles]


def attention_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Minus the entropy of each bag's attention, mean over bags and branches, nats.

    Adding it to the loss spreads attention out. AEM, Zhang et al. 2024,
    https://arxiv.org/abs/2406.15303. The mean is over all columns of the scores:
    branches, attention heads (the published MHA) or classes (the published DSMIL).
    """
    return _negative_entropies(out, bags).mean()


def attention_entropy_share(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """`attention_entropy` over the largest entropy of a bag of the same size, -1..0.

    Large bags, whose entropy can be larger, weigh no more than small ones. Our own.
    """
    # The logarithm of 1 or 2 tiles is below 1 and would blow up a small bag's term.
    largest = bags.offsets.diff().to(out.scores.dtype).log().clamp(min=1.0)
    return (_negative_entropies(out, bags) / largest[:, None]).mean()


def _negative_entropies(out: HeadOutput, bags: Bags) -> Float[Tensor, "bags branches"]:
    if out.attention_stats is not None:
        return -out.attention_stats.entropy
    log_a = log_attention(out.scores, bags.offsets)
    return torch.stack([rows.sum(0) for rows in per_bag(log_a.exp() * log_a, bags.offsets)])


def instance_cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy of single tiles with pseudo-labels, mean over bags, nats.

    Of the bag's class, the tiles with the highest attention are positive and those with
    the lowest negative. With more than two classes, the tiles with the highest attention
    of each other class are negative for it, and the mean over classes counts. A bag of
    one tile has no such tiles. CLAM, Lu et al. 2021, https://arxiv.org/abs/2004.09666.

    Raises:
        ConfigError: The task has no classes that exclude one another, or the head gives
            no instance logits.
    """
    check_terms(["instance_cross_entropy"], task)
    instances = _required(out.instances, "instance_cross_entropy", "clam_sb, clam_mb")
    bags_in_batch, classes = out.logits.shape
    of_label = instances.of_class == labels[instances.bag]
    # From three classes up as with the option `subtyping` of the published code, where
    # the other classes' tiles are judged too; with two classes it is off.
    counted = of_label | instances.highest if classes > 2 else of_label
    positive = (of_label & instances.highest).long()
    losses = functional.cross_entropy(instances.logits, positive, reduction="none")
    group = (instances.bag * classes + instances.of_class)[counted]
    groups = bags_in_batch * classes
    sums = losses.new_zeros(groups).index_add(0, group, losses[counted])
    # A bag of one tile has no judged tiles, and 0 / 0 would be NaN.
    sizes = torch.bincount(group, minlength=groups).clamp(min=1)
    return (sums / sizes).sum() / bags_in_batch / (classes if classes > 2 else 1)


def full_cross_entropy(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Loss of the logits from all tiles, of a head that selects tiles.

    It trains the scores of tiles that were not selected, too.

    Raises:
        ConfigError: The head gives no logits from all tiles.
    """
    full_logits = _required(out.full_logits, "full_cross_entropy", "graph_select")
    return task_loss(task, full_logits, labels).mean()


def sufficiency(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """KL(all tiles ‖ selected tiles) of the predictions, mean over bags, nats.

    Selected tiles shall predict the same as all. The prediction from all tiles is the
    target and gets no gradient.

    Raises:
        ConfigError: The task has no classes that exclude one another, or the head gives
            no logits from all tiles.
    """
    check_terms(["sufficiency"], task)
    full_logits = _required(out.full_logits, "sufficiency", "graph_select")
    target = full_logits.detach().log_softmax(-1)
    predicted = out.logits.log_softmax(-1)
    return functional.kl_div(predicted, target, reduction="batchmean", log_target=True)


def teacher_consistency(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """Cross-entropy from the teacher's sharpened bag embedding to the student's.

    Mean over bags, nats. MHIM-MIL, Tang et al. 2023, https://arxiv.org/abs/2307.15254.
    0 where no teacher took part (`mhim` before its second stage, or in evaluation).
    """
    if out.embedding is None or out.teacher_embedding is None:
        return out.logits.new_zeros(())
    # The teacher learns from no gradient: it follows the student as a moving average.
    target = (out.teacher_embedding.detach() / TEACHER_TEMPERATURE).softmax(-1)
    return -(target * out.embedding.log_softmax(-1)).sum(-1).mean()


def head_balance(
    out: HeadOutput, bags: Bags, labels: Tensor, task: AnyTask = CLASSES
) -> Float[Tensor, ""]:
    """How unevenly tiles choose among routed attention heads, mean over bags; 0 when even.

    Jin et al. 2024, https://arxiv.org/abs/2410.11842: number of heads times the sum over
    them of mean gate and share of the tiles, here over the number of chosen heads, less 1.
    """
    balance = _required(out.head_balance, "head_balance", "mixed_abmil with mix: routed")
    return balance.mean() - 1


def _required(value: Value | None, term: str, heads: str) -> Value:
    """Part of a head's output that a term needs.

    Raises:
        ConfigError: The head does not give it.
    """
    if value is None:
        raise ConfigError(
            f"loss term {term}: needs an output that this head does not have; take it out of the "
            f"recipe, or use {heads}"
        )
    return value


def check_terms(names: Iterable[str], task: AnyTask) -> None:
    """Refuse terms that the task cannot use.

    Raises:
        ConfigError: A term compares classes that exclude one another, and the task has
            none.
    """
    for name in names:
        if name in OF_CLASSES and not task.one_of_classes:
            raise ConfigError(
                f"loss term {name}: needs exactly one class for each slide, which the task "
                f"{task.kind} does not have; take it out of the recipe"
            )


_TERMS: tuple[Term, ...] = (
    cross_entropy,
    branch_cross_entropy,
    branch_diversity,
    attention_entropy,
    attention_entropy_share,
    instance_cross_entropy,
    full_cross_entropy,
    sufficiency,
    teacher_consistency,
    head_balance,
)
TERMS: dict[str, Term] = {term.__name__: term for term in _TERMS}


def total_loss(
    weights: Mapping[str, float],
    out: HeadOutput,
    bags: Bags,
    labels: Tensor,
    task: AnyTask = CLASSES,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Weighted sum of terms, and each term without its weight, detached.

    Args:
        weights: Weight of each term, by name.
        out: Output of the head for the bags.
        bags: Bags of the batch.
        labels: Stacked targets.
        task: Task of the head.
    """
    terms = {name: TERMS[name](out, bags, labels, task) for name in weights}
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    # Detached: terms are kept for the history, and must not keep a batch's graph in
    # memory.
    return total, {name: term.detach() for name, term in terms.items()}
