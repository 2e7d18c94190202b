"""Iterative pseudo-inverse of Nyströmformer, Xiong et al. 2021, https://arxiv.org/abs/2102.03902.

A step towards the inverse of A from Z, eq. 15, with P = A Z:

    Z ← (13 Z - Z M₂) / 4,  M₂ = 15 P - P M₁,  M₁ = 7 P - P²

Each line is one batched product that adds. Autograd would keep five matrices of each
step; here Z and P are kept, and M₁ and M₂ are computed again.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import handle_torch_function, has_torch_function

# As in the package that TransMIL uses.
PINV_STEPS = 6


def pseudo_inverse(
    matrices: Float[Tensor, "bags heads size size"], steps: int = PINV_STEPS
) -> Float[Tensor, "bags heads size size"]:
    """Moore-Penrose inverse by `steps` steps of the iteration.

    The initial matrix of a bag is scaled by the largest norms of its heads. Under
    autocast the products, and so the result, are of its type.
    """
    # Several heads that are trained as a stack are computed as if they were bags.
    if has_torch_function((matrices,)):
        inverse: Tensor = handle_torch_function(pseudo_inverse, (matrices,), matrices, steps)
        return inverse
    largest_row = matrices.abs().sum(-1).amax((1, 2))[:, None, None, None]
    largest_column = matrices.abs().sum(-2).amax((1, 2))[:, None, None, None]
    initial = matrices.mT / (largest_row * largest_column)
    device = matrices.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        matrices = matrices.to(dtype)
        initial = initial.to(dtype)
    flat = (matrices.flatten(0, 1), initial.flatten(0, 1))
    return _Iteration.apply(*flat, steps).view_as(matrices)


class _Iteration(torch.autograd.Function):
    """All steps, for matrices [matrices, size, size]."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, inverse: Tensor, steps: int) -> Tensor:
        """Inverse after the steps, from an initial one."""
        kept = []
        with torch.autocast(matrices.device.type, enabled=False):
            for _ in range(steps):
                product = torch.bmm(matrices, inverse)
                kept += [inverse, product]
                _, outer = _inner_and_outer(product)
                inverse = torch.baddbmm(inverse, inverse, outer, beta=3.25, alpha=-0.25)
        ctx.save_for_backward(matrices, *kept)
        return inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the matrices and of the initial inverse."""
        matrices, *kept = ctx.saved_tensors
        (d_inverse,) = grads
        # Summed over the steps, in float32 at least.
        d_matrices = torch.zeros_like(matrices, dtype=_accumulator(matrices.dtype))
        with torch.autocast(matrices.device.type, enabled=False):
            while kept:
                product = kept.pop()
                inverse = kept.pop()
                d_inverse, d_product = _step_backward(inverse, product, d_inverse)
                d_matrices += torch.bmm(d_product, inverse.mT)
                d_inverse = torch.baddbmm(d_inverse, matrices.mT, d_product)
        return d_matrices.to(matrices.dtype), d_inverse, None


def _inner_and_outer(product: Tensor) -> tuple[Tensor, Tensor]:
    """``M₁ = 7 P - P²`` and ``M₂ = 15 P - P M₁``."""
    inner = torch.baddbmm(product, product, product, beta=7, alpha=-1)
    return inner, torch.baddbmm(product, product, inner, beta=15, alpha=-1)


def _step_backward(inverse: Tensor, product: Tensor, d_next: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of Z and P, apart from P's own dependence on Z, from that of the next Z."""
    inner, outer = _inner_and_outer(product)
    d_inverse = torch.baddbmm(d_next, d_next, outer.mT, beta=3.25, alpha=-0.25)
    d_outer = torch.bmm(inverse.mT, d_next).mul_(-0.25)
    d_inner = torch.bmm(product.mT, d_outer).neg_()
    d_product = torch.baddbmm(d_outer, d_outer, inner.mT, beta=15, alpha=-1)
    d_product = torch.baddbmm(d_product, d_inner, product.mT, beta=1, alpha=-1)
    d_product = torch.baddbmm(d_product, product.mT, d_inner, beta=1, alpha=-1)
    return d_inverse, d_product.add_(d_inner, alpha=7)


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
