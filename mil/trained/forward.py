"""A head meets a bag: everything that applies trained heads goes through here.

Used by `mil.score`, by `mil.predict` (whole bags, and outputs put together from parts)
and by the self-test of `mil.trained.seal`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, attention, join, log_attention
from mil.heads import MixesTiles, SelectsTiles
from mil.io.bags import Bag
from mil.io.scores import HeadScores, Outputs, TileSelection
from mil.losses.tasks import predictions as task_predictions
from mil.trained.assembled import Assembled
from mil.trained.record import Trained


def tensors_of(bag: Bag) -> Bags:
    """The valid tiles of a bag as heads take them: features in float32, level-0 corners."""
    # Unreadable tiles are rows of zeros, which no head may take for tissue.
    coords = None if bag.coords is None else [torch.from_numpy(bag.coords[bag.valid])]
    return join([torch.from_numpy(bag.features[bag.valid]).float()], coords)


def apply(head: nn.Module, trained: Trained, bag: Bag) -> HeadScores:
    """Apply a head to the valid tiles of a bag."""
    return forward(head, trained, tensors_of(bag))


@torch.inference_mode()
def forward(head: nn.Module, trained: Trained, bags: Bags) -> HeadScores:
    """Apply a head to one bag that lies in memory, which several heads may share."""
    scores = scores_of(trained, head(bags), bags)
    rollout = rollout_of(head, bags)
    return scores if rollout is None else replace(scores, rollout=_exact(rollout))


def rollout_of(head: nn.Module, bags: Bags) -> Float[Tensor, " tiles"] | None:
    """Attention to the tiles before mixing layers, mean over the members of a head.

    None: the head, or one of its members, has no such layer.
    """
    if not isinstance(head, Assembled):
        return head.rollout(bags) if isinstance(head, MixesTiles) else None
    # Known before any bag is scaled, or a graph of it built.
    if not all(isinstance(member, MixesTiles) for member in head.members):
        return None
    rollouts = [rollout_of(member, own) for member, own in head.members_and_bags(bags)]
    known = [rollout for rollout in rollouts if rollout is not None]
    return torch.stack(known).mean(0) if len(known) == len(rollouts) else None


@torch.inference_mode()
def forward_selections(
    head: SelectsTiles,
    trained: Trained,
    bags: Bags,
    selections: Sequence[Bool[np.ndarray, " tiles"]],
) -> Outputs:
    """Apply a head that selects tiles to other selections than its own.

    Args:
        head: Head that selects tiles.
        trained: Record of the head.
        bags: One bag.
        selections: Masks over the bag's tiles, each with at least one tile.

    Returns:
        Logits and predictions, a row for each selection.
    """
    masks = [torch.from_numpy(selection) for selection in selections]
    return _outputs(trained, head.answers(bags, masks)[:, 0])


def scores_of(trained: Trained, output: HeadOutput, bags: Bags) -> HeadScores:
    """The scores of one bag from a head's output, for the bag whole or in parts.

    Args:
        trained: Record of the head.
        output: Output of the head for one bag.
        bags: The bag; only its offsets are used.
    """
    logits, predicted = _outputs(trained, output.logits)
    branches = None if output.branch_logits is None else _exact(output.branch_logits[0])
    parts = None if output.branch_parts is None else _exact(output.branch_parts[0])
    by_branch = branch_attention(output, bags)
    return HeadScores(
        logits=logits[0],
        predictions=predicted[0],
        attention=_exact(attention(output, bags, trained.task.attended)),
        branch_logits=branches,
        branch_parts=parts,
        branch_attention=None if by_branch is None else _exact(by_branch),
        selection=_selection(trained, output),
    )


def predictions(trained: Trained, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
    """Predictions of a task from a head's logits, with calibrated probabilities.

    Args:
        trained: Record of the head: its task and its calibration; see
            `mil.statistics.scaling`.
        logits: One row for each bag.
    """
    calibration = trained.calibration
    if calibration is not None:
        logits = logits / calibration.temperature
        if calibration.intercepts:
            logits = logits + logits.new_tensor(calibration.intercepts)
    return task_predictions(trained.task, logits)


def _selection(trained: Trained, output: HeadOutput) -> TileSelection | None:
    if output.selected is None:
        return None
    full = None
    if output.full_logits is not None:
        logits, predicted = _outputs(trained, output.full_logits)
        full = Outputs(logits[0], predicted[0])
    return TileSelection(selected=output.selected.numpy(), full=full)


def branch_attention(output: HeadOutput, bags: Bags) -> Float[Tensor, "tiles branches"] | None:
    """Attention of each branch or class, which sums to 1 over a bag; None for a single branch.

    A branch of several attention heads has their mean.

    Args:
        output: Output of a head.
        bags: Bags that the output is of.
    """
    if output.scores.shape[1] == output.attention_heads:
        return None
    weights = log_attention(output.scores, bags.offsets).exp()
    if output.attention_heads == 1:
        return weights
    return weights.unflatten(1, (-1, output.attention_heads)).mean(2)


def _outputs(trained: Trained, logits: Tensor) -> Outputs:
    return Outputs(_exact(logits), _exact(predictions(trained, logits)))


def _exact(tensor: Tensor) -> np.ndarray:
    """Float64, so that means over heads are those of the float32 values themselves."""
    return tensor.double().numpy()
