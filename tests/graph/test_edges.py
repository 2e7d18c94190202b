"""Every graph keeps the contract of `mil.bags.Graph`; unions and dropped edges do too."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mil.bags import Graph
from mil.graph import drop_edges, knn_graph, lsh_graph, minibatch_graph, spatial_graph, union
from mil.graph.edges import from_pairs


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


BUILDERS = {
    "spatial": lambda x: spatial_graph((x[:, :2] * 3).int() * 224),
    "knn": knn_graph,
    "lsh": lsh_graph,
    "lsh, one table": lambda x: lsh_graph(x, tables=1),
    "lsh, levels": lambda x: lsh_graph(x, tables=2, levels=3),
    "minibatch": lambda x: minibatch_graph(x, block=16, generator=seeded()),
    "union": lambda x: union([knn_graph(x, 3), spatial_graph((x[:, :2] * 3).int()), lsh_graph(x)]),
    "dropped": lambda x: drop_edges(knn_graph(x), 0.5, seeded()),
}


def assert_sound(graph: Graph, tiles: int, most: int | None = None) -> None:
    """What every head may rely on."""
    key = graph.targets * tiles + graph.sources
    assert (key.diff() > 0).all()  # sorted by target, then source, no edge twice
    for end in (graph.sources, graph.targets):
        assert end.dtype == torch.int64
        assert end.min() >= 0
        assert end.max() < tiles
    itself = graph.sources == graph.targets
    assert graph.targets[itself].tolist() == list(range(tiles))
    assert (graph.kinds[itself] == 1).all()
    assert set(graph.kinds[~itself].tolist()) <= {2, 4, 6}
    if most is not None:
        assert graph.targets.bincount(minlength=tiles).max() <= most + 1


def pairs(graph: Graph) -> set[tuple[int, int]]:
    return set(zip(graph.sources.tolist(), graph.targets.tolist(), strict=True))


def same(first: Graph, second: Graph) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("tiles", [1, 2, 3, 17, 300])
def test_every_graph_keeps_the_contract(name, tiles):
    graph = BUILDERS[name](torch.randn(tiles, 12, generator=seeded(tiles)))
    assert_sound(graph, tiles, most=24 if name == "union" else 8)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_equal_tiles_make_no_giant_neighbourhoods(name, value):
    assert_sound(
        BUILDERS[name](torch.full((200, 12), value)), 200, most=24 if name == "union" else 8
    )


@pytest.mark.parametrize("name", BUILDERS)
def test_the_same_seed_gives_the_same_graph_with_any_number_of_threads(name):
    features = torch.randn(5000, 16, generator=seeded())
    once = BUILDERS[name](features)
    again = BUILDERS[name](features)
    try:
        torch.set_num_threads(4)
        threaded = BUILDERS[name](features)
    finally:
        torch.set_num_threads(1)
    assert same(once, again)
    assert same(once, threaded)


edges = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40)


@given(edges, edges)
def test_a_union_has_every_edge_once_with_all_its_kinds(spatial, similar):
    made = [
        from_pairs(
            torch.tensor([s for s, _ in found], dtype=torch.int64),
            torch.tensor([t for _, t in found], dtype=torch.int64),
            kind,
            tiles=10,
        )
        for found, kind in ((spatial, 2), (similar, 4))
    ]
    both = union(made)
    kinds = dict.fromkeys([*spatial, *similar], 0) | {(i, i): 1 for i in range(10)}
    for found, kind in ((spatial, 2), (similar, 4)):
        for edge in found:
            kinds[edge] |= kind
    got = dict(zip(pairs_in_order(both), both.kinds.tolist(), strict=True))
    assert got == kinds
    assert list(got) == sorted(got, key=lambda edge: (edge[1], edge[0]))


def pairs_in_order(graph: Graph) -> list[tuple[int, int]]:
    return list(zip(graph.sources.tolist(), graph.targets.tolist(), strict=True))


def test_a_union_is_of_graphs_of_one_bag():
    with pytest.raises(ValueError, match=r"of one bag; these have \[3, 4\] tiles"):
        union([knn_graph(torch.randn(4, 2)), knn_graph(torch.randn(3, 2))])
    with pytest.raises(ValueError, match="of one bag"):
        union([])


def test_dropped_edges_are_a_random_share_and_never_a_tile_to_itself():
    graph = knn_graph(torch.randn(500, 6, generator=seeded()))
    less = drop_edges(graph, 0.2, seeded(1))
    assert pairs(less) < pairs(graph)
    assert abs(len(less.sources) - 500 - 0.8 * 4000) < 100  # four standard deviations
    assert not same(less, drop_edges(graph, 0.2, seeded(2)))
    assert same(drop_edges(graph, 0.0), graph)
    assert pairs(drop_edges(graph, 1.0)) == {(i, i) for i in range(500)}
    assert_sound(drop_edges(graph, 0.2), 500)  # by torch's own chance
