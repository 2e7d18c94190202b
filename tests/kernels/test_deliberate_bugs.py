"""Kernels with one line spoilt: the comparisons of the kernels' tests must detect each."""

import importlib
import importlib.util
import sys
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mil.kernels.attn_pool import attn_pool_with_stats
from mil.kernels.bag_attn import bag_attn
from mil.kernels.gated_scores import GateWeights, gated_scores
from mil.kernels.neighbour_attn import neighbour_attn
from mil.kernels.topk_mask import topk_mask
from mil.kernels.tuning import trying
from mil.kernels.window_attn import window_attn
from tests.kernels.marks import SLOW_INTERPRETED

TOLERANCE = 1e-5  # of the largest number of a result; float32
FOUND_OUT = 1e-3  # a bug is off by more
pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.filterwarnings("ignore:.*encountered in"),
]


class Bug(NamedTuple):
    """A line of a kernel's source, and what it becomes."""

    module: str  # under mil.kernels
    right: str
    wrong: str


def normal(*shape, seed=0):
    """Random numbers, followed in memory by 9s: a kernel that reads too far takes those."""
    draw = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randn(shape, generator=draw), torch.full((2, *shape[1:]), 9.0)])[
        : shape[0]
    ]


def attn_pool_off(device):
    """Bags of one segment and of two, columns of two blocks."""
    sizes = [1, 150, 40]
    given = {"scores": 4 * normal(sum(sizes), 3), "features": normal(sum(sizes), 140, seed=1)}
    offsets = torch.tensor([0, *sizes], device=device).cumsum(0)

    def call(known, backend):
        pooled, stats = attn_pool_with_stats(
            known["scores"], known["features"], offsets, backend=backend
        )
        return pooled, *stats

    return off(call, given, device)


def gated_scores_off(device):
    """Rows, hidden width and gates larger than a block each."""
    shapes = {"value": (40, 20), "value_bias": (40,), "gate": (40, 20), "gate_bias": (40,)}
    shapes |= {"score": (3, 40), "score_bias": (3,)}
    given = {"hidden": normal(70, 20)} | {
        name: normal(*shape, seed=place) / shape[-1] ** 0.5
        for place, (name, shape) in enumerate(shapes.items())
    }

    def call(known, backend):
        hidden, *weights = known.values()
        return (gated_scores(hidden, GateWeights(*weights), backend=backend),)

    return off(call, given, device)


def neighbour_attn_off(device):
    """A tile with more edges than a block of 64, attending most to the last; one without edges."""
    targets = (
        torch.cat([torch.zeros(70), torch.arange(2, 12).repeat_interleave(2)]).long().to(device)
    )
    sources = torch.arange(len(targets), device=device) % 6
    sources[64:70] += 6
    given = {
        "queries": normal(12, 2, 10),
        "keys": normal(12, 2, 10, seed=1),
        "vector": normal(2, 10, seed=2),
    }
    given["keys"][6:] += 2 * given["vector"]

    def call(known, backend):
        return neighbour_attn(*known.values(), sources, targets, backend=backend)

    return off(call, given, device)


def topk_mask_off(device):
    """A bag of two segments, and others below zero."""
    sizes = [1, 2100, 30]
    offsets = torch.tensor([0, *sizes], device=device).cumsum(0)
    draws = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(3)).to(device)
    given = {"scores": normal(sum(sizes), 2) - 3}
    given["scores"][2060:2070] += 5  # the highest are in the second segment

    def call(known, backend):
        return (topk_mask(known["scores"], offsets, draws, share=0.6, fill=-20.0, backend=backend),)

    return off(call, given, device)


def bag_attn_off(device):
    """A segment of two blocks of keys and of queries, and one key of another; heads share keys."""
    queries, keys = (18, 2), (17, 1)
    given = {
        "queries": 2 * normal(sum(queries), 4, 10),
        "keys": normal(sum(keys), 2, 10, seed=1),
        "values": normal(sum(keys), 2, 10, seed=2),
        "bias": normal(sum(keys), 2, seed=3),
    }
    ends = [torch.tensor([0, *sizes], device=device).cumsum(0) for sizes in (queries, keys)]
    blocks = {"BLOCK_I": 16, "BLOCK_J": 16}

    def call(known, backend):
        q, k, v, bias = known.values()
        return bag_attn(q, k, v, *ends, bias, backend=backend)

    with trying("bag_attn.forward", blocks), trying("bag_attn.backward", blocks):
        return off(call, given, device)


def window_attn_off(device):
    """Rows that see from one to three others; two heads share."""
    neighbours = torch.tensor([[-1, 0, 1, 2, 3], [0, 1, 2, 3, 4], [2, -1, 2, -1, 0]]).to(device)
    given = {
        "queries": 2 * normal(5, 2, 10),
        "keys": normal(5, 1, 10, seed=1),
        "values": normal(5, 1, 10, seed=2),
        "bias": normal(3, 2, seed=3),
    }

    def call(known, backend):
        q, k, v, bias = known.values()
        return (window_attn(q, k, v, neighbours, bias, backend=backend),)

    return off(call, given, device)


def off(call, given, device):
    """Largest error of Triton's results and gradients, relative to the reference in float64."""
    found = {}
    for backend, dtype in (("triton", torch.float32), ("reference", torch.float64)):
        known = {
            name: tensor.to(device, dtype).detach().requires_grad_()
            for name, tensor in given.items()
        }
        results = call(known, backend)
        upstream = [normal(*result.shape, seed=7).to(device, dtype) for result in results]
        grads = torch.autograd.grad(results, list(known.values()), upstream)
        found[backend] = [tensor.detach().double() for tensor in (*results, *grads)]
    errors = [
        (got - want).abs().max() / want.abs().max()
        for got, want in zip(*found.values(), strict=True)
    ]
    return max(float("inf") if error.isnan() else float(error) for error in errors)


POOL = "attn_pool.triton_forward"
POOL_BACK = "attn_pool.triton_backward"
SCORES = "gated_scores.triton"
NEIGHBOURS = "neighbour_attn.triton"
TOP = "topk_mask.triton"
SEGMENTS = "bag_attn.triton_forward"
SEGMENTS_BACK = "bag_attn.triton_backward"
WINDOW = "window_attn.triton"
OFF = {
    "topk_mask": topk_mask_off,
    "attn_pool": attn_pool_off,
    "gated_scores": gated_scores_off,
    "neighbour_attn": neighbour_attn_off,
    "bag_attn": bag_attn_off,
    "window_attn": window_attn_off,
}
BUGS = {
    "segments merged without rescaling": Bug(
        POOL, "b_acc += b_rescale[:, None] * tl.load(p_acc", "b_acc += tl.load(p_acc"
    ),
    "mask one too long": Bug(
        POOL, "m_n = o_n < last\n        m_x", "m_n = o_n <= last\n        m_x"
    ),
    "padding has weight": Bug(POOL, "b_p = tl.where(m_s, tl.exp(b_z), 0.0)", "b_p = tl.exp(b_z)"),
    "last columns not pooled": Bug(
        POOL,
        "m_k = o_k < branches\n    m_d = o_d < dim\n",
        "m_k = o_k < branches\n    m_d = o_d < dim // BLOCK_D * BLOCK_D\n",
    ),
    "last segment not merged": Bug(
        POOL,
        "o_g < last\n        o_row = o_g * branches + branch\n        b_rescale =",
        "o_g < last - 1\n        o_row = o_g * branches + branch\n        b_rescale =",
    ),
    "entropy of segments not shifted": Bug(POOL, ", other=0.0) + b_l_g * b_shift", ", other=0.0)"),
    "products rescaled for one branch": Bug(
        POOL, "b_rescale[None, :] * tl.exp(tl.where", "tl.exp(tl.where"
    ),
    "gradient of the entropy, wrong sign": Bug(
        POOL_BACK, "b_dp -= tl.load(d_entropy", "b_dp += tl.load(d_entropy"
    ),
    "gradient of scores not centred": Bug(
        POOL_BACK, "b_dp -= tl.load(delta", "b_dp -= 0 * tl.load(delta"
    ),
    "last gates not scored": Bug(
        SCORES, "(0, attention, BLOCK_A)", "(0, attention // BLOCK_A * BLOCK_A, BLOCK_A)"
    ),
    "bias of the other gate": Bug(
        SCORES, "b_u + tl.load(biases + attention +", "b_u + tl.load(biases +"
    ),
    "gradient of tanh": Bug(SCORES, "b_dg * (1 - b_v * b_v)", "b_dg * (1 - b_v)"),
    "gradient of the gate forgotten": Bug(SCORES, "b_dg *= b_u\n", "b_dg *= 1\n"),
    "running sum not rescaled": Bug(NEIGHBOURS, "b_acc = b_acc * rescale +", "b_acc = b_acc +"),
    "second block of edges skipped": Bug(
        NEIGHBOURS,
        "last, BLOCK_E):\n        o_e = start + tl.arange(0, BLOCK_E)\n        m_e = o_e < "
        "last\n        s",
        "last, 2 * BLOCK_E):\n        o_e = start + tl.arange(0, BLOCK_E)\n        m_e = o_e < "
        "last\n        s",
    ),
    "edges that are none attended to": Bug(
        NEIGHBOURS, 'tl.where(m_e, b_s, float("-inf"))', "tl.where(m_e, b_s, 0.0)"
    ),
    "slope above zero": Bug(
        NEIGHBOURS, "b_slope = tl.where(b_f > 0,", "b_slope = tl.where(b_f < 0,"
    ),
    "gradient of keys, wrong sign": Bug(
        NEIGHBOURS, "(b_dp - tl.load(p_deltas", "(b_dp + tl.load(p_deltas"
    ),
    "gradient of the mean, not divided": Bug(
        NEIGHBOURS, "mask=m_e, other=0.0) / heads", "mask=m_e, other=0.0)"
    ),
    "one masked too many": Bug(TOP, "< quota)", "<= quota)"),
    "the highest again and again": Bug(TOP, "b_key < previous", "b_key <= previous"),
    "order below zero": Bug(TOP, "bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)", "bits = bits ^ 0"),
    "draw of the next rank": Bug(
        TOP, "tl.where(o_k == rank, b_draws", "tl.where(o_k == rank + 1, b_draws"
    ),
    "rows of the block before not rescaled": Bug(
        SEGMENTS, "b_acc = b_acc * b_rescale[:, None]\n", "b_acc = b_acc\n"
    ),
    "keys of other segments attended to": Bug(
        SEGMENTS, 'tl.where(m_j[None, :], b_s, float("-inf"))', "b_s"
    ),
    "head of keys of another head": Bug(
        SEGMENTS, "key_head = head // (heads // key_heads)", "key_head = head % key_heads"
    ),
    "log-sum-exp without its maximum": Bug(SEGMENTS, "b_m + tl.log(b_l)", "tl.log(b_l)"),
    "gradient of the log-sum-exp, wrong sign": Bug(
        SEGMENTS_BACK, "b_delta -= tl.load(d_lse", "b_delta += tl.load(d_lse"
    ),
    "gradient of queries not centred": Bug(
        SEGMENTS_BACK, "b_p * (b_dp - b_delta[:, None])", "b_p * b_dp"
    ),
    "gradient of keys from one head of several": Bug(
        SEGMENTS_BACK, "(key_head + 1) * per_key_head)", "key_head * per_key_head + 1)"
    ),
    "gradient of the bias not summed": Bug(SEGMENTS_BACK, "b_db += tl.sum", "b_db = tl.sum"),
    "gradient of keys not scaled": Bug(SEGMENTS_BACK, "d_keys, b_dk * scale", "d_keys, b_dk"),
    "place without a neighbour attended to": Bug(
        WINDOW, 'tl.where(m_j, b_s, float("-inf"))', "b_s"
    ),
    "sum of a window not rescaled": Bug(WINDOW, "b_l = b_l * b_rescale +", "b_l = b_l +"),
    "bias of the first place": Bug(WINDOW, "bias + place * heads", "bias + 0 * heads"),
    "gradient of a window's keys not centred": Bug(
        WINDOW, "b_v[None, :], 1) - b_delta", "b_v[None, :], 1) - 0 * b_delta"
    ),
    "gradient of a window's bias, one row": Bug(
        WINDOW, "tl.sum(b_ds, 0))", "tl.sum(tl.where(o_i == 0, b_ds, 0.0), 0))"
    ),
}


def spoil(bug, folder, monkeypatch):
    """Replace a module's functions, wherever they are named, by those of a changed copy."""
    # Its modules must be loaded before any of them is spoilt.
    importlib.import_module(f"mil.kernels.{bug.module.partition('.')[0]}.function")
    module = importlib.import_module(f"mil.kernels.{bug.module}")
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count(bug.right) == 1, (
        f"{bug.module} has changed: it should have once\n{bug.right}"
    )
    copy = folder / "spoilt.py"  # a file, from which Triton reads the source
    copy.write_text(source.replace(bug.right, bug.wrong), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"spoilt_{bug.module.replace('.', '_')}", copy)
    spoilt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(spoilt)
    own = {
        name: value
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
    }
    users = [user for name, user in sys.modules.items() if name.startswith("mil.kernels.")]
    for user, (name, value) in product(users, own.items()):
        if vars(user).get(name) is value:
            monkeypatch.setattr(user, name, getattr(spoilt, name))


def of_module(module):
    """Marks: attention between segments, of several launches of many programs, is slow."""
    return SLOW_INTERPRETED if module.startswith("bag_attn") else ()


# A fourth of them in every run; `-m slow` runs the others.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=SLOW_INTERPRETED if number % 4 else of_module(BUGS[name].module))
        for number, name in enumerate(BUGS)
    ],
)
def test_a_spoilt_line_is_found_out(name, tmp_path, monkeypatch, device):
    bug = BUGS[name]
    spoil(bug, tmp_path, monkeypatch)
    assert OFF[bug.module.partition(".")[0]](device) > FOUND_OUT


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(module, marks=of_module(module))
        for module in sorted({bug.module for bug in BUGS.values()})
    ],
)
def test_an_unspoilt_copy_is_right(module, tmp_path, monkeypatch, device):
    right = next(bug.right for bug in BUGS.values() if bug.module == module)
    spoil(Bug(module, right, right), tmp_path, monkeypatch)
    assert OFF[module.partition(".")[0]](device) < TOLERANCE
