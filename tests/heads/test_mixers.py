"""Mixers against the published modules, and against one another where they should agree."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mil.errors import DatasetError
from mil.graph.spatial import grid_step, grid_steps
from mil.heads._mix_layer import HeadRouter, build_mixer
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
from mil.heads._mixers.base import MixOptions, Places, Rows, Shape
from tests.heads.waves import assert_rows, cosines, wave

OFFSETS = torch.tensor([0, 5, 6, 8])
SQUARE = torch.tensor([[x, y] for y in range(5) for x in range(4)]) * 224
RAGGED = (
    torch.tensor([(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (0, 2), (1, 1), (2, 3), (9, 9)]) * 100
)


def one_bag(tiles):
    return torch.tensor([0, tiles])


def by_head(rows, heads):
    return rows.unflatten(1, (heads, -1))


# fmt: off
AGENT_ROWS = [
    [1.450938872202, -0.320656793638, -1.357627723572, 0.715726552997,
     1.042098094951, -1.152856361812, -0.706616815711, 1.358481902964],
    [1.274505505391, -0.147940613349, -1.231454776903, 0.506294036696,
     0.873360661719, -0.918044499467, -0.606209650299, 1.094451548694],
    [-0.847992606739, -1.156323235447, 1.184482746442, 0.811638676141,
     -1.443772773012, -0.323693885938, 1.537967715707, -0.123854823326],
    [-0.151667744041, -0.899473100268, 0.413414477038, 0.779169459495,
     -0.120704308711, -0.748175330193, 0.338423380387, 0.649694103617],
    [1.465421635652, -0.282939587484, -1.383086196562, 0.685417764204,
     1.052759505240, -1.134006647693, -0.722763494082, 1.344330873342],
    [1.740935520453, 1.046269883547, -2.045400127311, -0.451058308196,
     2.176658125495, -0.182349353503, -2.123594451296, 0.800315482422],
    [-1.408160555450, -1.195509626417, 1.756053937574, 0.684497811843,
     -1.706363259210, 0.121848635542, 1.670905298028, -0.608082190250],
    [-1.457263355729, -1.512531386364, 1.897410091434, 0.960384921459,
     -2.177194639895, -0.327210084987, 2.272412796751, -0.334062192522],
]
HYPER_ROWS = {
    (0, 0): [-0.008675813799, -0.095880697046, -0.094933309606, -0.006704675121],
    (0, 1): [0.055234352574, -0.128146407305, -0.193709951285, -0.081177459393],
    (0, 15): [0.083053096203, -0.031240420279, -0.116811638429, -0.094986774912],
    (1, 0): [-0.050278597960, -0.067983129764, -0.023184285583, 0.042930083843],
    (1, 1): [0.036825731169, -0.003558748389, -0.040671331090, -0.040390879552],
    (1, 15): [-0.062446493178, -0.206408965497, -0.160599986842, 0.032863879071],
}
HYPER_SHORT_ROWS = {
    (0, 0): [0.254158733405, 0.211557760247, -0.025548442033, -0.239165524531],
    (0, 1): [0.328552035353, 0.139095294602, -0.178245018535, -0.331707683651],
    (0, 13): [0.298139023277, 0.137034266706, -0.150059162708, -0.299188889962],
}
INTERIOR_ROW = [-0.013388657683, -0.038646395638, -0.028372815670, 0.007986600176]
RAGGED_ROWS = {
    1: [
        [0.051842518967, 0.246155446188, 0.214154191387, -0.014739439352],
        [0.005181345504, -0.186681357074, -0.206910080884, -0.036906630544],
        [-0.476876326380, -0.131187426852, 0.335114587922, 0.493313796020],
        [0.197962575091, -0.279394524426, -0.499877586679, -0.260775501043],
    ],
    2: [
        [-0.041976770285, -0.008401712174, 0.032897841363, 0.043951271267],
        [0.005181345504, -0.186681357074, -0.206910080884, -0.036906630544],
        [-0.476876326380, -0.131187426852, 0.335114587922, 0.493313796020],
        [0.197962575091, -0.279394524426, -0.499877586679, -0.260775501043],
    ],
}
RAGGED_NEIGHBOURS = {1: [4, 5, 4, 2, 5, 3, 6, 1, 1], 2: [6, 6, 2, 2, 6, 2, 6, 1, 1]}
LANDMARK_ROWS = [
    [-0.008600853526, -0.019484783588, -0.012454493478, 0.006026400499],
    [0.041734884612, -0.017525540760, -0.060673064780, -0.048038052850],
    [-0.014609528117, -0.006459280549, 0.007629599767, 0.014703861243],
]
DMA_BIAS = [
    -0.201294425729, -0.068288485529, -0.216847996430, -0.145603841910, -0.079705074000,
    -0.250019185327, -0.100138389410, -0.110714870675, -0.244373572348,
]
DMA_ROWS = [
    [-0.166297838124, 0.181374285057, 0.362291727008, 0.210119825941],
    [-0.091739600391, 0.218084851836, 0.327403097035, 0.135708444716],
    [0.172437692057, -0.137048931579, -0.320533399555, -0.209320938196],
    [0.100565058059, -0.194298920718, -0.310525367842, -0.141256223834],
]
SQA_ROWS = {
    (4, 2): [
        1.357857662849, -1.070517339780, -1.674889666512, 0.987477281408,
        1.399673732506, -0.811230804245, -0.545156954907, 1.054618251685,
        -0.288607871847, -1.624719142198, 0.581463963543, 1.915157826403,
        -0.462143509513, -1.509147639554, 0.518086737579, 0.672749926894],
    (4, 4): [
        0.561726112732, -1.524720973912, -0.746584828150, 1.171544144807,
        0.417805424449, -0.709573923608, 0.407129194011, 0.675846037322,
        -1.130671280774, -1.000906418899, 1.241997827810, 1.099129703939,
        -0.885213134965, -0.570006227477, 0.667866148615, -0.309977303922],
    (2, 2): [
        0.637675166153, 0.319110102299, -2.149120900491, 1.497314165922,
        0.212836335899, -0.759619595259, 1.856891193999, -1.520330945376,
        -0.786636469485, 1.409961670940, -1.369849822115, 1.181042919069,
        1.003867476802, -2.020672843527, 0.970568442467, -0.441792515493],
    (2, 1): [
        0.604355560905, 0.449887509072, -2.286764930623, 1.546477043641,
        0.286210363222, -0.904703402772, 1.973183377219, -1.527274425299,
        -0.893851529989, 1.557066031581, -1.454942415480, 1.145179020099,
        1.135844487729, -2.157340807143, 1.017255716727, -0.366158229870],
}
MOH = {
    (2, 3): (3.797974538739, [
        0.002925719599, 0.000001937921, 0.513710765851, 0.0,
        2.275299988802, 0.0, 3.206597759067, 0.0], [
        2.594765115963, -0.521145251879, -1.609864656862, 2.336943725092,
        -4.222649750459, 5.552519542151, -5.269912789428, 5.973658938379,
        -5.765742921143, 4.075479602129, -3.520134050983, 2.061466936860,
        0.397783436455, -1.325519338933, 2.933554531650, -4.934574554043]),
    (0, 4): (5.408175105337, [
        0.282300464627, 0.0, 1.250349976492, 0.0,
        1.762127830353, 0.0, 0.705221728528, 0.0], [
        3.210719856072, -2.143889326148, 0.882253096753, -0.813512586302,
        -0.680638796172, 1.918895113980, -1.852373980571, 3.061606487199,
        -3.605772455857, 2.850499666709, -3.333877219548, 2.929705631483,
        -1.451427429159, 1.348070599587, -0.338012104978, -1.342070882409]),
    (4, 2): (2.592527984283, [
        0.004128793807, 0.000002734806, 0.001712411001, 0.000011375426,
        0.736224874999, 0.0, 3.260847467480, 0.0], [
        0.443373315358, 1.274908008227, -2.898487719672, 3.009014650311,
        -4.221256873621, 4.877780813514, -3.978965785826, 4.175822393826,
        -3.613259502819, 1.750623843087, -1.219777153247, -0.019594486587,
        2.083322941317, -2.472803688068, 3.445430493940, -4.767695940981]),
}
# fmt: on


def test_agents_of_cells_are_the_published_ones():
    query, key, value = (
        by_head(rows, 2) for rows in (cosines(8, 8) @ wave(0, 24, 8).T).chunk(3, 1)
    )
    cells = torch.tensor([0, 0, 1, 1, 2, 0, 0, 1])
    places = Places(OFFSETS, None)
    mixer = agent.Mixer(agent.Options(attention="agent", agents="cells"), Shape(2, 2, 4))
    mixer._agents = lambda queries, places: agent.cell_means(queries, cells, places)
    assert_rows(mixer(Rows(query, key, value), places).flatten(1), AGENT_ROWS)


def test_cells_of_a_grid_over_the_tissue():
    coords = torch.tensor([[10, 10], [10, 90], [110, 110], [5, 5]])
    places = Places(torch.tensor([0, 3, 4]), coords)
    assert agent.grid_cells(coords, places, 2).tolist() == [0, 2, 3, 0]
    means, ends = agent.cell_means(
        torch.arange(4.0)[:, None, None], torch.tensor([0, 0, 3, 0]), places
    )
    assert means.flatten().tolist() == [0.5, 2.0, 3.0]
    assert ends.tolist() == [0, 2, 3]


def hyper_case(count):
    """Published order of the buckets, which is not that of the mixer, and no centring."""
    q, k, v = (wave(number, 2, 16, 4)[:, :count].transpose(0, 1) for number in range(3))
    powers = 2 ** torch.arange(3)
    orders = []
    for rows in (q, k):
        bucket = ((rows @ wave(3, 4, 3) > 0) * powers).sum(-1)
        orders.append((bucket ^ (bucket >> 1)).argsort(dim=0, stable=True))
    sampled = torch.tensor([[1, 5, 9, 14], [0, 6, 11, 15]]).T % count
    return hyper.sorted_attention(Rows(q, k, v), *orders, sampled, 4)


def test_sorted_blocks_and_samples_are_the_published_ones_as_meant():
    mixed = hyper_case(16)
    for (head, row), numbers in HYPER_ROWS.items():
        assert_rows(mixed[row, head], numbers)


def test_a_last_block_is_shorter_and_takes_no_attention_for_padding():
    mixed = hyper_case(14)
    for (head, row), numbers in HYPER_SHORT_ROWS.items():
        assert_rows(mixed[row, head], numbers)


@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"dilation": 2}], ids=str)
def test_windows_and_cells_of_several_bags_are_those_of_each(options):
    # Of one step or another, scattered, of one tile, in two regions, twice at one place.
    bags = [RAGGED, SQUARE + 17, RAGGED[:1], torch.cat([SQUARE, SQUARE + 100_003, SQUARE[:3]])]
    bags.append(torch.tensor([(3, 5), (40, 17), (90, 200), (7, 300)]))
    coords = torch.cat(bags)
    offsets = torch.tensor([0, *map(len, bags)]).cumsum(0)
    together = Places(offsets, coords)
    settings = neighbourhood.Options(attention="neighbourhood", window=5, **options)
    window = neighbourhood.window_of(coords, together, settings)
    firsts = offsets[:-1].tolist()
    for corners, of_bag, first in zip(bags, window.split(together.sizes(), 1), firsts, strict=True):
        alone = Places(one_bag(len(corners)), corners)
        own = neighbourhood.window_of(corners, alone, settings)
        assert torch.equal(of_bag, torch.where(own < 0, own, own + first))
    assert grid_steps(coords, offsets) == [grid_step(corners) for corners in bags]


def test_neighbours_in_gray_order_differ_in_one_bit():
    buckets = torch.arange(128)
    in_order = hyper.gray_rank(buckets).argsort()
    changed = in_order[:-1] ^ in_order[1:]
    assert all(bin(bits).count("1") == 1 for bits in changed.tolist())


def options_of(stride, window=3):
    # Even strides are published; of them this project offers none.
    return neighbourhood.Options.model_construct(
        attention="neighbourhood", window=window, stride=stride, dilation=1
    )


def test_a_window_inside_a_grid_is_the_published_one():
    rows = Rows(*(wave(number, 20, 1, 4) for number in range(3)))
    mixer = build_mixer(options_of(1), Shape(1, 1, 4)).double()
    assert_rows(mixer(rows, Places(one_bag(20), SQUARE))[6, 0], INTERIOR_ROW)


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_on_ragged_tissue(stride):
    options = options_of(stride)
    window = neighbourhood.window_of(RAGGED, Places(one_bag(len(RAGGED)), None), options)
    assert (window >= 0).sum(0).tolist() == RAGGED_NEIGHBOURS[stride]
    rows = Rows(*(wave(number, 9, 1, 4) for number in range(3)))
    mixed = build_mixer(options, Shape(1, 1, 4)).double()(rows, Places(one_bag(9), RAGGED))
    assert_rows(mixed[[0, 3, 7, 8], 0], RAGGED_ROWS[stride])


def test_tiles_at_one_position_see_themselves_and_the_first_is_seen():
    coords = torch.tensor([[0, 0], [100, 0], [100, 0]])
    window = neighbourhood.window_of(coords, Places(one_bag(len(coords)), None), options_of(1))
    seen = [sorted(column[column >= 0].tolist()) for column in window.T]
    assert seen == [[0, 1], [0, 1], [0, 2]]


def test_dilated_windows_skip_tiles():
    coords = torch.tensor([[x * 50, 0] for x in range(7)])
    options = neighbourhood.Options(attention="neighbourhood", window=3, dilation=2)
    window = neighbourhood.window_of(coords, Places(one_bag(len(coords)), None), options)
    seen = [sorted(column[column >= 0].tolist()) for column in window.T]
    assert seen[3] == [1, 3, 5]
    assert seen[0] == [0, 2]


def test_means_of_ragged_cells_are_the_golden_ones():
    rows = Rows(*(wave(number, 9, 1, 4) for number in range(3)))
    blocks = landmark.Blocks(torch.arange(9), torch.tensor([0, 4, 5, 9]), torch.tensor([0, 3]))
    mixed = landmark.mixed_by_blocks(rows, blocks, one_bag(9))
    assert_rows(mixed[[0, 4, 8], 0], LANDMARK_ROWS)


def test_bias_and_kept_tiles_of_the_dynamic_mask_are_the_published_ones():
    options = dynamic_mask.Options(attention="dynamic_mask", keep=4, heads=4, key_heads=2)
    mixer = dynamic_mask.Mixer(options, Shape(4, 2, 4)).double()
    mixer.load_state_dict({"gain": wave(3, 2), "step.weight": wave(4, 2, 8)})
    q, k, v = (wave(n, h, 9, 4).transpose(0, 1) for n, h in ((0, 4), (1, 2), (2, 2)))
    bias = mixer.bias(v)
    assert_rows(bias[:, 0], DMA_BIAS)
    kept, _ = mixer._kept(bias, Places(one_bag(9), None))
    assert kept.sort(0).values.T.tolist() == [[1, 4, 6, 7], [2, 4, 5, 7]]
    assert_rows(mixer(Rows(q, k, v), Places(one_bag(9), None))[0], DMA_ROWS)


@pytest.mark.parametrize("heads", SQA_ROWS, ids=str)
def test_fewer_query_and_key_heads_are_the_published_ones(heads):
    query_heads, key_heads = heads
    tiles = cosines(5, 16)
    rows = Rows(
        by_head(tiles @ wave(0, query_heads * 2, 16).T, query_heads),
        by_head(tiles @ wave(1, key_heads * 2, 16).T, key_heads),
        by_head(tiles @ wave(2, key_heads * 2, 16).T, key_heads),
    )
    mixer = full.Mixer(full.Options(attention="full"), Shape(query_heads, key_heads, 2))
    mixed = mixer(rows, Places(one_bag(5), None)).flatten(1)
    out = mixed @ wave(3, 16, query_heads * 2).T + wave(4, 16)
    assert_rows(out[0], SQA_ROWS[heads])


@pytest.mark.parametrize("heads", MOH, ids=str)
def test_weights_of_routed_heads_are_the_published_ones(heads):
    shared, routed = heads
    balance, weights_of_first, row = MOH[heads]
    index = torch.arange(96, dtype=torch.float64)
    tiles = torch.cos(0.7 * index**1.1).view(6, 16)
    router = HeadRouter(MixOptions(heads=8, shared=shared, routed=routed), 16).double()
    state = {"gate.weight": wave(3, 8 - shared, 16)}
    if shared:
        state |= {"of_kinds.weight": wave(4, 2, 16), "of_shared.weight": wave(5, shared, 16)}
    router.load_state_dict(state)
    weights = router(tiles)
    assert_rows(weights[0], weights_of_first)
    places = Places(one_bag(6), None)
    assert router.balance(router.gates(tiles), places).item() * routed == pytest.approx(
        balance, abs=1e-11
    )
    projected = (tiles @ wave(0, 48, 16).T).view(6, 3, 8, 2)
    mixer = full.Mixer(full.Options(attention="full"), Shape(8, 8, 2))
    mixed = mixer(Rows(*projected.unbind(1)), places) * weights[..., None]
    assert_rows((mixed.flatten(1) @ wave(1, 16, 16).T + wave(2, 16))[0], row)


def test_a_router_that_says_nothing_leaves_all_heads_as_they_are():
    router = HeadRouter(MixOptions(heads=4, routed=4), 8)
    torch.nn.init.zeros_(router.gate.weight)
    tiles = torch.randn(5, 8)
    torch.testing.assert_close(router(tiles), torch.ones(5, 4))
    balance = router.balance(router.gates(tiles), Places(torch.tensor([0, 2, 5]), None))
    torch.testing.assert_close(balance, torch.ones(2))


def random_rows(tiles, query_heads=4, key_heads=2, width=8):
    draw = torch.Generator().manual_seed(tiles)
    sizes = ((query_heads, width), (key_heads, width), (key_heads, width))
    return Rows(*(torch.randn(tiles, *size, generator=draw).double() for size in sizes))


def mixed_by(options, rows, places):
    torch.manual_seed(0)
    shape = Shape(rows.queries.shape[1], *rows.keys.shape[1:])
    return build_mixer(options, shape).double().eval()(rows, places)


ANY_PLACE = torch.stack([torch.arange(30) % 6, torch.arange(30) // 6], 1) * 10
AS_FULL = [
    # One cell; cells of one tile; every tile kept, without a bias; nothing to approximate.
    landmark.Options(attention="landmark", cell=6),
    landmark.Options(attention="landmark", cell=1),
    landmark.Options(attention="landmark", cells="alike", cell=6),
    landmark.Options(attention="landmark", cells="alike", cell=1),
    hyper.Options(attention="hyper"),
    nystrom.Options(attention="nystrom", landmarks=30),
]


@pytest.mark.parametrize("options", AS_FULL, ids=lambda options: repr(options)[:60])
def test_where_nothing_is_left_out_a_mixer_is_full_attention(options):
    rows = random_rows(30)
    places = Places(one_bag(30), ANY_PLACE)
    exact = mixed_by(full.Options(attention="full"), rows, places)
    torch.testing.assert_close(mixed_by(options, rows, places), exact, rtol=1e-12, atol=1e-12)


def test_with_every_tile_a_landmark_the_three_maps_are_nearly_full_attention():
    rows = random_rows(60)
    places = Places(torch.tensor([0, 30, 60]), None)
    exact = mixed_by(full.Options(attention="full"), rows, places)
    options = nystrom.Options(attention="nystrom", landmarks=30)
    mixer = build_mixer(options, Shape(4, 2, 8))
    # The steps of the pseudo-inverse end before it is exact.
    torch.testing.assert_close(mixer._by_marks(rows, places), exact, rtol=5e-2, atol=5e-2)


def test_a_mask_that_keeps_all_and_weighs_none_is_full_attention():
    rows = random_rows(30)
    places = Places(one_bag(30), None)
    options = dynamic_mask.Options(attention="dynamic_mask")
    mixer = dynamic_mask.Mixer(options, Shape(4, 2, 8)).double()
    torch.nn.init.zeros_(mixer.gain)
    exact = mixed_by(full.Options(attention="full"), rows, places)
    torch.testing.assert_close(mixer(rows, places), exact)


def test_kept_tiles_have_a_gradient_at_the_first_step():
    options = dynamic_mask.Options(attention="dynamic_mask", keep=3)
    mixer = dynamic_mask.Mixer(options, Shape(4, 2, 8)).double()
    mixer(random_rows(9), Places(one_bag(9), None)).square().sum().backward()
    assert mixer.step.weight.grad.abs().max() > 0


MIXERS = [
    uniform.Options(attention="uniform"),
    full.Options(attention="full"),
    nystrom.Options(attention="nystrom", landmarks=4),
    agent.Options(attention="agent", count=5),
    agent.Options(attention="agent", agents="cells", grid=3),
    hyper.Options(attention="hyper", block=4, samples=3, exact_below=0),
    hyper.Options(attention="hyper", block=4, samples=3, exact_below=2),
    landmark.Options(attention="landmark", cell=2),
    landmark.Options(attention="landmark", cells="alike", cell=2),
    dynamic_mask.Options(attention="dynamic_mask", keep=5),
    neighbourhood.Options(attention="neighbourhood", window=3),
]
NAMES = [f"{options.attention} {number}" for number, options in enumerate(MIXERS)]
SIZES = (1, 2, 5, 49)


def bags_of(sizes):
    """Rows and places of several bags; tiles of a bag lie on a grid with a hole."""
    coords = []
    for size in sizes:
        cells = torch.tensor([(n % 8, n // 8) for n in range(size + 1) if n != 3])[:size]
        coords.append(cells * 256 + 17)
    return random_rows(sum(sizes)), Places(torch.tensor([0, *sizes]).cumsum(0), torch.cat(coords))


@pytest.mark.parametrize("options", MIXERS, ids=NAMES)
def test_packed_bags_are_mixed_as_one_by_one(options):
    rows, places = bags_of(SIZES)
    together = mixed_by(options, rows, places).split(SIZES)
    of_bags = zip(*(row.split(SIZES) for row in rows[:3]), places.coords.split(SIZES), strict=True)
    for bag, (*own, coords) in zip(together, of_bags, strict=True):
        alone = mixed_by(options, Rows(*own), Places(one_bag(len(bag)), coords))
        torch.testing.assert_close(bag, alone)
    # One tile is its own value.
    if options.attention != "hyper":
        per_key_head = rows.queries.shape[1] // rows.keys.shape[1]
        own = rows.values[:1].repeat_interleave(per_key_head, 1)
        torch.testing.assert_close(together[0], own)


@pytest.mark.parametrize("options", MIXERS, ids=NAMES)
def test_short_bags_are_mixed_together_as_in_float64(options):
    rows, places = bags_of((3, 1, 49, 2, 2, 40))
    exact = mixed_by(options, rows, places)
    torch.manual_seed(0)
    mixer = build_mixer(options, Shape(4, 2, 8)).eval()
    got = mixer(Rows(*(row.float() for row in rows[:3])), places)
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", MIXERS, ids=NAMES)
def test_other_order_of_tiles_gives_the_same_rows_in_that_order(options):
    if options.attention in ("nystrom", "hyper"):
        pytest.skip("runs of the bag's order, random tiles by their number")
    rows, places = bags_of((49,))
    shuffle = torch.randperm(49, generator=torch.Generator().manual_seed(0))
    moved = Places(places.offsets, places.coords[shuffle])
    mixed = mixed_by(options, Rows(*(row[shuffle] for row in rows[:3])), moved)
    torch.testing.assert_close(mixed, mixed_by(options, rows, places)[shuffle])


@pytest.mark.parametrize("options", MIXERS, ids=NAMES)
def test_bags_whose_tiles_are_all_alike_keep_their_value(options):
    if options.attention == "nystrom":
        pytest.skip("its pseudo-inverse of a matrix of equal rows is not exact")
    one = random_rows(1)
    rows = Rows(*(row.expand(20, -1, -1) for row in one[:3]))
    places = Places(one_bag(20), ANY_PLACE[:20])
    value = rows.values.repeat_interleave(2, 1)
    torch.testing.assert_close(mixed_by(options, rows, places), value)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (neighbourhood.Options(attention="neighbourhood"), "choose landmark or agent"),
        (agent.Options(attention="agent", agents="cells"), "set agents: learned"),
        (landmark.Options(attention="landmark", cells="places"), "set cells: alike"),
    ],
)
def test_bags_without_coordinates_are_refused_with_the_remedy(options, remedy):
    with pytest.raises(DatasetError, match=remedy):
        mixed_by(options, random_rows(3), Places(one_bag(3), None))


class Sizes(TorchDispatchMode):
    """Numbers in the largest tensor of all operations, and in a square map if there is one."""

    def __init__(self, tiles):
        super().__init__()
        self.tiles = tiles
        self.largest = 0
        self.maps = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for value in results if isinstance(results, (tuple, list)) else [results]:
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
                self.maps += list(value.shape).count(self.tiles) > 1
        return results


@pytest.mark.slow
@pytest.mark.parametrize("options", MIXERS, ids=NAMES)
def test_no_map_of_tiles_by_tiles_is_in_memory(options):
    side = 54
    tiles = side * side
    width = 8
    rows = Rows(*(torch.randn(tiles, 8, width).requires_grad_() for _ in range(3)))
    coords = torch.stack([torch.arange(tiles) % side, torch.arange(tiles) // side], 1)
    places = Places(one_bag(tiles), coords)
    roomy = {"hyper": {"block": 64, "samples": 64}, "landmark": {"cell": 8}}
    options = options.model_copy(update=roomy.get(options.attention, {}))
    mixer = build_mixer(options, Shape(8, 8, width))
    with Sizes(tiles) as sizes:
        mixer(rows, places).sum().backward()
    assert not sizes.maps
    # A block of scores of all heads, or the rows four times.
    assert sizes.largest <= max(8 * 256 * 1024, 4 * tiles * 8 * width)
