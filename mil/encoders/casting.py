"""Weights brought to the precision of the computing once, instead of at every step."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


@torch.no_grad()
def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of convolutions and matrix products; all else stays float32.

    Under autocast, features are those of the uncast model to the last bit, but for
    depthwise filters in bfloat16: they are rounded so that their sums are kept
    (`round_keeping_sums`), which costs nothing and brings features nearer to those of
    float32.

    Args:
        model: changed in place.
        dtype: of the computing; nothing is done for float32.
    """
    if dtype == torch.float32:
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if dtype == torch.bfloat16 and _is_depthwise(module):
                module.weight.copy_(round_keeping_sums(module.weight))
            module.to(dtype)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def round_keeping_sums(weight: Float[Tensor, "filters *taps"]) -> Float[Tensor, "filters *taps"]:
    """Round to bfloat16 so that the sum of each filter is kept, as nearly as its smallest tap allows.

    A filter's sum is its answer to an even area. Rounded tap by tap, the nine taps of a
    depthwise filter can be off by 0.4 % together, in every place alike, and the layers
    that follow take that for a signal. Each tap's error is therefore handed on to the
    next smaller one, as in the dithering of pictures.

    Returns:
        Values that bfloat16 holds exactly, in the dtype of `weight`.
    """
    taps = weight.flatten(1).double()
    order = taps.abs().argsort(dim=1, descending=True, stable=True)
    ordered = taps.gather(1, order)
    carried = torch.zeros_like(ordered[:, 0])
    for tap in range(ordered.shape[1]):
        wanted = ordered[:, tap] + carried
        ordered[:, tap] = wanted.to(torch.bfloat16).double()
        carried = wanted - ordered[:, tap]
    return torch.zeros_like(taps).scatter_(1, order, ordered).view_as(weight).to(weight.dtype)
