"""How each operation is given its inputs and called; and what other libraries have that does the same."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mil.bags import MASKED
from mil.bench.kernels_cases import ATTENTION, HEADS, SHARE, TOP, Case
from mil.kernels.attn_pool import attn_pool, attn_pool_with_stats
from mil.kernels.dispatch import Backend
from mil.kernels.gated_attn_pool import TrunkWeights, gated_attn_pool
from mil.kernels.gated_scores import GateWeights, gated_scores
from mil.kernels.neighbour_attn import neighbour_attn
from mil.kernels.topk_mask import topk_mask

SEED = 1
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
HEAD_WIDTH = 128  # numbers of a tile that one head of `scaled_dot_product_attention` pools
Inputs = dict[str, Tensor]
Results = tuple[Tensor, ...]


class Operation(NamedTuple):
    """An operation as the heads use it."""

    make: Callable[[Case, torch.device], Inputs]
    call: Callable[[Inputs, Backend], Results]
    learned: tuple[str, ...]  # inputs that get a gradient
    other: Callable[[Inputs], Results | None] | None = (
        None  # of another library; None: it does not apply
    )


def _normal(
    draw: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Made in place, so that nothing larger has been in memory before."""
    return torch.empty(shape, dtype=dtype, device=draw.device).normal_(generator=draw)


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(SEED)


def _offsets(case: Case, device: torch.device) -> Tensor:
    return torch.tensor(case.offsets(), device=device)


def _scored(case: Case, device: torch.device) -> Inputs:
    """Rows that have scores."""
    draw = _generator(device)
    features = _normal(draw, (case.tiles, case.dim), DTYPES[case.dtype])
    return {
        "scores": _normal(draw, (case.tiles, case.branches)),
        "features": features,
        "offsets": _offsets(case, device),
    }


def _gates(draw: torch.Generator, hidden: int, branches: int) -> Inputs:
    """Parameters of gated scores, in their order."""
    wide = hidden**-0.5
    narrow = ATTENTION**-0.5
    return {
        "value": wide * _normal(draw, (ATTENTION, hidden)),
        "value_bias": wide * _normal(draw, (ATTENTION,)),
        "gate": wide * _normal(draw, (ATTENTION, hidden)),
        "gate_bias": wide * _normal(draw, (ATTENTION,)),
        "score": narrow * _normal(draw, (branches, ATTENTION)),
        "score_bias": narrow * _normal(draw, (branches,)),
    }


GATES = ("value", "value_bias", "gate", "gate_bias", "score", "score_bias")


def _unreduced(case: Case, device: torch.device) -> Inputs:
    """Features of tiles, and the parameters of a reducer and of gated scores."""
    draw = _generator(device)
    features = _normal(draw, (case.tiles, case.dim), DTYPES[case.dtype])
    reducer = case.dim**-0.5 * _normal(draw, (case.hidden, case.dim))
    gates = _gates(draw, case.hidden, case.branches)
    return {"features": features, "reducer": reducer, **gates, "offsets": _offsets(case, device)}


def _reduced(case: Case, device: torch.device) -> Inputs:
    """Reduced tiles, and the parameters of gated scores."""
    draw = _generator(device)
    hidden = _normal(draw, (case.tiles, case.dim), DTYPES[case.dtype])
    return {"hidden": hidden, **_gates(draw, case.dim, case.branches)}


def _ranked(case: Case, device: torch.device) -> Inputs:
    """Scores, and the draws that say which of the highest are masked."""
    draw = _generator(device)
    scores = _normal(draw, (case.tiles, case.branches))
    draws = torch.rand(case.bags, case.branches, TOP, generator=draw, device=device)
    return {"scores": scores, "offsets": _offsets(case, device), "draws": draws}


def _graph(case: Case, device: torch.device) -> Inputs:
    """Tiles of a square that look at those around them and at themselves; beyond a bag's end it begins again."""
    draw = _generator(device)
    shape = (case.tiles, HEADS, case.dim // HEADS)
    queries, keys = (_normal(draw, shape, DTYPES[case.dtype]) for _ in range(2))
    offsets = _offsets(case, device)
    sizes = offsets.diff()
    numbers = torch.arange(case.tiles, device=device)
    bag = torch.searchsorted(offsets[1:], numbers, right=True)
    first = offsets[bag][:, None]
    size = sizes[bag][:, None]
    across = size.double().sqrt().long()
    down, right = (
        step.flatten()
        for step in torch.meshgrid(*2 * [torch.arange(-1, 2, device=device)], indexing="ij")
    )
    sources = (
        first + (numbers[:, None] - first + down * across + right) % size
    )  # [tiles, neighbours]
    targets = numbers[:, None].expand_as(sources)
    vector = shape[2] ** -0.5 * _normal(draw, shape[1:])
    return {
        "queries": queries,
        "keys": keys,
        "vector": vector,
        "sources": sources.flatten(),
        "targets": targets.flatten(),
    }


def _call_attn_pool(given: Inputs, backend: Backend) -> Results:
    return (attn_pool(given["scores"], given["features"], given["offsets"], backend=backend),)


def _call_attn_pool_stats(given: Inputs, backend: Backend) -> Results:
    pooled, stats = attn_pool_with_stats(
        given["scores"], given["features"], given["offsets"], backend=backend
    )
    return pooled, *stats


def _call_gated_scores(given: Inputs, backend: Backend) -> Results:
    return (
        gated_scores(
            given["hidden"], GateWeights(*(given[name] for name in GATES)), backend=backend
        ),
    )


def _call_topk_mask(given: Inputs, backend: Backend) -> Results:
    how = {"share": SHARE, "fill": MASKED}
    return (topk_mask(given["scores"], given["offsets"], given["draws"], **how, backend=backend),)


def _call_gated_attn_pool(given: Inputs, backend: Backend) -> Results:
    weights = TrunkWeights(given["reducer"], *(given[name] for name in GATES))
    return gated_attn_pool(given["features"], weights, given["offsets"], backend=backend)[:2]


def _call_neighbour_attn(given: Inputs, backend: Backend) -> Results:
    return neighbour_attn(
        *(given[name] for name in ("queries", "keys", "vector", "sources", "targets")),
        backend=backend,
    )


def sdpa(given: Inputs) -> Results | None:
    """Pooling as torch's attention has it: zeros for queries and keys, scores as what is added to their products.

    Heads share the scores, and each pools some of the numbers. Of one bag: it knows no
    packed ones.
    """
    scores = given["scores"]
    features = given["features"]
    (tiles, branches), dim = scores.shape, features.shape[1]
    if len(given["offsets"]) > 2 or dim % HEAD_WIDTH:
        return None
    heads = dim // HEAD_WIDTH
    values = features.view(1, tiles, heads, HEAD_WIDTH).transpose(1, 2)
    queries, keys = (features.new_zeros(1, heads, rows, HEAD_WIDTH) for rows in (branches, tiles))
    added = scores.mT.to(features.dtype).expand(1, heads, -1, -1)
    pooled = functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=added
    )  # [1, heads, branches, ...]
    return (pooled.transpose(1, 2).reshape(1, branches, dim),)


def pyg(given: Inputs) -> Results | None:
    """PyTorch Geometric's GATv2 without its linear layers; None where it is not installed. It hands on no attention."""
    try:
        from torch_geometric.nn import GATv2Conv
    except ImportError:
        return None
    _, heads, width = given["keys"].shape
    layer = GATv2Conv(heads * width, width, heads, add_self_loops=False, bias=False)
    layer.lin_l, layer.lin_r = torch.nn.Identity(), torch.nn.Identity()
    del layer.att
    layer.att = given["vector"][None]
    edges = torch.stack([given["sources"], given["targets"]])
    messages = layer((given["keys"].flatten(1), given["queries"].flatten(1)), edges)
    return (messages.view(-1, heads, width),)


OPERATION = {
    "attn_pool": Operation(_scored, _call_attn_pool, ("scores", "features"), sdpa),
    "attn_pool_stats": Operation(_scored, _call_attn_pool_stats, ("scores", "features")),
    "gated_scores": Operation(_reduced, _call_gated_scores, ("hidden", *GATES)),
    "gated_attn_pool": Operation(_unreduced, _call_gated_attn_pool, ("reducer", *GATES)),
    "neighbour_attn": Operation(_graph, _call_neighbour_attn, ("queries", "keys", "vector"), pyg),
    "topk_mask": Operation(_ranked, _call_topk_mask, ("scores",)),
}
