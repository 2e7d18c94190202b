"""`mil bench graph`: time, memory and quality of neighbour graphs as bags grow."""

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
from mil.bench.results_table import BenchmarkTable, Row
from mil.graph import knn_graph, lsh_graph, minibatch_graph, spatial_graph
from mil.graph.directions import Directions
from mil.graph.edges import NO_TILE, from_neighbours

NEIGHBOURS = 8
QUERIES = 256  # tiles whose neighbours are compared with the exact ones
LONG_S = 30.0  # a build that takes longer is not repeated
STEP_PX = 538.37  # between tiles of the spatial graph, level-0 pixels: not a whole number
NOT_COMPARED = "-"
NOTE = (
    "s: the fastest of the repeats. growth: CPU seconds / (N log2 N), relative to the smallest "
    "bag: at most 1 if time grows no faster than N log N (a busy machine disturbs CPU seconds "
    "less). extra: peak memory beyond program and features. cosine: mean over the neighbours, "
    "relative to that of the exact 8. recall: share of the exact 8 that are found. "
    "Features: 40 clusters of uneven size, each with six directions of its own, about a large "
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
) -> BenchmarkTable:
    """Build every kind of graph over synthetic bags, each in a process of its own.

    Args:
        sizes: numbers of tiles.
        dim: length of a feature vector.
        threads: number of CPU threads.
        repeats: number of builds of each graph, of which the fastest counts; a build
            that
            takes long is not repeated.
        knn_up_to: largest number of tiles for the exact graph.
        libraries_up_to: largest number of tiles for other libraries.
    """
    max_tiles = dict.fromkeys(BUILDERS, max(sizes))
    max_tiles |= dict.fromkeys(LIBRARIES, libraries_up_to)
    max_tiles["knn"] = knn_up_to
    absent = [name for name in LIBRARIES if find_spec(name) is None]
    rows: list[Row] = []
    for name in max_tiles:
        if name in absent:
            continue
        own_sizes = [size for size in sorted(sizes) if size <= max_tiles[name]]
        measured = [_apart(measure, name, size, dim, threads, repeats) for size in own_sizes]
        rows += [{**row, "growth": _per_step(row) / _per_step(measured[0])} for row in measured]
    missing = "".join(f" {name} is not installed: not compared." for name in absent)
    return BenchmarkTable(
        f"mil bench graph, {dim} features, {threads} threads", rows, NOTE + missing
    )


def measure(name: str, tiles: int, dim: int, threads: int, repeats: int) -> Row:
    """Build one graph a few times and compare it with the exact one."""
    torch.set_num_threads(threads)
    features = bag(tiles, dim)
    build = BUILDERS.get(name) or partial(LIBRARIES[name], threads=threads)
    if name in LIBRARIES:
        build(features[:2000])  # a library may compile at its first call
    before = _peak_mb()
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or seconds[0] < LONG_S):
        began = perf_counter()
        cpu_began = process_time()
        graph = build(features)
        seconds.append(perf_counter() - began)
        cpu_seconds.append(process_time() - cpu_began)
    extra = _peak_mb() - before
    cosine: float | str = NOT_COMPARED
    recall: float | str = NOT_COMPARED
    if name != "spatial":
        cosine, recall = quality(graph, Directions(features))
    return {
        "graph": name,
        "tiles": tiles,
        "s": min(seconds),
        "cpu_s": min(cpu_seconds),
        "extra_MB": extra,
        "edges/tile": len(graph.sources) / tiles - 1,
        "cosine": cosine,
        "recall": recall,
    }


def bag(tiles: int, dim: int) -> Float[Tensor, "tiles dim"]:
    """Synthetic features in float16, always the same; see the note under the table."""
    rng = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=rng)
    shares = 1 / torch.arange(1.0, 41)
    mean = 5 * draw(dim)
    centres = draw(40, dim)
    directions = 0.5 * draw(40, 6, dim)
    features = torch.empty(tiles, dim, dtype=torch.float16)
    for rows in features.split(4096):
        count = len(rows)
        cluster = torch.multinomial(shares, count, replacement=True, generator=rng)
        within = torch.bmm(draw(count, 1, 6), directions[cluster])[:, 0]
        rows.copy_(mean + centres[cluster] + within + 0.6 * draw(count, dim))
    return features


def quality(graph: Graph, directions: Directions) -> tuple[float, float]:
    """Mean cosine of the neighbours relative to the exact ones, and recall of the exact ones."""
    tiles = len(directions)
    queries = torch.arange(0, tiles, max(1, tiles // QUERIES))
    best = _exact(directions, queries)
    number = torch.full((tiles,), -1)  # of each tile among the queries
    number[queries] = torch.arange(len(queries))
    into_query = (number[graph.targets] >= 0) & (graph.sources != graph.targets)
    sources = graph.sources[into_query]
    query = number[graph.targets[into_query]]
    cosines = (directions[sources] * directions[queries[query]]).sum(1)
    exact = (best.indices[query] == sources[:, None]).any(1)
    cosine = float(cosines.mean() / best.values.mean())
    return cosine, float(exact.sum() / best.indices.numel())


def _exact(directions: Directions, queries: Int[Tensor, " queries"]) -> Any:
    cosines = torch.cat([directions[queries] @ block.T for block in directions.blocks()], dim=1)
    cosines[torch.arange(len(queries)), queries] = -torch.inf
    return cosines.topk(min(NEIGHBOURS, len(directions) - 1))


def _per_step(row: Row) -> float:
    tiles = int(row["tiles"])
    return float(row["cpu_s"]) / (tiles * math.log2(tiles))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _apart(call: Callable[..., Row], *arguments: Any) -> Row:
    """Result of a function in a new process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def _minibatch(features: Tensor) -> Graph:
    return minibatch_graph(features, NEIGHBOURS, generator=torch.Generator().manual_seed(0))


def _spatial(features: Tensor) -> Graph:
    """Graph of as many tiles on a square grid, corners rounded to whole pixels."""
    number = torch.arange(len(features))
    side = math.isqrt(len(features) - 1) + 1
    positions = torch.stack([number % side, number // side], dim=1)
    return spatial_graph((positions * STEP_PX).round().int())


def _hnswlib(features: Tensor, threads: int) -> Graph:
    points = Directions(features)[:].numpy()
    index = import_module("hnswlib").Index(space="ip", dim=points.shape[1])
    index.init_index(len(points), ef_construction=100, M=16, random_seed=0)
    index.set_num_threads(threads)
    index.add_items(points)
    index.set_ef(50)
    return _without_self(index.knn_query(points, NEIGHBOURS + 1)[0])


def _pynndescent(features: Tensor, threads: int) -> Graph:
    points = Directions(features)[:].numpy()
    index = import_module("pynndescent").NNDescent(
        points, metric="cosine", n_neighbors=NEIGHBOURS + 1, n_jobs=threads, random_state=0
    )
    return _without_self(index.neighbor_graph[0])


def _without_self(indices: Any) -> Graph:
    """Graph of a library's neighbours, which usually include the tile itself.

    Where they do not, the last neighbour is one too many.
    """
    neighbours = torch.from_numpy(indices.astype("int64"))
    omitted = neighbours == torch.arange(len(neighbours))[:, None]
    omitted[:, -1] |= ~omitted.any(1)
    return from_neighbours(neighbours.masked_fill(omitted, NO_TILE))


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
