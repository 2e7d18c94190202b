"""Precision of an encoder: which one, and its weights rounded to it once."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.device import has_fast_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(precision: str, published: str | None, device: torch.device) -> str:
    """Precision in which an encoder computes: `fp32`, `bf16` or `fp16`.

    Args:
        precision: Setting of the user; `auto` is the fastest precision that the device
            and the encoder's authors allow.
        published: Precision of the encoder's authors on a GPU; None: not known. `fp32`
            holds on every device.
        device: Device of the encoder.
    """
    if precision != "auto":
        return precision
    if published == "fp32":
        return "fp32"
    if device.type != "cuda":
        # Published precisions are of GPUs: a CPU does not have fp16 for that.
        return "bf16" if has_fast_bf16(device) else "fp32"
    gpu_has_bf16 = has_fast_bf16(device)
    if published and (gpu_has_bf16 or published != "bf16"):
        return published
    return "bf16" if gpu_has_bf16 else "fp16"


@torch.no_grad()
def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of convolutions and matrix products; all else stays float32.

    Autocast would round them again for each batch. Features are those of autocast with
    the uncast model to the last bit, but for depthwise filters in bfloat16: those are
    rounded by `round_keeping_sums`, which costs nothing and brings features nearer to
    those of float32.

    Args:
        model: Model, changed in place.
        dtype: Dtype of the matrix products; float32 changes nothing.
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
    """Round to bfloat16 and keep the sum of each filter as nearly as its smallest tap allows.

    The sum of a filter is its response to a uniform area. Rounded one by one, the nine
    taps of a depthwise filter can be off by 0.4 % together, equally at all positions,
    and the following layers take that for a signal. Each tap's error is therefore added
    to the next smaller tap, as in error diffusion of images.

    Args:
        weight: Weights of depthwise filters.

    Returns:
        Values that bfloat16 holds exactly, in the dtype of `weight`.
    """
    taps = weight.flatten(1).double()
    # From the largest tap to the smallest, whose rounding step is the finest.
    order = taps.abs().argsort(dim=1, descending=True, stable=True)
    ordered = taps.gather(1, order)
    error = torch.zeros_like(ordered[:, 0])
    for tap in range(ordered.shape[1]):
        target = ordered[:, tap] + error
        ordered[:, tap] = target.to(torch.bfloat16).double()
        error = target - ordered[:, tap]
    rounded = torch.zeros_like(taps).scatter_(1, order, ordered)
    return rounded.view_as(weight).to(weight.dtype)
