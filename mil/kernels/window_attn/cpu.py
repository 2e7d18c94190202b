"""Attention within a window in plain torch: short segments by all pairs, others place by place."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from mil.kernels.chunks import chunks
from mil.kernels.dispatch import at_least_float32
from mil.kernels.window_attn import by_pairs, by_place

CHUNK_ROWS = 256
# Rows of a segment for each place of the window, up to which all pairs are faster.
SHORT_SEGMENT = 16
# And rows up to which they are, whatever the window: some 15 MB for each head.
LONGEST_SHORT = 2048


class Given(NamedTuple):
    """Inputs of the operation."""

    queries: Tensor  # [rows, heads, width]
    keys: Tensor  # [rows, key heads, width]
    values: Tensor  # [rows, key heads, value width]
    neighbours: Tensor  # [window, rows]
    bias: Tensor  # [window, heads]


class Span(NamedTuple):
    """Rows that are computed together."""

    queries: slice
    segment: slice | None  # rows of their short segment; None: place by place


class Gradients(NamedTuple):
    """Gradients of the inputs, float32 at least."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    bias: Tensor


def spans_of(offsets: Tensor | None, rows: int, window: int) -> list[Span]:
    """Chunks of the rows; of known segments, none has rows of two.

    Args:
        offsets: [segments + 1]; None: unknown.
        rows: Number of all rows.
        window: Places of a window.
    """
    if offsets is None:
        return [Span(chunk, None) for chunk in chunks(rows, CHUNK_ROWS)]
    spans = []
    for first, end in pairwise(offsets.tolist()):
        is_short = end - first <= min(SHORT_SEGMENT * window, LONGEST_SHORT)
        segment = slice(first, end) if is_short else None
        for chunk in chunks(end - first, CHUNK_ROWS):
            queries = slice(first + chunk.start, first + chunk.stop)
            spans.append(Span(queries, segment))
    return spans


def window_attn_forward(given: Given, spans: Sequence[Span]) -> tuple[Tensor, Tensor]:
    """Rows [rows, heads, value width] and log-sum-exps [rows, heads], float32 at least."""
    queries, keys, values, neighbours, bias = given
    size = (*queries.shape[:2], values.shape[2])
    rows = queries.new_empty(size, dtype=at_least_float32(queries[:0]).dtype)
    lse = rows.new_empty(size[:2])
    for span in spans:
        q, places = queries[span.queries], neighbours[:, span.queries]
        if span.segment is None:
            attended = by_place.attended(q, keys, values, places, bias)
        else:
            attended = by_pairs.attended(_pairs(given, span))
        rows[span.queries], lse[span.queries] = attended
    return rows, lse


def window_attn_backward(
    given: Given, spans: Sequence[Span], rows: Tensor, lse: Tensor, d_rows: Tensor
) -> Gradients:
    """Gradients of queries, keys, values and biases.

    Args:
        given: Inputs.
        spans: Rows that were computed together.
        rows: [rows, heads, value width], from the forward pass.
        lse: [rows, heads], from the forward pass.
        d_rows: Gradient of `rows`.
    """
    inputs = (given.queries, given.keys, given.values, given.bias)
    sums = Gradients(*(torch.zeros_like(at_least_float32(each)) for each in inputs))
    for span in spans:
        # The sums of the products of a span alone: of all rows they would be as large as these.
        do = at_least_float32(d_rows[span.queries])
        delta = (do * rows[span.queries]).sum(-1)
        of_queries = (do, lse[span.queries], delta)
        if span.segment is None:
            q, places = given.queries[span.queries], given.neighbours[:, span.queries]
            of_rows = (q, given.keys, given.values, places, given.bias)
            sums.queries[span.queries] = by_place.backward(*of_rows, *of_queries, *sums[1:])
        else:
            of_pairs = by_pairs.backward(_pairs(given, span), *of_queries)
            sums.queries[span.queries] = of_pairs.queries
            sums.keys[span.segment] += of_pairs.keys
            sums.values[span.segment] += of_pairs.values
            sums.bias.add_(of_pairs.bias)
    return sums


def _pairs(given: Given, span: Span) -> by_pairs.Pairs:
    assert span.segment is not None
    return by_pairs.pairs_of(
        given.queries[span.queries],
        given.keys[span.segment],
        given.values[span.segment],
        given.neighbours[:, span.queries] - span.segment.start,
        given.bias,
    )
