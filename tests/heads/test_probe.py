"""Probing heads against the published modules: golden numbers of parameters that are waves."""

import itertools
import math

import pytest
import torch

from mil.bags import Bags, attention, join, log_attention
from mil.errors import ConfigError
from mil.heads import build_head
from mil.heads._mha import QueryScores
from tests.heads.waves import assert_rows, cosines, wave

OFFSETS = torch.tensor([0, 5, 6, 8])


def tiles(dim):
    """Bags of 5, 1 and 2 tiles."""
    return Bags(cosines(8, dim), OFFSETS)


def set_parameters(head, **values):
    state = head.state_dict()
    for name, value in values.items():
        state[name.replace("__", ".")] = value
    head.load_state_dict(state)


def built(name, dim, **options):
    torch.manual_seed(0)
    return build_head(name, options, dim=dim, classes=3).double().eval()


# fmt: off
EP_ROWS = [
    [-1.161376245846, 0.410567003333, 1.041901220115, -0.713760328837,
     -0.857094046775, 0.152606233391, 0.812685622539, -0.389097804502],
    [1.619109899635, -1.681115646939, -1.129905132704, 2.009918116957,
     0.545018824764, -2.168518631816, 0.086020243723, 2.143486735076],
    [-1.075374339431, 1.283516927304, 0.701870826798, -1.487761385361,
     -0.012028045179, 1.375400494365, -0.388213591682, -1.262430312936],
]
EP_HALF_ROWS = [
    [-1.161376245846, 0.410567003333, 0.828922856306, 0.096808192174],
    [1.619109899635, -1.681115646939, -1.129905132704, 2.009918116957],
    [-1.075374339431, 1.283516927304, 0.411251134673, -1.371900332404],
]
EP_SCORES = [
    [0.697826389267, 0.261492152641], [-0.494479302028, 0.500899902087],
    [-0.553932878941, -0.407254058018], [0.655673807256, -0.382388943666],
    [0.363131756695, 0.518529266481],
]
EP_ATTENTION = [
    [0.306391146598, 0.217335077630], [0.092996034386, 0.276123450069],
    [0.087628235961, 0.111351747626], [0.293744387979, 0.114155231597],
    [0.219240195076, 0.281034493078],
]
LAMA_MEAN_SCORES = [
    [-0.739354544423, 0.320086234801, -0.592367841744],
    [-0.828456623286, 0.197485417129, -0.524079319717],
    [-0.917146073083, 0.008926761288, -0.398451243643],
    [-0.943158944843, -0.300964506484, -0.140966558444],
    [-0.691972691088, -0.664828048149, 0.281384898640],
]
LAMA_MEAN_ROWS = [
    [0.772972687182, 0.830864694982, 0.124863533944,
     -0.695936584364, -0.876895816484, -0.251641078940],
    [0.844895813440, 0.786126502555, 0.004596110630,
     -0.781159924213, -0.848721127238, -0.135972039958],
    [0.704142442106, 0.879415805302, 0.246158332737,
     -0.613415975729, -0.909018465023, -0.368873569728],
]
LAMA_LEARNED_ROWS = [
    [0.800984867741, 0.811556049768, 0.075986342320,
     -0.729444857827, -0.864227819696, -0.204443709727],
    [0.768508260663, 0.842136928671, 0.141508788173,
     -0.689221879570, -0.886285129746, -0.268501918947],
    [0.628880972372, 0.910536741728, 0.355049229895,
     -0.526868906511, -0.924386200051, -0.472027084289],
]
GAAM_ROWS = [
    [0.336910164387, 0.383621317010, 0.150404958042, -0.159943149739],
    [0.408082061813, -0.547729260224, -0.999960826395, -0.532833020333],
    [0.147051730250, 0.585224803968, 0.414656740615, 0.174569762218],
]
GAAM_SCORES = [
    -1.411350105461, -1.694542450977, -1.739114302213, -1.341928181451, -1.998889451308,
]
# fmt: on


@pytest.mark.parametrize(("row", "rows"), [(8, EP_ROWS), (4, EP_HALF_ROWS)])
def test_rows_scores_and_attention_of_ep_are_the_published_ones(row, rows):
    head = built("probe", 8, queries=2, row=row)
    set_parameters(head, queries=wave(0, 2, 8), values__weight=wave(1, row, 8))
    pooled = head.pool(tiles(8))
    assert_rows(head.values_of(pooled.rows).flatten(1), rows)
    assert_rows(pooled.scores[:5], EP_SCORES)
    assert_rows(log_attention(pooled.scores, OFFSETS)[:5].exp(), EP_ATTENTION)


def test_pooling_first_is_projecting_first():
    head = built("probe", 12, queries=4, norm=False)
    bags = tiles(12)
    weights = log_attention(head.pool(bags).scores, OFFSETS).exp()
    values = head.values(bags.features).unflatten(1, (4, -1))
    first = torch.stack(
        [(weights[a:b, :, None] * values[a:b]).sum(0) for a, b in itertools.pairwise(OFFSETS)]
    )
    torch.testing.assert_close(head.values_of(head.pool(bags).rows), first)


def test_scores_are_those_of_attention_with_one_query_taken_back_through_its_keys():
    torch.manual_seed(0)
    published = QueryScores(12, 3).double()
    query = torch.randn(12, dtype=torch.float64)
    head = built("probe", 12, queries=3)
    queries = published.query(query).unflatten(0, (3, -1))
    directions = torch.einsum("hw,hwd->hd", queries, published.key.weight.unflatten(0, (3, -1)))
    # That one divides by the root of a head's width, this one by that of a tile's.
    set_parameters(head, queries=directions * math.sqrt(3))
    bags = tiles(12)
    difference = published(query, bags.features) - head.pool(bags).scores
    torch.testing.assert_close(difference, difference[:1].expand_as(difference))


def test_a_row_that_queries_cannot_divide_is_one_line():
    with pytest.raises(ConfigError, match=r"row: must be a multiple of queries \(3\), not 8"):
        build_head("probe", {"queries": 3}, dim=8, classes=2)


def test_queries_begin_with_the_standard_deviation_of_the_option():
    for std in (0.02, 1.0):
        queries = built("probe", 512, queries=32, query_std=std).queries
        assert float(queries.detach().std()) == pytest.approx(std, rel=0.05)


def test_frozen_queries_stay_and_learned_ones_move():
    for train_queries in (False, True):
        head = built("probe", 8, train_queries=train_queries).train()
        before = head.queries.clone()
        optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
        head(tiles(8)).logits[:, 0].sum().backward()
        optimiser.step()
        assert torch.equal(before, head.queries) != train_queries
        assert "queries" in head.state_dict()


@pytest.mark.parametrize("name", ["probe", "lama", "gaam"])
@pytest.mark.parametrize("norm", [True, False])
def test_parts_of_the_branches_and_the_bias_sum_to_the_logits(name, norm):
    head = built(name, 12, norm=norm)
    output = head(tiles(12))
    total = output.branch_parts.sum(1) + head.classify.linear.bias
    torch.testing.assert_close(total, output.logits)


def lama(context):
    head = built("lama", 6, hidden=6, branches=3, context=context)
    head.reduce = torch.nn.Identity()
    values = {"of_context__weight": wave(0, 6, 3).T, "of_tile__weight": wave(1, 6, 3).T}
    if context == "learned":
        values["context"] = wave(2, 6)
    set_parameters(head, **values)
    return head


def test_scores_and_rows_of_lama_are_the_published_ones():
    bags = tiles(6)
    head = lama("mean")
    scores = head.scores(bags.features, bags)
    assert_rows(scores[:5], LAMA_MEAN_SCORES)
    weights = log_attention(scores, OFFSETS)[:5].exp()
    assert_rows(weights.T @ bags.features[:5], LAMA_MEAN_ROWS)
    weights = log_attention(lama("learned").scores(bags.features, bags), OFFSETS)[:5].exp()
    assert_rows(weights.T @ bags.features[:5], LAMA_LEARNED_ROWS)


def test_lama_cannot_concentrate_and_bears_features_of_zero():
    head = built("lama", 16)
    with torch.no_grad():
        head.of_tile.weight.mul_(1e3)
    weights = log_attention(head(tiles(16)).scores, OFFSETS)[:5].exp()
    assert (weights.amax(0) / weights.amin(0)).max().item() <= math.exp(2)
    nothing = Bags(torch.zeros(8, 16, dtype=torch.float64), OFFSETS)
    assert head(nothing).logits.isfinite().all()


def test_rows_and_scores_of_the_gaussian_pool_are_the_published_ones():
    head = built("gaam", 4, gaussians=1)
    set_parameters(head, shift=wave(0, 1, 4), log_width=wave(1, 1, 4))
    bags = tiles(4)
    rows = torch.cat([head.pooled(bag)[0] for bag in bags.features.split([5, 1, 2])])
    assert_rows(rows, GAAM_ROWS)
    assert_rows(head(bags).scores[:5, 0], GAAM_SCORES)


def test_gaussians_that_underflow_or_meet_a_constant_bag_give_numbers():
    head = built("gaam", 4).float()
    with torch.no_grad():
        head.shift.fill_(40)
    bags = tiles(4)._replace(features=tiles(4).features.float())
    output = head(bags)
    torch.testing.assert_close(attention(output, bags, None)[:5].sum(), torch.tensor(1.0))
    constant = head(join([torch.ones(6, 4)]))
    assert constant.logits.isfinite().all()
    torch.testing.assert_close(constant.scores.exp(), torch.full((6, 1), 1 / 6))


def test_first_shifts_of_the_gaussians():
    head = built("gaam", 4, gaussians=4)
    assert head.shift[:, 0].tolist() == [0.0, 2.0, -2.0, 4.0]
