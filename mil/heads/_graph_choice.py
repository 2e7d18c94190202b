"""Which graphs a head's option asks for, and what becomes of them for one bag."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mil.bags import Bags, Graph, join_graphs, per_bag
from mil.config import Section
from mil.errors import ConfigError
from mil.graph import drop_edges, knn_graph, lsh_graph, minibatch_graph, spatial_graph, union
from mil.graph.edges import ITSELF

Build = Callable[[Tensor, Tensor | None], Graph | None]

Builder = Literal["spatial", "knn", "lsh", "minibatch"]
EXACT_UP_TO = 20_000  # tiles; beyond, `auto` hashes


class GraphConfig(Section):
    """Options of heads over a graph."""

    graph: Literal["auto", "none"] | list[Builder] = Field(
        "auto",
        description="Sources of the graph's edges, one or several: spatial, knn, lsh, minibatch "
        "(sampled at each step); none: no edges; auto: spatial where coordinates are "
        "known, and knn, beyond 20 000 tiles lsh.",
    )
    neighbours: int = Field(
        8,
        gt=0,
        description="Largest number of neighbours of a tile by feature similarity (knn, lsh, minibatch).",
    )
    tables: int = Field(4, gt=0, description="Number of hash tables (lsh).")
    levels: int = Field(1, gt=0, description="Number of levels of a hash table (lsh).")
    width: int = Field(
        32,
        gt=1,
        description="Largest number of tiles of a hash table that a tile is compared with (lsh).",
    )
    block: int = Field(
        1024, gt=0, description="Largest number of tiles compared with one another (minibatch)."
    )
    drop_edges: float = Field(
        0.2, ge=0, lt=1, description="Fraction of edges dropped at each step of training, 0 to 1."
    )


def graph_of(
    config: GraphConfig, bags: Bags, centre: Float[Tensor, " dim"], build: Build, training: bool
) -> Graph:
    """The graph of all bags: what was made beforehand or is made now, and what is drawn, less what is dropped.

    Args:
        config: what is asked for.
        bags: with the part of their graph that stays the same, or without.
        centre: mean of the training tiles.
        build: makes that part for one bag.
        training: draw by torch's own chance, and drop edges; else draws are the same
            every time.
    """
    parts = [_made(bags, build)] if bags.graph is None else [bags.graph]
    if "minibatch" in config.graph:
        parts.append(_drawn(config, bags, centre, training))
    given = [part for part in parts if part is not None]
    graph = union(given) if len(given) > 1 else given[0]
    return drop_edges(graph, config.drop_edges) if training else graph


def _made(bags: Bags, build: Build) -> Graph | None:
    """The part of the bags' graph that stays the same, made now."""
    features = per_bag(bags.features, bags.offsets)
    sizes = bags.offsets.diff().tolist()
    coords = [None] * len(sizes) if bags.coords is None else per_bag(bags.coords, bags.offsets)
    made = [
        graph for bag in zip(features, coords, strict=True) if (graph := build(*bag)) is not None
    ]
    return join_graphs(made, sizes) if made else None


def _drawn(config: GraphConfig, bags: Bags, centre: Float[Tensor, " dim"], training: bool) -> Graph:
    """The part of the bags' graph that is drawn anew at each step of training."""
    graphs = []
    for bag in per_bag(bags.features, bags.offsets):
        generator = None if training else torch.Generator().manual_seed(0)
        numbers = _plain(bag), config.neighbours, _plain(centre)
        graphs.append(minibatch_graph(*numbers, block=config.block, generator=generator))
    return join_graphs(graphs, bags.offsets.diff().tolist())


def kept_graph(
    config: GraphConfig,
    features: Float[Tensor, "tiles dim"],
    coords: Int[Tensor, "tiles 2"] | None,
    centre: Float[Tensor, " dim"],
) -> Graph | None:
    """The part of a bag's graph that stays the same; None if there is none.

    Raises:
        ConfigError: spatial neighbours are asked for by name, but nobody knows where
            the tiles are.
    """
    features = _plain(features)
    centre = _plain(centre)
    made: list[Graph] = []
    for builder in _builders(config, len(features), coords is not None):
        if builder == "spatial":
            made.append(spatial_graph(_known(coords)))
        elif builder == "knn":
            made.append(knn_graph(features, config.neighbours, centre))
        elif builder == "lsh":
            tables = {"tables": config.tables, "levels": config.levels, "width": config.width}
            made.append(lsh_graph(features, config.neighbours, centre, **tables))
    if made:
        return union(made) if len(made) > 1 else made[0]
    return None if "minibatch" in config.graph else _alone(features)


def _plain(numbers: Tensor) -> Tensor:
    """A graph has no gradient, and who is similar is judged in float32 at most."""
    return numbers.detach().float() if numbers.dtype == torch.float64 else numbers.detach()


def _builders(config: GraphConfig, tiles: int, placed: bool) -> list[Builder]:
    if config.graph == "none":
        return []
    if config.graph != "auto":
        return config.graph
    similar: Builder = "knn" if tiles <= EXACT_UP_TO else "lsh"
    return ["spatial", similar] if placed else [similar]


def _known(coords: Tensor | None) -> Tensor:
    if coords is None:
        raise ConfigError(
            "head options: graph asks for spatial neighbours, but a bag does not say where its "
            "tiles are; set graph to "
            "auto, or to [knn]"
        )
    return coords


def _alone(features: Tensor) -> Graph:
    itself = torch.arange(len(features), device=features.device)
    return Graph(itself, itself, torch.full_like(itself, ITSELF))
