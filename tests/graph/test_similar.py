"""Similar tiles: exact neighbours by brute force, of one bucket, and of one block."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mil.graph import knn, knn_graph, lsh_graph, minibatch_graph
from mil.graph.directions import Directions
from mil.graph.hashing import MAX_BITS, by_code, code_lengths, default_bits, hashes
from mil.graph.lsh import _dropped_bits
from tests.graph.test_edges import assert_sound, pairs, same, seeded


def cosines(features, centre=None):
    away = features.double() - (features.double().mean(0) if centre is None else centre)
    unit = away / away.norm(dim=1, keepdim=True)
    return (unit @ unit.T).fill_diagonal_(-torch.inf)


def top(cosine, most: int) -> set[tuple[int, int]]:
    """Edges to every tile from those of largest cosine, minus infinity never, and from itself."""
    best = cosine.topk(min(most, len(cosine) - 1), dim=1)
    found = {
        (j, i)
        for i, row in enumerate(best.indices.tolist())
        for k, j in enumerate(row)
        if best.values[i, k] > -2
    }
    return found | {(i, i) for i in range(len(cosine))}


def normal(tiles: int, dim: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(tiles, dim, generator=seeded(seed))


def clusters(tiles: int, noise: float = 1.0, dim: int = 96, number: int = 40):
    chance = seeded(3)
    of = torch.randint(number, (tiles,), generator=chance)
    centres = torch.randn(number, dim, generator=chance)
    return centres[of] + noise * torch.randn(tiles, dim, generator=chance), of


def share_inside(graph, of) -> float:
    """Of the edges between tiles, those within a cluster."""
    between = graph.sources != graph.targets
    return (of[graph.sources] == of[graph.targets])[between].float().mean().item()


@pytest.mark.parametrize(
    "tiles", [2, 5, 9, 200, 700]
)  # 700: rows long enough to be searched by groups
@pytest.mark.parametrize("centre", [None, torch.linspace(-1, 1, 16)])
def test_knn_equals_brute_force(tiles, centre, monkeypatch):
    monkeypatch.setattr(knn, "MAX_COSINES", 7000)  # several rounds of queries
    graph = knn_graph(normal(tiles), 8, centre)
    assert pairs(graph) == top(cosines(normal(tiles), centre), 8)
    assert_sound(graph, tiles, most=8)


def test_what_encoders_share_is_taken_off():
    features = normal(300)
    assert pairs(knn_graph(features + 50)) == pairs(knn_graph(features))
    assert pairs(knn_graph(features + 50, centre=torch.full((16,), 50.0))) != pairs(
        knn_graph(features + 50)
    )


@pytest.mark.parametrize(
    "build", [knn_graph, lsh_graph, lambda x: minibatch_graph(x, block=64, generator=seeded())]
)
def test_storage_and_precision_of_the_head_change_nothing(build):
    stored = (normal(500) + 3).half()
    want = build(stored.float())
    assert same(build(stored), want)
    with torch.autocast("cpu", torch.bfloat16):
        assert same(build(stored.float().requires_grad_()), want)


@pytest.mark.parametrize("build", [knn_graph, lsh_graph, lambda x: minibatch_graph(x, block=256)])
def test_the_same_graph_with_any_number_of_threads_at_the_width_of_encoders(build):
    features = normal(1500, 768)
    made = []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            made.append(build(features))
    finally:
        torch.set_num_threads(1)
    assert all(same(made[0], other) for other in made[1:])


def reach(codes, lengths, companions) -> list[int]:
    """Length of each tile's code: the longest that enough others share, or the shortest."""
    found = []
    for code in codes:
        sharing = {
            length: sum((code ^ other) >> lengths[-1] - length == 0 for other in codes)
            for length in lengths
        }
        found.append(
            max((length for length in lengths if sharing[length] > companions), default=lengths[0])
        )
    return found


@pytest.mark.parametrize(
    ("tiles", "tables", "width", "bits", "levels"),
    [
        (500, 1, 8, 5, 1),
        (500, 3, 4, 5, 1),
        (500, 2, 31, 5, 1),
        (60, 8, 8, 5, 1),
        (300, 1, 8, 5, 3),
        (200, 3, 12, 4, 2),
    ],
)
def test_lsh_keeps_the_best_of_those_beside_one_another_in_a_bucket(
    tiles, tables, width, bits, levels
):
    features = normal(tiles)
    half = width // 2
    lengths = code_lengths(bits, levels)
    codes, along = hashes(Directions(features), tables, lengths[-1], seeded(7))
    compared = torch.zeros(tiles, tiles, dtype=torch.bool)
    for code, places in zip(codes.tolist(), along.tolist(), strict=True):
        length = reach(code, lengths, companions=5)
        order = sorted(range(tiles), key=lambda i, key=(code, places): (key[0][i], key[1][i]))
        for place, tile in enumerate(order):
            for other in order[place + 1 : place + 1 + half]:
                if (code[tile] ^ code[other]) >> lengths[-1] - min(
                    length[tile], length[other]
                ) == 0:
                    compared[tile, other] = compared[other, tile] = True
    graph = lsh_graph(features, 5, tables=tables, width=width, bits=bits, levels=levels, seed=7)
    assert pairs(graph) == top(cosines(features).masked_fill(~compared, -torch.inf), 5)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize(
    "features", [torch.ones(1500, 4), clusters(1500, 0.01, number=2)[0]], ids=["equal", "two"]
)
def test_giant_buckets_are_never_joined_all_with_all(features, levels):
    graph = lsh_graph(features, 100, tables=3, width=6, levels=levels)
    assert_sound(graph, 1500, most=3 * 6)


def test_codes_are_sides_of_planes_through_the_centre():
    directions = Directions(normal(40))
    codes, _ = hashes(directions, 2, 5, seeded())
    planes = torch.randn(16, 12, generator=seeded()).unflatten(1, (2, 6))
    for table in range(2):
        sides = directions[:] @ planes[:, table, :5] > 0
        assert codes[table].tolist() == [
            int("".join(str(int(bit)) for bit in row), 2) for row in sides
        ]


@pytest.mark.parametrize(
    ("tiles", "bits"), [(1, 1), (16, 1), (33, 2), (20_000, 11), (1_000_000, 16), (10**9, 24)]
)
def test_planes_for_buckets_of_sixteen(tiles, bits):
    assert default_bits(tiles) == bits


def test_levels_lie_around_the_bits_asked_for():
    assert code_lengths(9, 1) == [9]
    assert code_lengths(9, 3) == [7, 9, 11]
    assert code_lengths(2, 4) == [1, 3, 5]
    assert code_lengths(24, 3) == [22, MAX_BITS]


@given(st.lists(st.integers(0, 63), min_size=1, max_size=30).map(sorted), st.integers(1, 5))
def test_the_finest_level_with_enough_companions(codes, companions):
    want = [6 - length for length in reach(codes, [2, 4, 6], companions)]
    assert _dropped_bits(torch.tensor(codes), [2, 4, 6], companions).tolist() == want


def test_levels_find_companions_for_lonely_tiles():
    features = normal(400)
    lonely = lsh_graph(features, tables=1, bits=10)
    helped = lsh_graph(features, tables=1, bits=6, levels=5)  # 2, 4, 6, 8 and 10 bits
    assert len(lonely.sources) - 400 < 2 * 400
    assert len(helped.sources) - 400 > 4 * 400


def test_order_of_codes_then_of_places_along_a_direction():
    codes = torch.tensor([3, 0, 3, 0])
    along = torch.tensor([0.2, 0.9, -0.5, 0.1])
    assert by_code(codes, along).tolist() == [3, 1, 2, 0]


def test_more_tables_join_more_of_a_cluster():
    features, of = clusters(4000)
    shares = [share_inside(lsh_graph(features, tables=tables), of) for tables in (1, 4, 8)]
    assert shares[0] < 0.5
    assert shares[0] + 0.25 < shares[1] < shares[2]
    assert shares[2] > 0.9
    assert share_inside(lsh_graph(features, tables=4, width=32), of) > shares[1]


def test_without_centring_hashes_are_blind():
    features, of = clusters(4000)
    shifted = features + 50
    blind = share_inside(lsh_graph(shifted, centre=torch.zeros(96)), of)
    assert blind < 0.5 * share_inside(lsh_graph(shifted), of)
    assert share_inside(lsh_graph(shifted), of) == pytest.approx(
        share_inside(lsh_graph(features), of), abs=0.01
    )


def test_lsh_leaves_out_what_is_not_similar_enough():
    features = normal(400)
    graph = lsh_graph(features, least=0.3)
    between = graph.sources != graph.targets
    cosine = cosines(features)[graph.targets, graph.sources][between]
    assert 0 < len(cosine) < 400 * 8
    assert cosine.min() >= 0.3 - 1e-6
    assert pairs(graph) < pairs(lsh_graph(features))


def test_another_seed_is_another_graph():
    features = normal(400)
    assert same(lsh_graph(features, seed=1), lsh_graph(features, seed=1))
    assert not same(lsh_graph(features, seed=1), lsh_graph(features, seed=2))


@pytest.mark.parametrize("wrong", [{"width": 1}, {"tables": 0}, {"levels": 0}])
def test_options_of_lsh_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="must be at least"):
        lsh_graph(normal(5), **wrong)


@pytest.mark.parametrize(("tiles", "block"), [(1000, 64), (1000, 1), (130, 128), (257, 128)])
def test_no_edge_leaves_a_block(tiles, block):
    graph = minibatch_graph(normal(tiles), block=block, generator=seeded())
    assert_sound(graph, tiles, most=8)
    joined = coo_array(
        (torch.ones(len(graph.sources)), (graph.sources, graph.targets)), shape=(tiles, tiles)
    )
    _, of = connected_components(joined, directed=False)
    assert torch.from_numpy(of).bincount().max() <= block


def test_all_of_a_block_are_compared():
    features = normal(300)
    strata = torch.arange(300) % 3
    graph = minibatch_graph(features, block=100, generator=seeded(), strata=strata)
    assert pairs(graph) == top(
        cosines(features).masked_fill(strata[:, None] != strata, -torch.inf), 8
    )
    assert same(minibatch_graph(features, block=300), knn_graph(features))


def test_blocks_are_as_large_as_can_be():
    graph = minibatch_graph(
        normal(101), block=10, generator=seeded(), strata=torch.zeros(101, dtype=torch.int64)
    )
    sizes = graph.targets.bincount()  # 11 blocks of 9 or 10 tiles: all others, at most 8
    assert sizes.tolist() == [9] * 101


def test_blocks_are_drawn_anew():
    features = normal(600)
    draw = seeded()
    first, second = (minibatch_graph(features, block=64, generator=draw) for _ in range(2))
    assert not same(first, second)
    assert same(first, minibatch_graph(features, block=64, generator=seeded()))
    torch.manual_seed(5)
    assert not same(minibatch_graph(features, block=64), minibatch_graph(features, block=64))


def test_strata_of_a_few_planes_hold_tiles_that_are_alike():
    features, of = clusters(4000)
    by_planes = minibatch_graph(features, block=128, generator=seeded())
    at_random = minibatch_graph(
        features, block=128, generator=seeded(), strata=torch.zeros(4000, dtype=torch.int64)
    )
    assert share_inside(by_planes, of) > share_inside(at_random, of)


def test_a_block_holds_a_tile():
    with pytest.raises(ValueError, match="at least 1 tile"):
        minibatch_graph(normal(5), block=0)
