"""Attention over neighbours: in chunks against its meaning in float64, values and gradients."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mil.kernels.neighbour_attn import cpu, neighbour_attn
from mil.kernels.neighbour_attn.cpu import chunks

# one tile; one with itself alone among others; under, on and over a chunk; a tile with more edges than a chunk
CASES = [(1, 1, 1, 1), (5, 3, 4, 2), (63, 7, 2, 3), (64, 17, 4, 8), (300, 9, 1, 5), (40, 40, 3, 4)]


def make(tiles, most, heads, width, dtype=torch.float64):
    """Every tile looks at itself and at up to `most` - 1 others."""
    draw = torch.Generator().manual_seed(tiles + most)
    wanted = torch.rand(tiles, tiles, generator=draw) < (most - 1) / tiles
    targets, sources = (wanted | torch.eye(tiles, dtype=torch.bool)).nonzero().T
    queries, keys = (torch.randn(tiles, heads, width, generator=draw, dtype=torch.float64) for _ in range(2))
    vector = torch.randn(heads, width, generator=draw, dtype=torch.float64)
    return *(t.to(dtype) for t in (queries, keys, vector)), sources, targets


@pytest.fixture(params=[1, 64, 2**20], ids="chunk {}".format)
def chunk(request, monkeypatch):
    monkeypatch.setattr(cpu, "CHUNK_NUMBERS", request.param)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_match_reference(case, chunk, poisoned):
    *numbers, sources, targets = make(*case)
    draw = torch.Generator().manual_seed(1)
    upstream = [torch.randn(numbers[0].shape, generator=draw).double(), torch.randn(len(sources), generator=draw)]
    found = {}
    for backend in ("reference", "cpu"):
        leaves = [t.clone().requires_grad_() for t in numbers]
        out = neighbour_attn(*leaves, sources, targets, backend=backend)
        torch.autograd.backward(out, [u.double() for u in upstream])
        found[backend] = [*(t.detach() for t in out), *(t.grad for t in leaves)]
    names = ("messages", "attention", "queries", "keys", "vector")
    for name, got, want in zip(names, found["cpu"], found["reference"], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_gradcheck(backend, chunk):
    *numbers, sources, targets = make(6, 3, 2, 3)
    leaves = [t.requires_grad_() for t in numbers]
    assert torch.autograd.gradcheck(lambda *n: neighbour_attn(*n, sources, targets, backend=backend), leaves)


def test_by_hand():
    """Two tiles; the second looks at both: scores LeakyReLU(1 + 0) * 2 and LeakyReLU(1 - 2) * 2."""
    queries, keys = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([[[0.0]], [[-2.0]]])
    edges = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    messages, attention = neighbour_attn(queries, keys, torch.tensor([[2.0]]), *edges, slope=0.2)
    share = torch.tensor([2.0, -0.4]).softmax(0)
    torch.testing.assert_close(attention, torch.cat([torch.ones(1), share]))
    torch.testing.assert_close(messages.flatten(), torch.stack([torch.tensor(0.0), -2 * share[1]]))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
def test_lower_precision(dtype, close):
    *numbers, sources, targets = make(50, 9, 4, 8, dtype)
    want = neighbour_attn(*(t.double() for t in numbers), sources, targets, backend="reference")
    for backend in ("reference", "cpu"):
        got = neighbour_attn(*numbers, sources, targets, backend=backend)
        assert got[0].dtype == dtype
        for one, right in zip(got, want, strict=True):
            torch.testing.assert_close(one.double(), right, rtol=close, atol=close)


def test_a_tile_without_edges_gets_zeros(chunk):
    queries, keys, vector, *_ = make(4, 1, 2, 3)
    edges = torch.tensor([0, 3]), torch.tensor([1, 1])
    for backend in ("reference", "cpu"):
        messages, attention = neighbour_attn(queries, keys, vector, *edges, backend=backend)
        assert messages[[0, 2, 3]].abs().max() == 0
        assert attention.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_chunks_cover_every_tile_and_edge_once(limit):
    targets = torch.tensor([1, 1, 1, 2, 4, 4, 5])
    found = list(chunks(targets, 7, limit))
    assert [i for tiles, _ in found for i in range(tiles.start, tiles.stop)] == list(range(7))
    assert [i for _, edges in found for i in range(edges.start, edges.stop)] == list(range(7))
    for tiles, edges in found:
        assert set(targets[edges].tolist()) <= set(range(tiles.start, tiles.stop))
        assert edges.stop - edges.start <= limit or tiles.stop - tiles.start == 1


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor that any operation made holds."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [t for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, torch.Tensor)]
        self.numel = max(self.numel, *(t.untyped_storage().nbytes() // t.element_size() for t in made), 0)
        return out


def test_no_tensor_holds_all_edges_with_all_their_numbers(monkeypatch):
    monkeypatch.setattr(cpu, "CHUNK_NUMBERS", 2000)
    *numbers, sources, targets = make(200, 40, 4, 8)
    largest = {}
    for backend in ("reference", "cpu"):
        leaves = [t.clone().requires_grad_() for t in numbers]
        with Largest() as seen:
            messages, attention = neighbour_attn(*leaves, sources, targets, backend=backend)
            (messages.square().sum() + attention.square().sum()).backward()
        largest[backend] = seen.numel
    assert largest["reference"] >= len(sources) * 32
    assert largest["cpu"] <= max(len(sources) * 4, 200 * 32)
