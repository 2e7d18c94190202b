"""Bags, weights and results of gated attention pooling, for the tests of its forms."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mil.bags import MASKED, join
from mil.kernels.attn_pool.reference import attn_pool_with_stats_reference
from mil.kernels.dropout import draw_keep_mask
from mil.kernels.gated_attn_pool import TrunkDropout, TrunkWeights, gated_attn_pool

HIDDEN = 12
GPU = torch.device(
    "cuda" if torch.cuda.is_available() else "cpu"
)  # else under Triton's interpreter


def place(backend):
    """Device that a backend computes on."""
    return GPU if backend == "triton" else torch.device("cpu")


def leaves(weights, *where):
    """Copies on a device or of a type that require a gradient."""
    return type(weights)(
        *(None if w is None else w.detach().clone().to(*where).requires_grad_() for w in weights)
    )


def make(sizes, gated=True, branches=3, dim=20, attention=7, bias=False):
    draw = torch.Generator().manual_seed(sum(sizes))
    bags = join([torch.randn(n, dim, generator=draw) for n in sizes])

    def weight(*shape):
        return torch.randn(*shape, generator=draw) / shape[-1] ** 0.5

    gate = (weight(attention, HIDDEN), weight(attention)) if gated else (None, None)
    value = weight(attention, HIDDEN), weight(attention)
    weights = TrunkWeights(
        weight(HIDDEN, dim), *value, *gate, 3 * weight(branches, attention), weight(branches)
    )
    return bags, weights._replace(reducer_bias=weight(HIDDEN)) if bias else weights


def dropout_of(tiles, attention=7):
    """A quarter of the hidden rows and 7/16 of the gates' product dropped."""
    torch.manual_seed(tiles)
    return TrunkDropout(
        draw_keep_mask(tiles, HIDDEN, 0.25), draw_keep_mask(tiles, attention, 0.4375)
    )


def mask_highest(scores):
    return scores.scatter(0, scores.argmax(0, keepdim=True), MASKED)


def everything(
    bags, weights, backend, dtype, mask=None, stats=False, of_features=True, asked=None, **options
):
    """Pooled rows, scores, and gradients of features and weights, as tensors on the CPU.

    The gradients are for random ones of both results.

    With `stats` also statistics of the attention, which then have random gradients too;
    `asked`: of one result alone. `options`: of `gated_attn_pool`.
    """
    device = place(backend)
    features = bags.features.clone().to(device, dtype).requires_grad_(of_features)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    weights = leaves(weights, device, kind)
    pooled, scores, known = gated_attn_pool(
        features, weights, bags.offsets.to(device), mask, backend=backend, **options
    )
    found = {
        "pooled": pooled,
        "scores": scores.masked_fill(scores == MASKED, 0.0) if mask else scores,
    }
    if stats:
        known = known or attn_pool_with_stats_reference(scores, scores, bags.offsets)[1]
        found |= known._asdict()
    draw = torch.Generator().manual_seed(1)
    upstream = {name: torch.randn(t.shape, generator=draw).to(device) for name, t in found.items()}
    sum((found[name] * upstream[name]).sum() for name in found if asked in (None, name)).backward()
    named = {"features": features, **weights._asdict()}
    found |= {f"d_{k}": t.grad for k, t in named.items() if t is not None and t.grad is not None}
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def assert_close(got, want, tolerance):
    """Relative to the largest number of a tensor."""
    assert got.keys() == want.keys()
    for name, tensor in got.items():
        error = (tensor.double() - want[name]).abs().max() / want[name].abs().max().clamp(min=0.1)
        assert error < tolerance, name


def assert_near(got, want, tolerance):
    """Relative to the norm of a tensor."""
    assert got.keys() == want.keys()
    errors = {
        name: ((t.double() - want[name]).norm() / want[name].norm()).item()
        for name, t in got.items()
    }
    assert all(error < tolerance for error in errors.values()), errors  # which no NaN is


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation made."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [
            t
            for t in (out if isinstance(out, tuple | list) else [out])
            if isinstance(t, torch.Tensor)
        ]
        self.nbytes = max(self.nbytes, *(t.untyped_storage().nbytes() for t in made), 0)
        return out
