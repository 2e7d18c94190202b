"""Graphs of bags, as a head's options ask for."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mil.bags import Bags, Graph, join_graphs, per_bag
from mil.config import Section
from mil.errors import ConfigError
from mil.graph import drop_edges, knn_graph, lsh_graph, minibatch_graph, spatial_graph, union
from mil.graph.edges import SELF

Build = Callable[[Tensor, Tensor | None], Graph | None]

Builder = Literal["spatial", "knn", "lsh", "minibatch"]
MAX_EXACT_TILES = 20_000  # of larger bags, `auto` finds similar tiles by hashing


class GraphConfig(Section):
    """Options of heads over a graph."""

    graph: Literal["auto", "spatial_first", "none"] | list[Builder] = Field(
        "auto",
        description="Sources of the graph's edges, one or several: spatial, knn, lsh, minibatch "
        "(sampled at each step); none: no edges; auto: spatial where coordinates are "
        "known, and knn, beyond 20 000 tiles lsh; spatial_first: spatial where coordinates are "
        "known, else as auto.",
    )
    neighbours: int = Field(
        8,
        gt=0,
        description="Largest number of neighbours of a tile by feature similarity "
        "(knn, lsh, minibatch).",
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


def graph_of_bags(
    config: GraphConfig, bags: Bags, centre: Float[Tensor, " dim"], build: Build, training: bool
) -> Graph:
    """Graph of all bags: the fixed part, plus the random part, less dropped edges.

    Args:
        config: options of the head.
        bags: bags, with the fixed part of their graph or without.
        centre: mean of the training tiles.
        build: function that builds the fixed part of one bag.
        training: draw from torch's own random state, and drop edges; else the random
            part is the same every time, and no edge is dropped.
    """
    fixed = bags.graph if bags.graph is not None else _fixed_graphs(bags, build)
    parts = [] if fixed is None else [fixed]
    if "minibatch" in config.graph:
        parts.append(_random_graphs(config, bags, centre, training))
    graph = union(parts) if len(parts) > 1 else parts[0]
    return drop_edges(graph, config.drop_edges) if training else graph


def _fixed_graphs(bags: Bags, build: Build) -> Graph | None:
    """Fixed part of the bags' graph, built now; None if there is none."""
    features = per_bag(bags.features, bags.offsets)
    sizes = bags.offsets.diff().tolist()
    coords: Sequence[Tensor | None] = [None] * len(sizes)
    if bags.coords is not None:
        coords = per_bag(bags.coords, bags.offsets)
    graphs = []
    for bag_features, bag_coords in zip(features, coords, strict=True):
        graph = build(bag_features, bag_coords)
        if graph is not None:
            graphs.append(graph)
    return join_graphs(graphs, sizes) if graphs else None


def _random_graphs(
    config: GraphConfig, bags: Bags, centre: Float[Tensor, " dim"], training: bool
) -> Graph:
    """Part of the bags' graph that is drawn at each step of training."""
    graphs = []
    for bag in per_bag(bags.features, bags.offsets):
        # Outside training a bag must get the same prediction every time.
        generator = None if training else torch.Generator().manual_seed(0)
        graph = minibatch_graph(
            _detached(bag),
            config.neighbours,
            _detached(centre),
            block=config.block,
            generator=generator,
        )
        graphs.append(graph)
    return join_graphs(graphs, bags.offsets.diff().tolist())


def fixed_graph(
    config: GraphConfig,
    features: Float[Tensor, "tiles dim"],
    coords: Int[Tensor, "tiles 2"] | None,
    centre: Float[Tensor, " dim"],
) -> Graph | None:
    """Part of a bag's graph that stays the same in training; None if all of it is random.

    Raises:
        ConfigError: `graph` names spatial neighbours, but the bag has no coordinates.
    """
    features = _detached(features)
    centre = _detached(centre)
    graphs: list[Graph] = []
    for builder in _builders(config, len(features), coords is not None):
        if builder == "spatial":
            graphs.append(spatial_graph(_required(coords)))
        elif builder == "knn":
            graphs.append(knn_graph(features, config.neighbours, centre))
        elif builder == "lsh":
            tables = {"tables": config.tables, "levels": config.levels, "width": config.width}
            graphs.append(lsh_graph(features, config.neighbours, centre, **tables))
    if graphs:
        return union(graphs) if len(graphs) > 1 else graphs[0]
    return None if "minibatch" in config.graph else _self_edges(features)


def _detached(values: Tensor) -> Tensor:
    """Values without a gradient, which a graph does not have; float64 as float32."""
    return values.detach().float() if values.dtype == torch.float64 else values.detach()


def _builders(config: GraphConfig, tiles: int, has_coords: bool) -> list[Builder]:
    if config.graph == "none":
        return []
    if isinstance(config.graph, list):
        return config.graph
    # Exact neighbours take time that grows with the square of the tiles.
    similar: Builder = "knn" if tiles <= MAX_EXACT_TILES else "lsh"
    if not has_coords:
        return [similar]
    return ["spatial"] if config.graph == "spatial_first" else ["spatial", similar]


def _required(coords: Tensor | None) -> Tensor:
    if coords is None:
        raise ConfigError(
            "head options: graph asks for spatial neighbours, but a bag has no coordinates; "
            "set graph to spatial_first, auto or [knn]"
        )
    return coords


def _self_edges(features: Tensor) -> Graph:
    tiles = torch.arange(len(features), device=features.device)
    return Graph(tiles, tiles, torch.full_like(tiles, SELF))
