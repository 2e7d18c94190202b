"""The eight tiles around each, on every grid that bags come with."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mil.graph import spatial_graph
from mil.tile.grid import grid
from tests.graph.test_edges import assert_sound, pairs, seeded


def around(cells) -> set[tuple[int, int]]:
    """Edges by definition: cells at most one apart on both axes."""
    apart = (cells[:, None] - cells[None]).abs().amax(2)
    return {(int(s), int(t)) for s, t in (apart <= 1).nonzero()}


def square(side: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(side), torch.arange(side))


def some(cells, share: float, seed: int = 0) -> torch.Tensor:
    return cells[torch.rand(len(cells), generator=seeded(seed)) < share]


@given(
    st.sets(st.tuples(st.integers(0, 12), st.integers(-5, 7)), min_size=1),
    st.integers(1, 600),
    st.randoms(),
)
def test_any_tiles_on_a_whole_grid_equal_brute_force(places, step, chance):
    places = sorted(places)
    chance.shuffle(places)
    cells = torch.tensor(places)
    graph = spatial_graph((cells * step + 1000).int(), step)
    assert pairs(graph) == around(cells)
    assert_sound(graph, len(cells), most=8)
    assert set(graph.kinds.tolist()) <= {1, 2}


@pytest.mark.parametrize("share", [1.0, 0.6, 0.25])
@pytest.mark.parametrize("side", [1, 2, 7, 224, 538.37, 1077.5])
def test_the_step_is_found_where_tiles_are_missing_and_corners_were_rounded(side, share):
    cells = some(square(40), share)
    graph = spatial_graph((cells * side + 17.3).round().int())
    assert pairs(graph) == around(cells)


def test_rounding_adds_up_to_nothing_along_a_long_row():
    corners = torch.from_numpy(grid((2_000_000, 1100), 538.4999))
    graph = spatial_graph(corners)
    columns = len(corners) // 2
    assert columns > 3700  # 0.5 px a tile: rounded to 538 px, the last would be three columns off
    assert len(graph.sources) == 2 * (6 * columns - 4)  # five and itself, less at the ends
    assert (graph.sources % columns - graph.targets % columns).abs().max() == 1


def test_corners_that_are_off_by_a_pixel_each():
    cells = some(square(30), 0.8)
    off = torch.randint(-1, 2, cells.shape, generator=seeded())
    assert pairs(spatial_graph(cells * 224 + off)) == around(cells)


@pytest.mark.parametrize(
    ("near", "far"),
    [
        ((279, 0), (281, 0)),
        ((169, 55), (167, 55)),
        ((55, 169), (57, 169)),
        ((-279, 279), (-279, 281)),
    ],
)
def test_a_neighbour_may_be_a_quarter_of_a_step_off(near, far):
    assert len(spatial_graph(torch.tensor([(0, 0), near]), 224).sources) == 4
    assert len(spatial_graph(torch.tensor([(0, 0), far]), 224).sources) == 2


def test_regions_with_grids_of_their_own():
    regions = [
        square(12) * 256 + torch.tensor(corner)
        for corner in ((0, 0), (20_133, 77), (128, 9_000), (11_111, 0))
    ]
    graph = spatial_graph(torch.cat(regions))
    ours = around(square(12))
    assert pairs(graph) == {
        (s + 144 * region, t + 144 * region) for region in range(4) for s, t in ours
    }


def test_a_few_regions_that_touch_do_not_shrink_the_step():
    first = square(20) * 256
    second = square(20) * 256 + torch.tensor([20 * 256 - 56, 0])
    graph = spatial_graph(torch.cat([first, second]))
    inside = {(s, t) for s, t in pairs(graph) if (s < 400) == (t < 400)}
    assert inside == around(square(20)) | {(s + 400, t + 400) for s, t in around(square(20))}


def test_kinds_say_who_is_beside_whom():
    graph = spatial_graph(torch.tensor([[0, 0], [224, 224], [900, 0]]), 224)
    assert list(zip(*(part.tolist() for part in graph), strict=True)) == [
        (0, 0, 1),
        (1, 0, 2),
        (0, 1, 2),
        (1, 1, 1),
        (2, 2, 1),
    ]


@pytest.mark.parametrize("step", [None, 224])
def test_tiles_in_one_place_are_not_all_neighbours(step):
    coords = torch.cat([torch.zeros(500, 2), torch.tensor([[224, 0], [448, 0]])]).int()
    graph = spatial_graph(coords, step)
    assert_sound(graph, 502, most=8)
    assert pairs(graph) - {(i, i) for i in range(502)} == {
        (0, 500),
        (500, 0),
        (500, 501),
        (501, 500),
    }
    assert len(spatial_graph(coords[:500]).sources) == 500  # nobody anywhere else


def test_tiles_in_no_common_row_or_column():
    assert pairs(spatial_graph(torch.tensor([[0, 0], [100, 100], [200, 200], [900, 400]]))) == {
        *((i, i) for i in range(4)),
        (0, 1),
        (1, 0),
        (1, 2),
        (2, 1),
    }


@pytest.mark.parametrize("step", [0, -3])
def test_a_step_that_cannot_be(step):
    with pytest.raises(ValueError, match="must be positive"):
        spatial_graph(torch.tensor([[0, 0]]), step)
