"""Dot-product attention of each row to at most so many other rows, named by number."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from mil.kernels.dispatch import Backend, choose_backend
from mil.kernels.heads import MAX_WIDTH, alike, widest
from mil.kernels.window_attn.function import CpuWindowAttn, TritonWindowAttn
from mil.kernels.window_attn.reference import window_attn_reference


def window_attn(
    queries: Float[Tensor, "rows query_heads width"],
    keys: Float[Tensor, "rows key_heads width"],
    values: Float[Tensor, "rows key_heads value_width"],
    neighbours: Int[Tensor, "window rows"],
    bias: Float[Tensor, "window query_heads"],
    offsets: Int[Tensor, " segments_plus_1"] | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "rows query_heads value_width"]:
    """Attention of row i to the rows ``neighbours[:, i]``.

    ``s_in = q_i · k_j / sqrt(width) + b_n`` with ``j = neighbours[n, i]``,
    ``o_i = softmax_n(s_in) v_j``.

    Args:
        queries: Rows that attend; their heads are a multiple of the key heads.
        keys: Rows that are attended to.
        values: Rows that are averaged.
        neighbours: Number of the row at each place of the window; below 0: there is none.
            Each row has at least one.
        bias: Added to the scores of a place of the window.
        offsets: Segments, which hold the rows of their windows: segment g is rows
            ``offsets[g]:offsets[g + 1]``; None: unknown. Known, the training of short ones on
            a CPU is faster.
        backend: See `mil.kernels.dispatch.choose_backend`. Heads wider than 128 have no
            Triton form: on a GPU the tiled one runs.

    Returns:
        Averaged rows, in the type of the values.

    Raises:
        ValueError: `backend` is "triton" and the heads are wider than 128.
    """
    # Several heads that are trained as a stack are computed at once.
    if has_torch_function((queries,)):
        given = (queries, keys, values, neighbours, bias, offsets)
        together: Tensor = handle_torch_function(window_attn, (queries,), *given, backend=backend)
        return together
    chosen = choose_backend(backend, queries, keys, values)
    if chosen == "reference":
        return window_attn_reference(queries, keys, values, neighbours, bias)
    width = widest(queries, values)
    if chosen == "triton" and width > MAX_WIDTH:
        if backend == "triton":
            raise ValueError(f"heads of {width} columns: window_attn in Triton takes {MAX_WIDTH}")
        chosen = "cpu"
    if chosen == "cpu":
        # All pairs round otherwise: of a trained head, whose queries have no gradient,
        # predictions and attention stay what they are.
        learning = torch.is_grad_enabled() and queries.requires_grad
        known = offsets if learning and queries.device.type == "cpu" else None
        rows: Tensor = CpuWindowAttn.apply(queries, keys, values, neighbours, bias, known)
        return rows
    scale = queries.shape[2] ** -0.5
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(queries):
        out = TritonWindowAttn.apply(*alike(queries, keys, values), neighbours, bias.float(), scale)
    of_values: Tensor = out[..., : values.shape[2]].to(values.dtype)
    return of_values
