"""`mil bench graph`: how long neighbour graphs take as bags grow, and how good they are."""

import math
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from time import perf_counter, process_time
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mil.bags import Graph
from mil.bench.results_table import Outcome, Row
from mil.graph import knn_graph, lsh_graph, minibatch_graph, spatial_graph
from mil.graph.directions import Directions
from mil.graph.edges import NOBODY, from_neighbours

NEIGHBOURS = 8
QUERIES = 256  # tiles whose neighbours are compared with all others
LONG_S = 30.0  # what takes longer is not repeated
NOT_COMPARED = "-"
NOTE = (
    "s: the fastest of the repeats; growth: CPU seconds / (N log2 N), over the same at the "
    "fewest tiles: at most 1 if "
    "time grows no faster than N log N (a busy machine disturbs CPU seconds less); extra: memory "
    "at its peak, beyond "
    "program and features; cosine: mean over the neighbours, as a share of that of the exact 8; "
    "recall: share of the "
    "exact 8 that are found. Features: 40 clusters of uneven size, each with six directions of "
    "its own, about a large "
    "common mean, float16."
)


def run(
    sizes: Sequence[int],
    *,
    dim: int,
    threads: int,
    repeats: int,
    knn_up_to: int,
    libraries_up_to: int,
) -> Outcome:
    """Build every kind of graph over synthetic bags, each in a process of its own.

    Args:
        sizes: tiles of the bags.
        dim: length of a feature vector.
        threads: of the CPU.
        repeats: of each; the fastest counts, what takes long is not repeated.
        knn_up_to: tiles up to which the exact graph is made.
        libraries_up_to: tiles up to which other libraries are timed.
    """
    most = (
        dict.fromkeys(BUILDERS, max(sizes))
        | dict.fromkeys(LIBRARIES, libraries_up_to)
        | {"knn": knn_up_to}
    )
    absent = [name for name in LIBRARIES if find_spec(name) is None]
    rows: list[Row] = []
    for name in (name for name in most if name not in absent):
        found = [
            _apart(measure, name, size, dim, threads, repeats)
            for size in sorted(sizes)
            if size <= most[name]
        ]
        rows += [{**row, "growth": _per_step(row) / _per_step(found[0])} for row in found]
    missing = "".join(f" {name} is not installed: not compared." for name in absent)
    return Outcome(f"mil bench graph, {dim} features, {threads} threads", rows, NOTE + missing)


def measure(name: str, tiles: int, dim: int, threads: int, repeats: int) -> Row:
    """Build one graph a few times and compare it with the exact one."""
    torch.set_num_threads(threads)
    features = bag(tiles, dim)
    build = BUILDERS.get(name) or partial(LIBRARIES[name], threads=threads)
    if name in LIBRARIES:
        build(features[:2000])  # they may compile
    before = _peak_mb()
    taken = list[tuple[float, float]]()
    while len(taken) < repeats and (not taken or taken[0][0] < LONG_S):
        began = perf_counter()
        cpu = process_time()
        graph = build(features)
        taken.append((perf_counter() - began, process_time() - cpu))
    extra = _peak_mb() - before
    cosine, recall = (
        (NOT_COMPARED,) * 2 if name == "spatial" else quality(graph, Directions(features))
    )
    return {
        "graph": name,
        "tiles": tiles,
        "s": min(s for s, _ in taken),
        "cpu_s": min(cpu for _, cpu in taken),
        "extra_MB": extra,
        "edges/tile": len(graph.sources) / tiles - 1,
        "cosine": cosine,
        "recall": recall,
    }


def bag(tiles: int, dim: int) -> Float[Tensor, "tiles dim"]:
    """Synthetic features in float16, always the same; see the note under the table."""
    chance = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=chance)
    shares = 1 / torch.arange(1.0, 41)
    mean = 5 * draw(dim)
    centres = draw(40, dim)
    directions = 0.5 * draw(40, 6, dim)
    features = torch.empty(tiles, dim, dtype=torch.float16)
    for rows in features.split(4096):
        of = torch.multinomial(shares, len(rows), replacement=True, generator=chance)
        within = torch.bmm(draw(len(rows), 1, 6), directions[of])[:, 0]
        rows.copy_(mean + centres[of] + within + 0.6 * draw(len(rows), dim))
    return features


def quality(graph: Graph, directions: Directions) -> tuple[float, float]:
    """Mean cosine of the neighbours as a share of that of the exact ones, and the share of those that are found."""
    queries = torch.arange(0, len(directions), max(1, len(directions) // QUERIES))
    best = _exact(directions, queries)
    number = torch.full((len(directions),), -1)
    number[queries] = torch.arange(len(queries))
    seen = (number[graph.targets] >= 0) & (graph.sources != graph.targets)
    sources = graph.sources[seen]
    of = number[graph.targets[seen]]
    cosines = (directions[sources] * directions[queries[of]]).sum(1)
    found = (best.indices[of] == sources[:, None]).any(1)
    return float(cosines.mean() / best.values.mean()), float(found.sum() / best.indices.numel())


def _exact(directions: Directions, queries: Int[Tensor, " queries"]) -> Any:
    cosines = torch.cat([directions[queries] @ block.T for block in directions.blocks()], dim=1)
    cosines[torch.arange(len(queries)), queries] = -torch.inf
    return cosines.topk(min(NEIGHBOURS, len(directions) - 1))


def _per_step(row: Row) -> float:
    return float(row["cpu_s"]) / (int(row["tiles"]) * math.log2(int(row["tiles"])))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _apart(call: Callable[..., Row], *arguments: Any) -> Row:
    """What a function returns in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def _minibatch(features: Tensor) -> Graph:
    return minibatch_graph(features, NEIGHBOURS, generator=torch.Generator().manual_seed(0))


def _spatial(features: Tensor) -> Graph:
    """Of as many tiles on a square grid, corners rounded to whole pixels."""
    number = torch.arange(len(features))
    side = math.isqrt(len(features) - 1) + 1
    return spatial_graph(
        (torch.stack([number % side, number // side], dim=1) * 538.37).round().int()
    )


def _hnswlib(features: Tensor, threads: int) -> Graph:
    points = Directions(features)[:].numpy()
    index = import_module("hnswlib").Index(space="ip", dim=points.shape[1])
    index.init_index(len(points), ef_construction=100, M=16, random_seed=0)
    index.set_num_threads(threads)
    index.add_items(points)
    index.set_ef(50)
    return _others(index.knn_query(points, NEIGHBOURS + 1)[0])


def _pynndescent(features: Tensor, threads: int) -> Graph:
    points = Directions(features)[:].numpy()
    index = import_module("pynndescent").NNDescent(
        points, metric="cosine", n_neighbors=NEIGHBOURS + 1, n_jobs=threads, random_state=0
    )
    return _others(index.neighbor_graph[0])


def _others(indices: Any) -> Graph:
    """Graph of what a library found with a tile itself, usually, as its nearest; else the last is one too many."""
    found = torch.from_numpy(indices.astype("int64"))
    left_out = found == torch.arange(len(found))[:, None]
    left_out[:, -1] |= ~left_out.any(1)
    return from_neighbours(found.masked_fill(left_out, NOBODY))


BUILDERS: dict[str, Callable[[Tensor], Graph]] = {
    "knn": knn_graph,
    "lsh, 1 table": partial(lsh_graph, tables=1),
    "lsh, 1 table, 3 levels": partial(lsh_graph, tables=1, levels=3),
    "lsh, 4 tables": lsh_graph,
    "lsh, 4 tables, 3 levels": partial(lsh_graph, levels=3),
    "lsh, 8 tables": partial(lsh_graph, tables=8),
    "lsh, 4 tables, width 32": partial(lsh_graph, width=32),
    "lsh, 8 tables, width 32": partial(lsh_graph, tables=8, width=32),
    "minibatch": _minibatch,
    "spatial": _spatial,
}
LIBRARIES: dict[str, Callable[..., Graph]] = {"hnswlib": _hnswlib, "pynndescent": _pynndescent}
