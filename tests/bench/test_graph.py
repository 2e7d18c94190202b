"""The benchmark of graphs measures what it says."""

import pytest
import torch

from mil.bench import graph
from mil.graph import knn_graph, lsh_graph
from mil.graph.directions import Directions


@pytest.fixture
def at_hand(monkeypatch):
    """Measure in this process, which has imported torch; without other libraries."""
    monkeypatch.setattr(graph, "_apart", lambda call, *arguments: call(*arguments))
    monkeypatch.setattr(graph, "find_spec", lambda name: None)


def test_rows_of_every_builder_grow_from_the_fewest_tiles(at_hand):
    outcome = graph.run(
        [400, 200], dim=24, threads=1, repeats=1, knn_up_to=300, libraries_up_to=400
    )
    sizes = {
        name: [row["tiles"] for row in outcome.rows if row["graph"] == name]
        for name in graph.BUILDERS
    }
    assert sizes == {name: [200] if name == "knn" else [200, 400] for name in graph.BUILDERS}
    exact = outcome.rows[0]
    assert (exact["edges/tile"], exact["recall"]) == (8, 1)
    assert exact["cosine"] == pytest.approx(1)
    for first, second in zip(outcome.rows[1::2], outcome.rows[2::2], strict=True):
        assert first["growth"] == 1
        n_log_n = (
            400 * torch.tensor(400.0).log2().item() / (200 * torch.tensor(200.0).log2().item())
        )
        assert second["growth"] == pytest.approx(second["cpu_s"] / first["cpu_s"] / n_log_n)
    assert "hnswlib is not installed: not compared. pynndescent is not installed" in outcome.note


def test_quality_is_that_of_the_neighbours_kept():
    directions = Directions(graph.bag(500, 24))
    assert graph.quality(knn_graph(graph.bag(500, 24)), directions) == pytest.approx((1, 1))
    cosine, recall = graph.quality(knn_graph(graph.bag(500, 24), 4), directions)
    assert cosine > 1  # the best four are better than the best eight
    assert recall == pytest.approx(0.5)
    poor = graph.quality(lsh_graph(graph.bag(500, 24), tables=1), directions)
    good = graph.quality(lsh_graph(graph.bag(500, 24), tables=8), directions)
    assert 0 < poor[0] < good[0] < 1
    assert 0 < poor[1] < good[1] < 1


def test_bags_are_the_same_every_time_and_lie_far_from_zero():
    features = graph.bag(5000, 24)
    assert torch.equal(features, graph.bag(5000, 24))
    assert features.dtype == torch.float16
    assert features.float().mean(0).norm() > 2 * features.float().std(0).norm()


def test_a_library_that_missed_a_tile_itself_gives_no_neighbour_more():
    neighbours = graph._without_self(torch.tensor([[0, 1], [2, 0], [0, 2]]).numpy())
    assert list(zip(neighbours.sources.tolist(), neighbours.targets.tolist(), strict=True)) == [
        (0, 0),
        (1, 0),
        (1, 1),
        (2, 1),
        (0, 2),
        (2, 2),
    ]


@pytest.mark.parametrize("name", ["hnswlib", "pynndescent"])
def test_other_libraries_find_neighbours_where_they_are_installed(name):
    pytest.importorskip(name)
    features = graph.bag(300, 24)
    _, recall = graph.quality(graph.LIBRARIES[name](features, threads=1), Directions(features))
    assert recall > 0.9
