"""Dot-product attention between segments of packed rows, with its log-sum-exp."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from mil.kernels.bag_attn.function import CpuBagAttn, TritonBagAttn
from mil.kernels.bag_attn.one_key import has_one_key_each, one_key_attn
from mil.kernels.bag_attn.reference import bag_attn_reference
from mil.kernels.dispatch import Backend, choose_backend
from mil.kernels.heads import MAX_WIDTH, alike, widest


def bag_attn(
    queries: Float[Tensor, "queries query_heads width"],
    keys: Float[Tensor, "keys key_heads width"],
    values: Float[Tensor, "keys key_heads value_width"],
    query_offsets: Int[Tensor, " segments_plus_1"],
    key_offsets: Int[Tensor, " segments_plus_1"],
    key_bias: Float[Tensor, "keys key_heads"] | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "queries query_heads value_width"], Float[Tensor, "queries query_heads"]]:
    """Attention of each segment of the queries to the same segment of the keys.

    ``s_ij = q_i · k_j / sqrt(width) + b_j``, ``o_i = softmax_j(s_ij) v``. Parts of a softmax
    are put together by their log-sum-exps, see `merge`; so these have a gradient too.

    Args:
        queries: Rows that attend; their heads are a multiple of the key heads, and
            consecutive ones share a key head.
        keys: Rows that are attended to.
        values: Rows that are averaged.
        query_offsets: Segment g is rows ``query_offsets[g]:query_offsets[g + 1]``.
        key_offsets: The same of keys and values. A segment without keys gives rows of zeros
            and a log-sum-exp of minus infinity.
        key_bias: Added to the scores of a key; None: nothing.
        backend: See `mil.kernels.dispatch.choose_backend`. Heads wider than 128 have no
            Triton form: on a GPU the tiled one runs.

    Returns:
        Averaged rows, in the type of the values, and the log-sum-exp of the scores, at
        least float32.

    Raises:
        ValueError: The query heads are no multiple of the key heads, the segments differ in
            number, or `backend` is "triton" and the heads are wider than 128.
    """
    # Several heads that are trained as a stack are computed at once.
    if has_torch_function((queries,)):
        given = (queries, keys, values, query_offsets, key_offsets, key_bias)
        both: tuple[Tensor, Tensor] = handle_torch_function(
            bag_attn, (queries,), *given, backend=backend
        )
        return both
    _check(queries, keys, query_offsets, key_offsets)
    chosen = choose_backend(backend, queries, keys, values)
    width = widest(queries, values)
    if chosen == "triton" and width > MAX_WIDTH:
        if backend == "triton":
            raise ValueError(f"heads of {width} columns: bag_attn in Triton takes {MAX_WIDTH}")
        chosen = "cpu"
    if chosen == "triton":
        return _by_triton(queries, keys, values, query_offsets, key_offsets, key_bias)
    if chosen == "cpu":
        # It rounds otherwise: of a trained head, whose queries have no gradient, predictions
        # and attention stay what they are.
        learning = torch.is_grad_enabled() and queries.requires_grad
        on_cpu = queries.device.type == "cpu"
        if learning and on_cpu and has_one_key_each(keys, key_offsets):
            return one_key_attn(queries, keys, values, query_offsets, key_bias)
        rows, lse = CpuBagAttn.apply(queries, keys, values, query_offsets, key_offsets, key_bias)
        return rows, lse
    return bag_attn_reference(queries, keys, values, query_offsets, key_offsets, key_bias)


def _by_triton(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    key_bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Rows of one type and width, as the kernels take them."""
    given = alike(queries, keys, values)
    bias = None if key_bias is None else key_bias.float()
    scale = queries.shape[2] ** -0.5
    # Triton launches on the current device, which need not be the tensors'.
    with torch.cuda.device_of(queries):
        rows, lse = TritonBagAttn.apply(*given, query_offsets, key_offsets, bias, scale)
    return rows[..., : values.shape[2]].to(values.dtype), lse


def merge(
    rows: list[Float[Tensor, "queries heads width"]], lse: list[Float[Tensor, "queries heads"]]
) -> tuple[Float[Tensor, "queries heads width"], Float[Tensor, "queries heads"]]:
    """One softmax of several parts: the same queries, each time over other keys.

    Args:
        rows: Rows of each part.
        lse: Log-sum-exp of each part; minus infinity for a part without keys, and at least
            one part of each query has some.

    Returns:
        Rows and log-sum-exp over all keys.
    """
    logs = torch.stack(lse)
    total = logs.logsumexp(0)
    shares = (logs - total).exp().to(rows[0].dtype)
    merged = torch.stack(
        [part * share[..., None] for part, share in zip(rows, shares, strict=True)]
    )
    return merged.sum(0), total


def _check(queries: Tensor, keys: Tensor, query_offsets: Tensor, key_offsets: Tensor) -> None:
    if queries.shape[1] % keys.shape[1]:
        raise ValueError(
            f"{queries.shape[1]} query heads are no multiple of {keys.shape[1]} key heads"
        )
    if len(query_offsets) != len(key_offsets):
        raise ValueError(
            f"{len(query_offsets) - 1} segments of queries, but {len(key_offsets) - 1} of keys"
        )
