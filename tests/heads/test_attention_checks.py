"""What must hold of attention pools and mixers whatever their parameters."""

import math
from functools import reduce

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from mil.bags import Bags, join
from mil.heads import build_head
from mil.heads._mix_layer import MixLayer, build_mixer
from mil.heads._mixers import (
    agent,
    dynamic_mask,
    full,
    hyper,
    landmark,
    neighbourhood,
    nystrom,
    uniform,
)
from mil.heads._mixers.base import Places, Rows, Shape
from mil.heads._stream import PooledPart
from tests.heads.test_mixers import ANY_PLACE, MIXERS, NAMES, mixed_by, one_bag, random_rows

GRID = torch.stack([torch.arange(9) % 3, torch.arange(9) // 3], 1) * 10


def of_one_tile(scores, values):
    """Weighted mean of values [tiles, width] by the softmax of scores, summed term by term."""
    weights = [math.exp(score) for score in scores.tolist()]
    products = (weight * value for weight, value in zip(weights, values, strict=True))
    return reduce(torch.add, products) / sum(weights)


def loop_over(rows, scores_of, values_of):
    """Mixed rows, one query and head after another."""
    per_key_head = rows.queries.shape[1] // rows.keys.shape[1]
    mixed = torch.empty(*rows.queries.shape[:2], rows.values.shape[2], dtype=rows.values.dtype)
    for tile, heads in enumerate(rows.queries):
        for head, query in enumerate(heads):
            key_head = head // per_key_head
            mixed[tile, head] = of_one_tile(
                scores_of(tile, query, key_head), values_of(tile, key_head)
            )
    return mixed


def full_loop(mixer, rows):
    root = rows.keys.shape[2] ** 0.5
    return loop_over(
        rows,
        lambda _, query, head: rows.keys[:, head] @ query / root,
        lambda _, head: rows.values[:, head],
    )


def uniform_loop(mixer, rows):
    return loop_over(rows, lambda *_: torch.zeros(9), lambda _, head: rows.values[:, head])


def agent_loop(mixer, rows):
    agents = mixer.learned.detach()
    gathered = full_loop(mixer, rows._replace(queries=agents))
    return full_loop(mixer, Rows(rows.queries, agents, gathered))


def landmark_loop(mixer, rows):
    """The tiles of the own cell, and each other cell as one tile that counts as often."""
    cells = (GRID[:, 1] // 20) * 2 + GRID[:, 0] // 20
    root = rows.keys.shape[2] ** 0.5

    def seen(tile, values):
        own = cells == cells[tile]
        others = [values[cells == cell].mean(0) for cell in range(4) if cell != cells[tile]]
        return torch.cat([values[own], torch.stack(others)])

    def scores_of(tile, query, head):
        own = int((cells == cells[tile]).sum())
        counts = [int((cells == cell).sum()) for cell in range(4) if cell != cells[tile]]
        sizes = torch.tensor([1.0] * own + counts).double().log()
        return seen(tile, rows.keys[:, head]) @ query / root + sizes

    return loop_over(rows, scores_of, lambda tile, head: seen(tile, rows.values[:, head]))


def dynamic_mask_loop(mixer, rows):
    bias = mixer.bias(rows.values).detach()
    root = rows.keys.shape[2] ** 0.5
    kept = [bias[:, head].argsort(descending=True)[:4] for head in range(bias.shape[1])]
    return loop_over(
        rows,
        lambda _, query, head: rows.keys[kept[head], head] @ query / root + bias[kept[head], head],
        lambda _, head: rows.values[kept[head], head],
    )


def neighbourhood_loop(mixer, rows):
    near = ((GRID[:, None] - GRID[None]).abs() <= 10).all(2)
    root = rows.keys.shape[2] ** 0.5
    return loop_over(
        rows,
        lambda tile, query, head: rows.keys[near[tile], head] @ query / root,
        lambda tile, head: rows.values[near[tile], head],
    )


LOOPS = [
    (full.Options(attention="full"), full_loop),
    (hyper.Options(attention="hyper"), full_loop),
    (uniform.Options(attention="uniform"), uniform_loop),
    (agent.Options(attention="agent", count=3), agent_loop),
    (landmark.Options(attention="landmark", cell=2), landmark_loop),
    (dynamic_mask.Options(attention="dynamic_mask", keep=4), dynamic_mask_loop),
    (neighbourhood.Options(attention="neighbourhood", window=3), neighbourhood_loop),
]


@pytest.mark.parametrize(("options", "loop"), LOOPS, ids=[o.attention for o, _ in LOOPS])
def test_a_mixer_is_its_loop_over_tiles(options, loop):
    rows = random_rows(9)
    # Agents are a row for each query head.
    if options.attention == "agent":
        rows = random_rows(9, key_heads=4)
    torch.manual_seed(0)
    mixer = build_mixer(options, Shape(4, rows.keys.shape[1], 8)).double().eval()
    mixed = mixer(rows, Places(one_bag(9), GRID))
    torch.testing.assert_close(mixed, loop(mixer, rows), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("options", MIXERS, ids=NAMES)
def test_gradients_of_a_mixer_are_numerical_ones(options):
    torch.manual_seed(0)
    mixer = build_mixer(options, Shape(2, 1, 2)).double().eval()
    rows = [row.requires_grad_() for row in random_rows(5, 2, 1, 2)[:3]]
    places = Places(torch.tensor([0, 4, 5]), ANY_PLACE[:5])
    assert torch.autograd.gradcheck(lambda *given: mixer(Rows(*given), places), rows)


def test_as_many_query_heads_as_heads_is_full_attention():
    def logits(**heads):
        torch.manual_seed(0)
        head = build_head("mixed_abmil", {"mix": {"attention": "full", **heads}}, dim=16, classes=2)
        return head.eval()(join([torch.ones(3, 16).cumsum(0)])).logits

    assert torch.equal(logits(), logits(query_heads=8, key_heads=8))


def test_routing_that_says_nothing_and_chooses_all_heads_is_no_routing():
    mix = {"attention": "full", "heads": 4}
    torch.manual_seed(0)
    plain = build_head("mixed_abmil", {"mix": mix}, dim=16, classes=2).eval()
    routed = build_head("mixed_abmil", {"mix": mix | {"routed": 4}}, dim=16, classes=2).eval()
    routed.load_state_dict(plain.state_dict(), strict=False)
    nn.init.zeros_(routed.layers[0].router.gate.weight)
    bags = join([torch.randn(5, 16), torch.randn(1, 16)])
    torch.testing.assert_close(routed(bags).logits, plain(bags).logits)
    torch.testing.assert_close(routed(bags).head_balance, torch.ones(2))


@pytest.mark.slow
@pytest.mark.parametrize("options", MIXERS, ids=NAMES)
def test_a_bag_of_a_thousand_tiles_is_mixed_as_alone(options):
    sizes = (1, 2, 1000, 5)
    side = torch.arange(1000)
    of_bag = torch.stack([side % 32, side // 32], 1) * 256
    coords = [of_bag[:size] for size in sizes]
    rows = random_rows(sum(sizes), 2, 1, 4)
    # Random keys are of a bag's number of tiles: of the same number they are the same.
    together = mixed_by(
        options, rows, Places(torch.tensor([0, *sizes]).cumsum(0), torch.cat(coords))
    )
    own = Rows(*(row.split(sizes)[2] for row in rows[:3]))
    alone = mixed_by(options, own, Places(one_bag(1000), coords[2]))
    torch.testing.assert_close(together.split(sizes)[2], alone)


COORDINATES = [
    neighbourhood.Options(attention="neighbourhood", window=3),
    landmark.Options(attention="landmark", cell=2),
    agent.Options(attention="agent", agents="cells", grid=2),
]


@pytest.mark.parametrize("options", COORDINATES, ids=lambda options: options.attention)
def test_two_tiles_at_one_position_keep_their_own_rows(options):
    coords = GRID.clone()
    coords[5] = coords[4]
    rows = random_rows(9)
    mixed = mixed_by(options, rows, Places(one_bag(9), coords))
    assert (mixed[4] - mixed[5]).abs().max() > 1e-3
    # What the second of them holds reaches its own row.
    values = rows.values.clone()
    values[5] += 1
    after = mixed_by(options, rows._replace(values=values), Places(one_bag(9), coords))
    assert (after[5] - mixed[5]).abs().min() > 1e-3


def test_lama_of_one_branch_has_no_division_by_its_own_norm():
    torch.manual_seed(0)
    head = build_head("lama", {"branches": 1}, dim=8, classes=2).eval()
    bags = join([torch.randn(6, 8)])
    tiles = head.reduce(bags.features)
    # Divided, each score would be 1 or -1.
    assert 0 < head.scores(tiles, bags).abs().max() < 0.999
    assert head(bags).logits.isfinite().all()


@pytest.fixture
def gaussian_pool():
    torch.manual_seed(0)
    head = build_head("gaam", {"gaussians": 2}, dim=6, classes=2).eval()
    with torch.no_grad():
        head.shift.normal_()
        head.log_width.normal_()
    return head


def test_one_tile_is_its_own_row_in_the_gaussian_pool(gaussian_pool):
    tile = torch.randn(1, 6)
    rows, weights = gaussian_pool.pooled(tile)
    torch.testing.assert_close(rows, tile.expand(2, -1))
    assert weights.tolist() == [[1.0, 1.0]]


def test_the_gaussian_pool_of_half_precision_gives_numbers(gaussian_pool):
    features = (torch.randn(50, 6) * 1000).half()
    features[3] = 60000.0  # near the largest number of the type
    output = gaussian_pool(Bags(features, one_bag(50)))
    assert output.logits.isfinite().all()
    assert output.scores.isfinite().all()


def test_the_gaussian_pool_in_two_passes_over_parts_is_that_of_the_whole(gaussian_pool):
    """It is not offered as streaming; its state would be these two."""
    bag = torch.randn(40, 6).double() + 3
    head = gaussian_pool.double()
    parts = bag.split([13, 1, 26])
    # First pass: count, mean and squared distances of each channel merge by Chan's rule.
    count, mean, squares = 0, torch.zeros(6).double(), torch.zeros(6).double()
    for part in parts:
        step = part.mean(0) - mean
        total = count + len(part)
        squares += part.var(0, correction=0) * len(part) + step**2 * count * len(part) / total
        mean, count = mean + step * len(part) / total, total
    standard = [(part - mean) / (squares / count + 1e-5).sqrt() for part in parts]
    # Second pass: the pooled parts of attention, a branch for each channel.
    for number, (shift, log_width) in enumerate(zip(head.shift, head.log_width, strict=True)):
        states = []
        for part, of_part in zip(parts, standard, strict=True):
            scores = -(of_part - shift).square() / (2 * log_width.exp())
            row = (scores.softmax(0) * part).sum(0)
            states.append(PooledPart(row[:, None], scores.logsumexp(0)))
        merged = reduce(PooledPart.merge, states).rows[:, 0]
        torch.testing.assert_close(merged, head.pooled(bag)[0][number], rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_samples_of_the_own_block_are_left_out_in_every_precision(dtype):
    q, k, v = (row.to(dtype) for row in random_rows(8, 1, 1, 4)[:3])
    order = torch.arange(8)[:, None]
    # All samples are in the first block: its queries see their own block alone.
    sampled = torch.tensor([[0], [1], [3]])
    mixed = hyper.sorted_attention(Rows(q, k, v), order, order, sampled, 4)
    own = Rows(*(row[:4] for row in (q, k, v)))
    exact = mixed_by(
        full.Options(attention="full"),
        Rows(*map(torch.Tensor.double, own[:3])),
        Places(one_bag(4), None),
    )
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-6
    torch.testing.assert_close(mixed[:4].double(), exact, rtol=tolerance, atol=tolerance)
    # A query of the other block hears of the first one.
    assert (
        mixed[4:] - hyper.sorted_attention(Rows(q, k, v), order, order, sampled[:0], 4)[4:]
    ).abs().max() > 1e-2


def test_centred_hashing_spreads_tiles_with_a_large_mean():
    rows = torch.randn(2000, 1, 8, generator=torch.Generator().manual_seed(0)) + 4
    directions = torch.randn(8, 7, generator=torch.Generator().manual_seed(1))
    powers = 2 ** torch.arange(7)

    def largest(projections):
        return ((projections > 0) * powers).sum(1).bincount().max().item() / len(rows)

    assert largest(rows[:, 0] @ directions) > 0.3
    centred = hyper.centred_projections(rows[:, 0], directions, Places(one_bag(2000), None))
    assert largest(centred) < 0.12


def test_of_equal_tiles_the_first_are_kept():
    options = dynamic_mask.Options(attention="dynamic_mask", keep=3)
    mixer = dynamic_mask.Mixer(options, Shape(2, 2, 4))
    kept, ends = mixer._kept(torch.zeros(9, 2), Places(torch.tensor([0, 5, 9]), None))
    assert kept.T.tolist() == [[0, 1, 2, 5, 6, 7]] * 2
    assert ends.tolist() == [0, 3, 6]


@pytest.mark.parametrize("attention", ["nystrom", "full"])
def test_a_layer_of_one_shared_head_works(attention):
    mix = {"attention": attention, "heads": 4, "shared": 1, "routed": 2}
    head = build_head("mixed_abmil", {"mix": mix}, dim=16, classes=2)
    head(join([torch.randn(5, 16)])).logits.sum().backward()
    assert head.layers[0].router.gate.weight.grad.abs().max() > 0


class LiveBytes(TorchDispatchMode):
    """Largest number of bytes of the tensors that lived at one time."""

    def __init__(self):
        super().__init__()
        self.live = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for value in results if isinstance(results, (tuple, list)) else [results]:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.live[StorageWeakRef(storage)] = storage.nbytes()
        self.live = {ref: size for ref, size in self.live.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self.live.values()))
        return results


def peak_of_layer(options, tiles):
    """Peak of a mixing layer of width 512, forward and backward."""
    torch.manual_seed(0)
    layer = MixLayer(options, 512, 0.0)
    rows = torch.randn(tiles, 512, requires_grad=True)
    side = torch.arange(tiles)
    places = Places(one_bag(tiles), torch.stack([side % 50, side // 50], 1) * 256)
    with LiveBytes() as live:
        layer(rows, places).tiles.sum().backward()
    return live.peak


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        uniform.Options(attention="uniform"),
        agent.Options(attention="agent"),
        dynamic_mask.Options(attention="dynamic_mask"),
        landmark.Options(attention="landmark"),
        neighbourhood.Options(attention="neighbourhood"),
        nystrom.Options(attention="nystrom"),
    ],
    ids=lambda options: options.attention,
)
def test_a_hundred_thousand_tiles_take_less_than_four_gigabytes(options):
    """By what a tile takes: it is linear, since nothing has a row for each pair of tiles."""
    few, many = (peak_of_layer(options, tiles) for tiles in (800, 1600))
    of_tile = (many - few) / 800
    assert few + of_tile * (1e5 - 800) < 4e9
