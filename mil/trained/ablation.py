"""Branches of a trained head, left out one at a time."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags
from mil.heads import Ablated, AblatesBranches
from mil.io.scores import BranchAblation
from mil.trained.assembled import Assembled


@torch.inference_mode()
def ablation_of(head: nn.Module, bags: Bags) -> BranchAblation | None:
    """Logits of one bag without each branch of a head, and the attention of the branches.

    None: the head, or one of its members, has a single branch.

    Args:
        head: Head in evaluation mode.
        bags: One bag.
    """
    ablated = _ablated(head, bags)
    if ablated is None:
        return None
    return BranchAblation(_exact(ablated.without[0]), _exact(ablated.attention))


def _ablated(head: nn.Module, bags: Bags) -> Ablated | None:
    if not isinstance(head, Assembled):
        return head.ablated(bags) if isinstance(head, AblatesBranches) else None
    # Known before any bag is scaled, or a graph of it built.
    if not all(isinstance(member, AblatesBranches) for member in head.members):
        return None
    members = [_ablated(member, own) for member, own in head.members_and_bags(bags)]
    known = [member for member in members if member is not None]
    return _averaged(known) if len(known) == len(members) else None


def _averaged(members: list[Ablated]) -> Ablated:
    """Logits of the average without a branch of one member after the other.

    Branches of several heads do not correspond and stand side by side, unless each is of a
    class: that is left out of all members.
    """
    whole = torch.stack([member.whole for member in members]).mean(0)
    if members[0].per_class:
        return Ablated(
            whole,
            torch.stack([member.without for member in members]).mean(0),
            torch.stack([member.attention for member in members]).mean(0),
            per_class=True,
        )
    # The other members are as they were.
    lost = [member.without - member.whole[:, None] for member in members]
    without = whole[:, None] + torch.cat(lost, 1) / len(members)
    return Ablated(whole, without, torch.cat([member.attention for member in members], 1))


def _exact(tensor: Tensor) -> Float[np.ndarray, "..."]:
    """Float64 of float32 values, as a score file holds them."""
    return tensor.float().double().numpy()
