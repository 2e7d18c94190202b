"""Golden numbers of published forms that are no option here, from parts that options share.

Where a published form has terms that no head has, a small reference in this file adds them:
`gaussian_weights`, `landmark_rows` and `biased_agent`.
"""

import math

import pytest
import torch
from torch.nn import functional

from mil.bags import log_attention
from mil.heads._mixers import agent, dynamic_mask, hyper
from mil.heads._mixers.base import Places, Rows, Shape
from mil.kernels.bag_attn import bag_attn
from mil.kernels.window_attn import window_attn
from tests.heads.test_mixers import hyper_case
from tests.heads.test_probe import OFFSETS, lama, tiles
from tests.heads.waves import assert_rows, cosines, wave

# fmt: off
LAMA_MEAN_ATTENTION = [
    [0.216637156620, 0.283441531287, 0.137910762158],
    [0.198169313874, 0.250737116429, 0.147657491773],
    [0.181350629347, 0.207648425907, 0.167422979739],
    [0.176694007318, 0.152315666668, 0.216590420793],
    [0.227148892841, 0.105857259709, 0.330418345538],
]
GAAM_WEIGHTS = [
    [0.095473005386, 0.413701732944, 0.010443603335, 0.000077622992],
    [0.000093685094, 0.282115209148, 0.086203738519, 0.230648512495],
    [0.025115104609, 0.000001302650, 0.000092715763, 0.569263442024],
    [0.199506316697, 0.178698500408, 0.279297839725, 0.001699268747],
    [0.000000760232, 0.007757275470, 0.306639161750, 0.045239558327],
    [0.336354572632, 0.000340718965, 0.000009293057, 0.019416232359],
    [0.343456555350, 0.117385260415, 0.317313647850, 0.133655363056],
]
GAAM_POOLED = [0.543058315457, 0.579739069827, 0.524282809578, 0.170375093460]
GAAM_IMPORTANCE = [
    0.294364024550, 0.437186784036, 0.428929338104, 0.545413995748, 0.006327158497,
    0.000000000000, 1.000000000000,
]
DAAM_GATES = [
    [0.867861572146, 0.998078045686, 0.894601443903, 0.903780061600],
    [0.358141547551, 0.941087460325, 0.722216129384, 0.522046459226],
    [0.709140058302, 0.243008397114, 0.687956040211, 0.900908846621],
    [0.941634781262, 0.941322648820, 0.999130384422, 0.971647956800],
    [0.199900989935, 0.623376949103, 0.869809892073, 0.399714984194],
    [0.985463401761, 0.442791810041, 0.597805521174, 0.999455460830],
    [0.988514311691, 0.907238775664, 0.875479325127, 0.982768923448],
]
AGENT_TOKENS = [
    [0.705472982243, 0.118787325680, -0.057785560961, 0.325275337502,
     -0.257438980828, -0.915955944863, 0.025306194883, 1.035315593190],
    [0.587820988255, -0.678449255500, 0.291862332057, 1.020764358172,
     -0.809474225888, -1.450802671893, 0.732981873674, 1.364228649841],
    [0.199562301164, 0.432417320539, 0.356858770407, -0.109016185822,
     -0.545704449543, -0.397779150651, 0.162782181445, 0.477133277593],
]
AGENT_CORE = [
    [0.461248278744, 1.053401707933, -0.767788246981, -0.829975276146,
     0.843177178482, 0.659130272066, -1.034984132221, -0.357949819607],
    [-0.881685419728, 0.363671406239, 0.775857015922, -0.589445850333,
     -0.539167512679, 1.018265959749, 0.242852049540, -1.088935922586],
    [-0.891481536790, -0.567865811622, 1.056730526369, 0.260357156995,
     -1.013903651841, 0.193377381372, 0.957630820786, -0.472048014973],
]
HYPER_AS_PUBLISHED = [
    [-0.126882460517, -0.104794591894, 0.013640941231, 0.119535055897],
    [0.154149321100, -0.040804802051, -0.198243178378, -0.173417690749],
    [0.163482080243, -0.026866741100, -0.192514404578, -0.181165212313],
]
SHIFTED_WINDOWS = [
    [-0.054402651509, -0.032477864281, 0.019306921587, 0.053341012787],
    [-0.013388657683, -0.038646395638, -0.028372815670, 0.007986600176],
    [-0.059873701817, -0.003068964742, 0.056557364364, 0.064185113501],
]
LANDMARK_ROWS = [
    [-0.038737530618, -0.036528366837, -0.000735191045, 0.035733916003],
    [0.097380683656, -0.011792793119, -0.110124030286, -0.107207741871],
    [-0.037167334210, -0.000878966583, 0.036217518867, 0.040015784496],
]
LANDMARK_TOP_ROWS = [
    [-0.040156002060, -0.039234488276, -0.002240966911, 0.036812889098],
    [0.092706305399, -0.018729211905, -0.112945178158, -0.103319868486],
    [-0.036757871208, 0.002394784698, 0.039345686597, 0.040122345691],
]
LANDMARK_RAGGED_ROWS = [
    [-0.011691779561, 0.001670865652, 0.013497324690, 0.012914405654],
    [0.006146896604, 0.036592957839, 0.033395622395, -0.000505494268],
    [-0.071142468912, -0.039902021015, 0.028024160986, 0.070185058616],
]
DMA_EXP_BIAS = [
    0.817671652537, 0.933990991823, 0.805052330834, 0.864500114070, 0.923388637549,
    0.778785841667, 0.904712206784, 0.895193958592, 0.783194999611,
]
DMA_EXP_ROWS = [
    [-0.166380363878, 0.181166767162, 0.362150007967, 0.210174201587],
    [-0.091761361472, 0.217922569384, 0.327249494950, 0.135704744047],
    [0.170104061360, -0.140319676966, -0.321734151407, -0.207347730797],
    [0.098512203987, -0.197278981170, -0.311692780838, -0.139537675248],
]
# fmt: on


def test_attention_of_lama_is_the_published_one():
    bags = tiles(6)
    scores = lama("mean").scores(bags.features, bags)
    assert_rows(log_attention(scores, OFFSETS)[:5].exp(), LAMA_MEAN_ATTENTION)


def gaussian_weights(rows, shifts, widths):
    """Product of Gaussians about the mean of a channel, over its sum: the published library."""
    variance = rows.var(0) + 1e-8
    distances = rows - rows.mean(0) - shifts[:, None]
    of_each = -distances.square() / (2 * widths[:, None].square() * variance)
    weights = (of_each.exp() / (2 * math.pi * widths[:, None].square()).sqrt()).prod(0)
    return weights / weights.sum(0).clamp_min(1e-8)


def test_published_gaussians_and_the_one_that_they_are_together():
    rows = cosines(7, 4)
    shifts, widths = wave(0, 3, 1), 1 + wave(1, 3, 1)
    weights = gaussian_weights(rows, shifts, widths)
    assert_rows(weights, GAAM_WEIGHTS)
    pooled = (weights * rows).sum(0)
    assert_rows(pooled, GAAM_POOLED)
    # The importance factor of a tile is the range of its channels' mean weight.
    mean = weights.mean(1)
    importance = (mean - mean.min()) / (mean.max() - mean.min())
    assert_rows(importance, GAAM_IMPORTANCE)
    precision = (1 / widths.square()).sum()
    centre = (shifts / widths.square()).sum() / precision
    together = gaussian_weights(rows, centre.view(1, 1), precision.rsqrt().view(1, 1))
    torch.testing.assert_close(together, weights, rtol=1e-12, atol=1e-15)


def test_gates_of_the_published_experiments():
    rows = cosines(7, 4)
    distances = rows - rows.mean(0) - wave(0, 4)
    # The golden numbers have both of the official code's small terms.
    variance = rows.var(0, correction=0) + 1e-5 + 1e-8
    assert_rows((-distances.square() / (2 * (2 + wave(1, 4)) * variance)).exp(), DAAM_GATES)


class Tokens:
    """The official agent layer's tokens: a class token and a grid of four by four, two heads."""

    def __init__(self):
        projected = (cosines(17, 8) @ wave(8, 24, 8).T).view(17, 3, 2, 4)
        self.rows = Rows(*projected.unbind(1))
        number = torch.arange(16)
        # The class token is no part of an agent, but is attended to.
        cells = number // 8 * 2 + number % 4 // 2
        of_grid = Places(torch.tensor([0, 16]), None)
        self.agents, self.ends = agent.cell_means(self.rows.queries[1:], cells, of_grid)
        self.places = Places(torch.tensor([0, 17]), None)


def test_the_core_of_the_official_agent_layer_is_that_of_the_mixer():
    tokens = Tokens()
    mixer = agent.Mixer(agent.Options(attention="agent", agents="cells"), Shape(2, 2, 4))
    mixer._agents = lambda queries, places: (tokens.agents, tokens.ends)
    mixed = mixer(tokens.rows, tokens.places).flatten(1)
    assert_rows(mixed[[0, 1, 16]], AGENT_CORE)


def biased_agent(tokens):
    """The official layer with the biases and the convolution of its window of four by four."""

    def resized(table):
        return functional.interpolate(table, size=(4, 4), mode="bilinear").flatten(2)

    of_window = (2, 4, 7, 7)
    along = (wave(2, 2, 4, 4, 1) + wave(3, 2, 4, 1, 4)).flatten(2)
    to_agents = torch.cat([wave(6, 2, 4, 1), resized(wave(0, *of_window)) + along], 2)
    across = (wave(4, 2, 4, 1, 4) + wave(5, 2, 1, 4, 4)).flatten(1, 2)
    from_agents = torch.cat([wave(7, 2, 1, 4), resized(wave(1, *of_window)).mT + across], 1)
    q, k, v = (row.transpose(0, 1) for row in tokens.rows[:3])  # [heads, tokens, width]
    agents = tokens.agents.transpose(0, 1)
    gathered = (agents @ k.mT / 2 + to_agents).softmax(-1) @ v
    mixed = ((q @ agents.mT / 2 + from_agents).softmax(-1) @ gathered).transpose(0, 1).flatten(1)
    image = tokens.rows.values[1:].flatten(1).T.view(1, 8, 4, 4)
    local = functional.conv2d(image, wave(11, 8, 1, 3, 3), wave(12, 8), padding=1, groups=8)
    mixed[1:] += local[0].flatten(1).T
    return mixed @ wave(9, 8, 8).T + wave(10, 8)


def test_the_official_agent_layer_with_its_biases_and_convolution():
    assert_rows(biased_agent(Tokens())[[0, 1, 16]], AGENT_TOKENS)


def test_hyper_attention_as_published_counts_samples_of_the_own_block_twice(monkeypatch):
    # Of 16 keys 4 are sampled: each stands for 4.
    monkeypatch.setattr(hyper, "MASKED", math.log(4))
    assert_rows(hyper_case(16)[[0, 1, 15], 0], HYPER_AS_PUBLISHED)


def test_windows_that_shift_inwards_at_the_border_are_the_published_ones():
    def seen(place, length):
        first = min(max(place - 1, 0), length - 3)
        return range(first, first + 3)

    # Four tiles across, five down; a window of three by three.
    windows = [
        [row * 4 + column for row in seen(tile // 4, 5) for column in seen(tile % 4, 4)]
        for tile in range(20)
    ]
    q, k, v = (wave(number, 20, 1, 4) for number in range(3))
    mixed = window_attn(q, k, v, torch.tensor(windows).T, torch.zeros(9, 1, dtype=q.dtype))
    assert_rows(mixed[[0, 6, 19], 0], SHIFTED_WINDOWS)


def landmark_rows(ends, top=None):
    """Grouped softmax: tiles of the own block, and landmarks whose share their tiles divide."""
    q, k, v = (wave(number, 9, 1, 4) for number in range(3))
    ends = torch.tensor(ends)
    near, near_lse = bag_attn(q, k, v, ends, ends)
    scores = q[:, 0] @ wave(3, 3, 4).T / 2  # [tiles, blocks]
    own = torch.repeat_interleave(torch.arange(3), ends.diff())
    scores = scores.scatter(1, own[:, None], -math.inf)
    if top is not None:
        least = scores.topk(top, 1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -math.inf)
    blocks = range(3)
    whole = torch.tensor([0, 9])
    of_blocks = []
    for block in blocks:
        tiles_of = slice(*ends[block : block + 2].tolist())
        inside = torch.tensor([0, len(k[tiles_of])])
        of_blocks.append(bag_attn(q, k[tiles_of], v[tiles_of], whole, inside)[0][:, 0])
    weights = torch.cat([near_lse, scores], 1).softmax(1)
    return torch.einsum("nb,bnw->nw", weights, torch.stack([near[:, 0], *of_blocks]))


@pytest.mark.parametrize(
    ("ends", "top", "rows"),
    [
        ([0, 3, 6, 9], None, LANDMARK_ROWS),
        ([0, 3, 6, 9], 1, LANDMARK_TOP_ROWS),
        ([0, 4, 5, 9], None, LANDMARK_RAGGED_ROWS),
    ],
    ids=["grouped softmax", "top 1", "ragged"],
)
def test_published_landmark_attention(ends, top, rows):
    assert_rows(landmark_rows(ends, top)[[0, 4, 8]], rows)


def test_the_exponential_bias_of_the_dynamic_mask_keeps_the_same_tiles():
    options = dynamic_mask.Options(attention="dynamic_mask", keep=4, heads=4, key_heads=2)
    mixer = dynamic_mask.Mixer(options, Shape(4, 2, 4)).double()
    mixer.load_state_dict({"gain": wave(3, 2), "step.weight": wave(4, 2, 8)})
    q, k, v = (wave(n, h, 9, 4).transpose(0, 1) for n, h in ((0, 4), (1, 2), (2, 2)))
    bias = mixer.bias(v).exp()
    assert_rows(bias[:, 0], DMA_EXP_BIAS)
    mixer.bias = lambda values: bias
    places = Places(torch.tensor([0, 9]), None)
    assert mixer._kept(bias, places)[0].sort(0).values.T.tolist() == [[1, 4, 6, 7], [2, 4, 5, 7]]
    assert_rows(mixer(Rows(q, k, v), places)[0], DMA_EXP_ROWS)
