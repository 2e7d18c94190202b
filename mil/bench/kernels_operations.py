"""Inputs and calls of each operation, and of other libraries that compute the same."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mil.bags import MASKED
from mil.bench.kernels_cases import AGENTS, ATTENTION, HEADS, SHARE, TOP, Case
from mil.kernels.attn_pool import attn_pool, attn_pool_with_stats
from mil.kernels.bag_attn import bag_attn
from mil.kernels.dispatch import Backend
from mil.kernels.gated_attn_pool import TrunkWeights, gated_attn_pool
from mil.kernels.gated_scores import GateWeights, gated_scores
from mil.kernels.neighbour_attn import neighbour_attn
from mil.kernels.topk_mask import topk_mask
from mil.kernels.window_attn import window_attn

SEED = 1
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
HEAD_WIDTH = 128  # columns that one head of `scaled_dot_product_attention` pools
Inputs = dict[str, Tensor]
Results = tuple[Tensor, ...]


class Operation(NamedTuple):
    """An operation as the heads use it."""

    make: Callable[[Case, torch.device], Inputs]
    call: Callable[[Inputs, Backend], Results]
    learned: tuple[str, ...]  # inputs that get a gradient
    # Call of another library; None: there is none, or it does not apply to the inputs.
    other: Callable[[Inputs], Results | None] | None = None
    # Most tiles of the bags on which it is checked before it is timed.
    checked_tiles: int = 300


def _normal(
    rng: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Normal random numbers, filled in place: a larger temporary would count as memory."""
    return torch.empty(shape, dtype=dtype, device=rng.device).normal_(generator=rng)


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(SEED)


def _offsets(case: Case, device: torch.device) -> Tensor:
    return torch.tensor(case.offsets(), device=device)


def _scored(case: Case, device: torch.device) -> Inputs:
    """Features with scores."""
    rng = _generator(device)
    features = _normal(rng, (case.tiles, case.dim), DTYPES[case.dtype])
    return {
        "scores": _normal(rng, (case.tiles, case.branches)),
        "features": features,
        "offsets": _offsets(case, device),
    }


def _gates(rng: torch.Generator, hidden: int, branches: int) -> Inputs:
    """Parameters of gated scores, in the order of `GateWeights`."""
    wide = hidden**-0.5
    narrow = ATTENTION**-0.5
    return {
        "value": wide * _normal(rng, (ATTENTION, hidden)),
        "value_bias": wide * _normal(rng, (ATTENTION,)),
        "gate": wide * _normal(rng, (ATTENTION, hidden)),
        "gate_bias": wide * _normal(rng, (ATTENTION,)),
        "score": narrow * _normal(rng, (branches, ATTENTION)),
        "score_bias": narrow * _normal(rng, (branches,)),
    }


GATES = ("value", "value_bias", "gate", "gate_bias", "score", "score_bias")


def _unreduced(case: Case, device: torch.device) -> Inputs:
    """Features, and the parameters of a reducer and of gated scores."""
    rng = _generator(device)
    features = _normal(rng, (case.tiles, case.dim), DTYPES[case.dtype])
    reducer = case.dim**-0.5 * _normal(rng, (case.hidden, case.dim))
    gates = _gates(rng, case.hidden, case.branches)
    return {"features": features, "reducer": reducer, **gates, "offsets": _offsets(case, device)}


def _reduced(case: Case, device: torch.device) -> Inputs:
    """Reduced tiles, and the parameters of gated scores."""
    rng = _generator(device)
    hidden = _normal(rng, (case.tiles, case.dim), DTYPES[case.dtype])
    return {"hidden": hidden, **_gates(rng, case.dim, case.branches)}


def _ranked(case: Case, device: torch.device) -> Inputs:
    """Scores, and the draws that choose the masked ranks."""
    rng = _generator(device)
    scores = _normal(rng, (case.tiles, case.branches))
    draws = torch.rand(case.bags, case.branches, TOP, generator=rng, device=device)
    return {"scores": scores, "offsets": _offsets(case, device), "draws": draws}


def _graph(case: Case, device: torch.device) -> Inputs:
    """Tiles of a square grid with edges to themselves and the eight around them.

    Beyond a bag's end the grid begins again.
    """
    rng = _generator(device)
    shape = (case.tiles, HEADS, case.dim // HEADS)
    queries = _normal(rng, shape, DTYPES[case.dtype])
    keys = _normal(rng, shape, DTYPES[case.dtype])
    offsets = _offsets(case, device)
    sizes = offsets.diff()
    tiles = torch.arange(case.tiles, device=device)
    bag = torch.searchsorted(offsets[1:], tiles, right=True)
    first = offsets[bag][:, None]
    size = sizes[bag][:, None]
    across = size.double().sqrt().long()
    steps = torch.arange(-1, 2, device=device)
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    shifted = tiles[:, None] - first + down.flatten() * across + right.flatten()
    sources = first + shifted % size  # [tiles, neighbours]
    targets = tiles[:, None].expand_as(sources)
    vector = shape[2] ** -0.5 * _normal(rng, shape[1:])
    return {
        "queries": queries,
        "keys": keys,
        "vector": vector,
        "sources": sources.flatten(),
        "targets": targets.flatten(),
    }


def _runs(case: Case, device: torch.device) -> Inputs:
    """Projected tiles in runs, each of which attends to itself."""
    rng = _generator(device)
    heads, width = case.mix_heads
    rows = {
        name: _normal(rng, (case.tiles, heads, width), DTYPES[case.dtype])
        for name in ("queries", "keys", "values")
    }
    bias = _normal(rng, (case.tiles, heads))
    return {**rows, "key_bias": bias, "ends": torch.tensor(case.runs(), device=device)}


def _windows(case: Case, device: torch.device) -> Inputs:
    """Projected tiles of a square grid, each with the eight around it and itself."""
    rng = _generator(device)
    heads, width = case.mix_heads
    rows = {
        name: _normal(rng, (case.tiles, heads, width), DTYPES[case.dtype])
        for name in ("queries", "keys", "values")
    }
    offsets = _offsets(case, device)
    tiles = torch.arange(case.tiles, device=device)
    bag = torch.searchsorted(offsets[1:], tiles, right=True)
    first, last = offsets[bag], offsets[bag + 1]
    across = (last - first).double().sqrt().long()
    steps = torch.arange(-1, 2, device=device)
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    shifted = tiles + down.flatten()[:, None] * across + right.flatten()[:, None]
    neighbours = shifted.masked_fill((shifted < first) | (shifted >= last), -1)
    return {**rows, "neighbours": neighbours, "bias": _normal(rng, (len(neighbours), heads))}


def _agents(case: Case, device: torch.device) -> Inputs:
    """Projected tiles, two query heads to a key head where there are several, and agents."""
    rng = _generator(device)
    heads, width = case.mix_heads
    key_heads = heads // 2 if heads % 2 == 0 else heads
    dtype = DTYPES[case.dtype]
    return {
        "agents": _normal(rng, (case.bags * AGENTS, heads, width), dtype),
        "queries": _normal(rng, (case.tiles, heads, width), dtype),
        "keys": _normal(rng, (case.tiles, key_heads, width), dtype),
        "values": _normal(rng, (case.tiles, key_heads, width), dtype),
        "offsets": _offsets(case, device),
        "ends": torch.arange(case.bags + 1, device=device) * AGENTS,
    }


def _call_attn_pool(inputs: Inputs, backend: Backend) -> Results:
    return (attn_pool(inputs["scores"], inputs["features"], inputs["offsets"], backend=backend),)


def _call_attn_pool_stats(inputs: Inputs, backend: Backend) -> Results:
    scores = inputs["scores"]
    features = inputs["features"]
    pooled, stats = attn_pool_with_stats(scores, features, inputs["offsets"], backend=backend)
    return pooled, *stats


def _call_gated_scores(inputs: Inputs, backend: Backend) -> Results:
    weights = GateWeights(*(inputs[name] for name in GATES))
    return (gated_scores(inputs["hidden"], weights, backend=backend),)


def _call_topk_mask(inputs: Inputs, backend: Backend) -> Results:
    masked = topk_mask(
        inputs["scores"],
        inputs["offsets"],
        inputs["draws"],
        share=SHARE,
        fill=MASKED,
        backend=backend,
    )
    return (masked,)


def _call_gated_attn_pool(inputs: Inputs, backend: Backend) -> Results:
    weights = TrunkWeights(inputs["reducer"], *(inputs[name] for name in GATES))
    return gated_attn_pool(inputs["features"], weights, inputs["offsets"], backend=backend)[:2]


def _call_neighbour_attn(inputs: Inputs, backend: Backend) -> Results:
    names = ("queries", "keys", "vector", "sources", "targets")
    return neighbour_attn(*(inputs[name] for name in names), backend=backend)


def _call_bag_attn(inputs: Inputs, backend: Backend) -> Results:
    names = ("queries", "keys", "values", "ends", "ends", "key_bias")
    return bag_attn(*(inputs[name] for name in names), backend=backend)


def _call_window_attn(inputs: Inputs, backend: Backend) -> Results:
    names = ("queries", "keys", "values", "neighbours", "bias")
    return (window_attn(*(inputs[name] for name in names), backend=backend),)


def _call_agents(inputs: Inputs, backend: Backend) -> Results:
    """Few queries over many keys, then many queries over few keys."""
    agents, offsets, ends = inputs["agents"], inputs["offsets"], inputs["ends"]
    gathered, lse = bag_attn(
        agents, inputs["keys"], inputs["values"], ends, offsets, backend=backend
    )
    mixed, _ = bag_attn(inputs["queries"], agents, gathered, offsets, ends, backend=backend)
    return mixed, lse


def sdpa(inputs: Inputs) -> Results | None:
    """Pooling by torch's attention; None where it does not apply.

    Queries and keys are zeros, and the scores are the mask that is added to their
    products. Heads share the scores, and each pools some of the columns. It takes one
    bag: it knows no packed ones.
    """
    scores = inputs["scores"]
    features = inputs["features"]
    (tiles, branches), dim = scores.shape, features.shape[1]
    if len(inputs["offsets"]) > 2 or dim % HEAD_WIDTH:
        return None
    heads = dim // HEAD_WIDTH
    values = features.view(1, tiles, heads, HEAD_WIDTH).transpose(1, 2)
    queries = features.new_zeros(1, heads, branches, HEAD_WIDTH)
    keys = features.new_zeros(1, heads, tiles, HEAD_WIDTH)
    bias = scores.mT.to(features.dtype).expand(1, heads, -1, -1)
    # [1, heads, branches, HEAD_WIDTH]
    pooled = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    return (pooled.transpose(1, 2).reshape(1, branches, dim),)


def pyg(inputs: Inputs) -> Results | None:
    """PyTorch Geometric's GATv2 without its linear layers; None if it is not installed.

    It returns no attention.
    """
    try:
        from torch_geometric.nn import GATv2Conv
    except ImportError:
        return None
    _, heads, width = inputs["keys"].shape
    layer = GATv2Conv(heads * width, width, heads, add_self_loops=False, bias=False)
    layer.lin_l = torch.nn.Identity()
    layer.lin_r = torch.nn.Identity()
    del layer.att
    layer.att = inputs["vector"][None]
    edges = torch.stack([inputs["sources"], inputs["targets"]])
    messages = layer((inputs["keys"].flatten(1), inputs["queries"].flatten(1)), edges)
    return (messages.view(-1, heads, width),)


OPERATION = {
    "attn_pool": Operation(_scored, _call_attn_pool, ("scores", "features"), sdpa),
    "attn_pool_stats": Operation(_scored, _call_attn_pool_stats, ("scores", "features")),
    "gated_scores": Operation(_reduced, _call_gated_scores, ("hidden", *GATES)),
    "gated_attn_pool": Operation(_unreduced, _call_gated_attn_pool, ("reducer", *GATES)),
    "neighbour_attn": Operation(_graph, _call_neighbour_attn, ("queries", "keys", "vector"), pyg),
    "topk_mask": Operation(_ranked, _call_topk_mask, ("scores",)),
    "bag_attn": Operation(_runs, _call_bag_attn, ("queries", "keys", "values", "key_bias")),
    # So many tiles that they are split among programs, on a GPU.
    "bag_attn_agents": Operation(
        _agents, _call_agents, ("agents", "queries", "keys", "values"), checked_tiles=5000
    ),
    "window_attn": Operation(_windows, _call_window_attn, ("queries", "keys", "values", "bias")),
}
