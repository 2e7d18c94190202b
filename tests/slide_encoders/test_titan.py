"""TITAN's slide tower against a naive one that reads the published names of its tensors."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mil.errors import ConfigError
from mil.slide_encoders import titan
from mil.slide_encoders.build import build_slide_encoder, renamed_tensors
from mil.slide_encoders.titan import SlideEncoder, alibi_slopes, on_grid
from tests.messages import one_line
from tests.slide_encoders.checkpoints import linear, norm, numbers

DIM = 24
DEPTH = 2
HEADS = 12
POOL_HEADS = 4
PUBLISHED = "vision_encoder."


def published_shapes(dim: int, depth: int, queries: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the slide tower's tensors in the checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, dim), "proj": (dim, dim)}
    shapes |= linear("patch_embed.0", dim, dim) | norm("norm", dim)
    for number in range(depth):
        block = f"blocks.modules_list.{number}."
        shapes |= norm(f"{block}norm1", dim) | norm(f"{block}norm2", dim)
        shapes |= linear(f"{block}attn.qkv", 3 * dim, dim) | linear(f"{block}attn.proj", dim, dim)
        shapes |= linear(f"{block}mlp.fc1", 4 * dim, dim) | linear(f"{block}mlp.fc2", dim, 4 * dim)
    for pool, rows in (("attn_pool.", queries), ("attn_pool_contrastive.", 1)):
        shapes |= {f"{pool}query": (rows, dim), f"{pool}attn.in_proj_weight": (3 * dim, dim)}
        shapes |= {f"{pool}attn.in_proj_bias": (3 * dim,)}
        shapes |= linear(f"{pool}attn.out_proj", dim, dim)
        shapes |= norm(f"{pool}ln_q", dim) | norm(f"{pool}ln_k", dim)
    return {f"{PUBLISHED}{name}": shape for name, shape in shapes.items()}


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(5)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def checkpoint(draw):
    return {name: draw(*shape) for name, shape in published_shapes(DIM, DEPTH, 3).items()}


@pytest.fixture
def model(checkpoint):
    encoder = SlideEncoder(DIM, DEPTH, HEADS, POOL_HEADS).double().requires_grad_(False)
    content = renamed_tensors(Path("x"), "titan", checkpoint)
    encoder.load_state_dict({name: content[name] for name in encoder.state_dict()})
    return encoder


class Naive:
    """The published slide tower, a head and a pair of tokens at a time."""

    def __init__(self, checkpoint: dict[str, torch.Tensor]) -> None:
        self.w = {name.removeprefix(PUBLISHED): t.numpy() for name, t in checkpoint.items()}

    def norm(self, x, name, epsilon):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def gelu(self, x):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    def attend(self, query, key, value, heads, bias):
        size = query.shape[1] // heads
        out = np.zeros_like(query)
        for head in range(heads):
            at = slice(head * size, (head + 1) * size)
            for number, row in enumerate(query[:, at]):
                scores = key[:, at] @ row / math.sqrt(size) + bias(head, number)
                weights = np.exp(scores - scores.max())
                out[number, at] = weights / weights.sum() @ value[:, at]
        return out

    def __call__(self, cells, features):
        """`cells`: the (column, row) of each feature."""
        exponents = [*range(1, 9), 0.5, 1.5, 2.5, 3.5]
        slopes = np.float64([np.float32(2.0**-exponent) for exponent in exponents])
        tokens = np.vstack(
            [self.w["cls_token"][0], self.gelu(self.linear(features, "patch_embed.0"))]
        )

        def bias(head, query):
            apart = [0.0] + [math.dist(cells[query - 1], cell) for cell in cells]
            return -slopes[head] * np.array(apart) if query else np.zeros(len(apart))

        for number in range(DEPTH):
            block = f"blocks.modules_list.{number}."
            qkv = self.linear(self.norm(tokens, f"{block}norm1", 1e-6), f"{block}attn.qkv")
            attended = self.attend(*np.split(qkv, 3, axis=1), HEADS, bias)
            tokens = tokens + self.linear(attended, f"{block}attn.proj")
            hidden = self.linear(self.norm(tokens, f"{block}norm2", 1e-6), f"{block}mlp.fc1")
            tokens = tokens + self.linear(self.gelu(hidden), f"{block}mlp.fc2")
        keys = self.norm(self.norm(tokens, "norm", 1e-6), "attn_pool_contrastive.ln_k", 1e-5)
        query = self.norm(self.w["attn_pool_contrastive.query"], "attn_pool_contrastive.ln_q", 1e-5)
        weights = np.split(self.w["attn_pool_contrastive.attn.in_proj_weight"], 3)
        biases = np.split(self.w["attn_pool_contrastive.attn.in_proj_bias"], 3)
        inputs = [x @ w.T + b for x, w, b in zip((query, keys, keys), weights, biases, strict=True)]
        pooled = self.attend(*inputs, POOL_HEADS, lambda head, number: 0.0)
        return self.linear(pooled, "attn_pool_contrastive.attn.out_proj")[0]


@pytest.mark.parametrize("block_bytes", [titan.BLOCK_BYTES, 12 * 8 * 14 * 3])
def test_the_vector_is_that_of_the_naive_tower(draw, checkpoint, model, monkeypatch, block_bytes):
    monkeypatch.setattr(titan, "BLOCK_BYTES", block_bytes)
    cells = [(0, 0), (0, 3), (1, 1), (2, 0), (2, 5), (4, 2), (7, 7), (9, 0), (9, 1), (11, 4)]
    features = draw(len(cells), DIM)
    corners = torch.tensor(cells) * 512 + torch.tensor([40_000, 7])
    expected = Naive(checkpoint)(cells, features.numpy())
    np.testing.assert_allclose(
        model(features, corners, 512.0).numpy(), expected, rtol=0, atol=1e-12
    )


def test_tiles_of_one_cell_are_added_and_cells_of_zeros_left_out(draw):
    features = draw(4, DIM)
    features[3] = 0
    corners = torch.tensor([[1023, 0], [512, 511], [0, 512], [0, 2048]])
    grid = on_grid(features, corners, 512.0)
    assert grid.cells.tolist() == [[0, 1], [1, 0]]
    assert grid.features.equal(torch.stack([features[2], features[0] + features[1]]))


def test_every_tile_of_a_rounded_grid_has_its_cell(draw):
    """Sides that are no whole number of pixels round corners to before their cell."""
    side = 1013.0633
    cells = np.stack(np.meshgrid(np.arange(50), np.arange(40), indexing="ij"), -1).reshape(-1, 2)
    corners = torch.from_numpy(np.rint(37 + cells * side)).long()
    assert on_grid(draw(len(cells), 1), corners, side).cells.numpy().tolist() == cells.tolist()


def test_slopes_are_those_of_the_alibi_paper():
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    extra = [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    assert alibi_slopes(12).tolist() == pytest.approx([2.0**-i for i in range(1, 9)] + extra)


def test_the_published_checkpoint_fits_whole(without_initialisation):
    published = published_shapes(768, 6, 128)
    assert numbers(published) == 48_539_904
    content = {name: torch.empty(shape) for name, shape in published.items()}
    fit = renamed_tensors(Path("x"), "titan", content)
    expected = SlideEncoder().state_dict()
    assert {name: fit[name].shape for name in expected} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert sum(tensor.numel() for tensor in expected.values()) == 45_486_336
    unused = fit.keys() - expected.keys()
    assert {name.split(".")[0] for name in unused} == {"attn_pool", "proj"}


@pytest.fixture
def small(monkeypatch):
    """The entry `titan` with a small slide tower."""
    monkeypatch.setattr(
        titan, "SlideEncoder", lambda: SlideEncoder(DIM, DEPTH, HEADS, POOL_HEADS).double()
    )


def test_the_text_tower_of_a_checkpoint_is_ignored(draw, checkpoint, model, small, tmp_path):
    text = {"text_encoder.cls_emb": draw(3), "text_encoder.ln_final.weight": draw(2)}
    save_file(checkpoint | text, tmp_path / "titan.safetensors")
    built = build_slide_encoder("titan", weights=tmp_path / "titan.safetensors")
    features, corners = draw(3, DIM), torch.tensor([[0, 0], [512, 0], [0, 1024]])
    vector, expected = (m(features, corners, 512.0).numpy() for m in (built.model, model))
    np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-12)


def test_a_checkpoint_of_another_architecture_is_one_line(draw, checkpoint, small, tmp_path):
    surplus, missing = tmp_path / "surplus.safetensors", tmp_path / "missing.safetensors"
    save_file(checkpoint | {f"{PUBLISHED}pos_embed": draw(1, 197, DIM)}, surplus)
    with one_line(ConfigError, "surplus.safetensors: .* titan, which has no pos_embed"):
        build_slide_encoder("titan", weights=surplus)
    del checkpoint[f"{PUBLISHED}blocks.modules_list.1.mlp.fc2.bias"]
    save_file(checkpoint, missing)
    with one_line(ConfigError, "missing.safetensors: .* first is blocks.1.fc2.bias .nothing"):
        build_slide_encoder("titan", weights=missing)
