"""Attention over neighbours, tiled and by Triton, against the reference in float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mil.kernels.neighbour_attn import cpu, neighbour_attn, triton
from mil.kernels.neighbour_attn.cpu import edge_chunks
from tests.kernels.marks import cases_in_types

# one tile; one with itself alone among others; under, on and over a chunk; a tile with
# more edges than a chunk
CASES = [(1, 1, 1, 1), (5, 3, 4, 2), (63, 7, 2, 3), (64, 17, 4, 8), (300, 9, 1, 5), (40, 40, 3, 4)]
# for Triton: blocks of 4 edges, 3 programs that share the tiles; widths on and off 16
# and the power of two above
FEW = [(1, 1, 1, 1), (5, 3, 8, 16), (9, 5, 3, 17), (20, 4, 1, 5), (4, 4, 2, 33)]
BACKENDS = ("reference", "cpu", "triton")
NAMES = ("messages", "attention", "queries", "keys", "vector")
# of the largest of the right numbers: the rounding of what is returned; of bfloat16 the
# interpreter cuts the end off
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2**-7, torch.float16: 2**-11}


def make(tiles, most, heads, width, dtype=torch.float64):
    """Every tile looks at itself and at up to `most` - 1 others."""
    draw = torch.Generator().manual_seed(tiles + most)
    wanted = torch.rand(tiles, tiles, generator=draw) < (most - 1) / tiles
    targets, sources = (wanted | torch.eye(tiles, dtype=torch.bool)).nonzero().T
    queries, keys = (
        torch.randn(tiles, heads, width, generator=draw, dtype=torch.float64) for _ in range(2)
    )
    vector = torch.randn(heads, width, generator=draw, dtype=torch.float64)
    return *(t.to(dtype) for t in (queries, keys, vector)), sources, targets


@pytest.fixture(params=[1, 64, 2**20], ids="chunk {}".format)
def chunk(request, monkeypatch):
    monkeypatch.setattr(cpu, "CHUNK_VALUES", request.param)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(triton, "BLOCK_VALUES", 64)
    monkeypatch.setattr(triton, "MAX_PARTS", 3)


def everything(numbers, sources, targets, backend, slope=0.2):
    """Values and gradients for a fixed upstream gradient that every type holds exactly."""
    draw = torch.Generator().manual_seed(1)
    leaves = [t.detach().clone().requires_grad_() for t in numbers]
    out = neighbour_attn(*leaves, sources, targets, slope=slope, backend=backend)
    upstream = [
        torch.randn(o.shape, generator=draw, dtype=torch.float64).bfloat16().to(o) for o in out
    ]
    torch.autograd.backward(out, upstream)
    return [*(t.detach() for t in out), *(t.grad for t in leaves)]


def assert_triton_matches(numbers, sources, targets, device, **how):
    got = everything(
        [t.to(device) for t in numbers], sources.to(device), targets.to(device), "triton", **how
    )
    want = everything([t.double() for t in numbers], sources, targets, "reference", **how)
    for name, one, right, like in zip(
        NAMES, got, want, (numbers[0], torch.ones(()), *numbers), strict=True
    ):
        assert one.dtype == like.dtype, name
        close = TOLERANCE[like.dtype] * max(1.0, right.abs().max().item())
        torch.testing.assert_close(
            one.cpu().double(), right, rtol=0, atol=close, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize(
    ("case", "dtype"), cases_in_types([(case,) for case in FEW], TOLERANCE), ids=str
)
def test_triton_matches_reference_in_double(case, dtype, device, small_blocks, poisoned):
    *numbers, sources, targets = make(*case, dtype)
    assert_triton_matches(numbers, sources, targets, device)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_match_reference(case, chunk, poisoned):
    *numbers, sources, targets = make(*case)
    found = {
        backend: everything(numbers, sources, targets, backend) for backend in ("reference", "cpu")
    }
    for name, got, want in zip(NAMES, found["cpu"], found["reference"], strict=True):
        torch.testing.assert_close(
            got, want, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_gradcheck(backend, chunk):
    *numbers, sources, targets = make(6, 3, 2, 3)
    leaves = [t.requires_grad_() for t in numbers]
    assert torch.autograd.gradcheck(
        lambda *n: neighbour_attn(*n, sources, targets, backend=backend), leaves
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend, device):
    """Two tiles; the second looks at both: scores LeakyReLU(1 + 0) * 2 and LeakyReLU(1 - 2) * 2."""
    queries = torch.tensor([[[0.0]], [[1.0]]])
    keys = torch.tensor([[[0.0]], [[-2.0]]])
    vector = torch.tensor([[2.0]])
    edges = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    given = [t.to(device) for t in (queries, keys, vector, *edges)]
    messages, attention = (out.cpu() for out in neighbour_attn(*given, slope=0.2, backend=backend))
    share = torch.tensor([2.0, -0.4]).softmax(0)
    torch.testing.assert_close(attention, torch.cat([torch.ones(1), share]))
    torch.testing.assert_close(messages.flatten(), torch.stack([torch.tensor(0.0), -2 * share[1]]))


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)]
)
def test_lower_precision(dtype, close):
    *numbers, sources, targets = make(50, 9, 4, 8, dtype)
    want = neighbour_attn(*(t.double() for t in numbers), sources, targets, backend="reference")
    for backend in ("reference", "cpu"):
        got = neighbour_attn(*numbers, sources, targets, backend=backend)
        assert got[0].dtype == dtype
        for one, right in zip(got, want, strict=True):
            torch.testing.assert_close(one.double(), right, rtol=close, atol=close)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tile_without_edges_gets_zeros_and_no_gradient(backend, chunk, device, poisoned):
    """Tile 1 looks at 0 and 3; nobody looks at 1 and 2."""
    queries, keys, vector, *_ = (t.to(device, torch.float32) for t in make(4, 1, 2, 3))
    edges = torch.tensor([0, 3], device=device), torch.tensor([1, 1], device=device)
    messages, attention, d_queries, d_keys, _ = everything((queries, keys, vector), *edges, backend)
    assert messages[[0, 2, 3]].abs().max() == 0
    assert messages[1].abs().min() > 0
    assert attention.sum().item() == pytest.approx(1)
    assert d_queries[[0, 2, 3]].abs().max() == 0
    assert d_keys[[1, 2]].abs().max() == 0
    assert d_keys[[0, 3]].abs().min() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_edges_all_is_zero(backend, device, poisoned):
    numbers = make(3, 1, 2, 3, torch.float32)[:3]
    none = torch.zeros(0, dtype=torch.int64, device=device)
    messages, attention, *grads = everything([t.to(device) for t in numbers], none, none, backend)
    assert len(attention) == 0
    assert all(found.abs().max() == 0 for found in (messages, *grads))


def hubs():
    """Tile 7 looks 2500 times, mostly at tile 3, which others look at, too."""
    *numbers, _, _ = make(9, 1, 2, 20, torch.float32)
    targets = torch.tensor([0, 1, 1, *[7] * 2500, 8])
    sources = torch.full_like(targets, 3)
    sources[::5] = torch.randint(9, sources[::5].shape, generator=torch.Generator().manual_seed(2))
    return numbers, sources, targets


def test_triton_hubs_match_reference(device, poisoned):
    assert_triton_matches(*hubs(), device)


def test_scores_far_from_zero_do_not_overflow(device, small_blocks):
    """Every tile attends to all, over blocks whose largest scores are hundreds apart."""
    queries, keys, vector, sources, targets = make(9, 90, 2, 3, torch.float32)
    assert len(sources) == 81
    assert (queries + keys).abs().max() * 100 > 300
    got = neighbour_attn(
        *(t.to(device) for t in (queries, keys, 100 * vector, sources, targets)), backend="triton"
    )
    want = neighbour_attn(queries.double(), keys.double(), 100 * vector.double(), sources, targets)
    for one, right in zip(got, want, strict=True):
        torch.testing.assert_close(one.cpu().double(), right, rtol=0, atol=1e-4)


def test_triton_takes_numbers_that_do_not_lie_end_to_end_and_a_vector_of_another_type(
    device, small_blocks, poisoned
):
    *numbers, sources, targets = make(6, 4, 2, 3, torch.bfloat16)
    queries, keys = (t.transpose(0, 1).contiguous().transpose(0, 1) for t in numbers[:2])
    assert not keys.is_contiguous()
    both = torch.stack([sources, targets], 1)  # a column each
    assert_triton_matches([queries, keys, numbers[2].float()], *both.unbind(1), device, slope=0.0)


def test_triton_two_runs_give_the_same_bits(device, small_blocks):
    *numbers, sources, targets = make(9, 9, 2, 5, torch.float32)
    given = [t.to(device) for t in numbers], sources.to(device), targets.to(device), "triton"
    assert all(
        torch.equal(*both) for both in zip(everything(*given), everything(*given), strict=True)
    )


@pytest.mark.parametrize("backend", ["cpu", "triton"])
def test_a_gradient_of_the_gradient_is_refused(backend, device):
    numbers, sources, targets = hubs()
    queries, *others = (t.to(device) for t in (*numbers, sources[-4:], targets[-4:]))
    messages, _ = neighbour_attn(queries.requires_grad_(), *others, backend=backend)
    (grad,) = torch.autograd.grad(messages.square().sum(), queries, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_chunks_cover_every_tile_and_edge_once(limit):
    targets = torch.tensor([1, 1, 1, 2, 4, 4, 5])
    found = list(edge_chunks(targets, 7, limit))
    assert [i for tiles, _ in found for i in range(tiles.start, tiles.stop)] == list(range(7))
    assert [i for _, edges in found for i in range(edges.start, edges.stop)] == list(range(7))
    for tiles, edges in found:
        assert set(targets[edges].tolist()) <= set(range(tiles.start, tiles.stop))
        assert edges.stop - edges.start <= limit or tiles.stop - tiles.start == 1


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor that any operation made holds.

    Not the bytes that Triton's interpreter copies.
    """

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [
            t
            for t in (out if isinstance(out, tuple | list) else [out])
            if isinstance(t, torch.Tensor)
        ]
        sizes = [
            t.untyped_storage().nbytes() // t.element_size() for t in made if t.dtype != torch.uint8
        ]
        self.numel = max(self.numel, *sizes, 0)
        return out


@pytest.mark.parametrize(
    ("backend", "case"), [("cpu", (200, 40, 4, 8)), ("triton", (24, 24, 2, 16))]
)
def test_no_tensor_holds_all_edges_with_all_their_numbers(backend, case, monkeypatch, device):
    monkeypatch.setattr(cpu, "CHUNK_VALUES", 2000)
    tiles, _, heads, width = case
    *numbers, sources, targets = (t.to(device) for t in make(*case))
    numbers = [t.float() for t in numbers] if backend == "triton" else numbers
    largest = {}
    for way in ("reference", backend):
        leaves = [t.clone().requires_grad_() for t in numbers]
        with Largest() as seen:
            messages, attention = neighbour_attn(*leaves, sources, targets, backend=way)
            (messages.square().sum() + attention.square().sum()).backward()
        largest[way] = seen.numel
    assert largest["reference"] >= len(sources) * heads * width
    assert largest[backend] <= max(len(sources) * heads, tiles * heads * width)
    assert len(sources) * heads * width > 2 * max(len(sources) * heads, tiles * heads * width)


def test_what_is_added_up_for_the_vector_does_not_grow_with_the_tiles(device, monkeypatch):
    """The gradient's sums are those of 3 programs, each over every third tile."""
    monkeypatch.setattr(triton, "MAX_PARTS", 3)
    made = []
    monkeypatch.setattr(
        torch.Tensor,
        "new_empty",
        lambda t, *shape, make=torch.Tensor.new_empty, **how: (
            made.append(shape) or make(t, *shape, **how)
        ),
    )
    *numbers, sources, targets = (t.to(device) for t in make(10, 2, 1, 16, torch.float32))
    everything(numbers, sources, targets, "triton")
    assert (3, 1, 16) in made
