"""GigaPath's slide encoder against a LongNet written out: loops over segments and offsets."""

import math
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from mil.config import load_encoders
from mil.config.slide_encoders import load_slide_encoder, published_slide_encoders
from mil.errors import FormatError
from mil.io.bags import read_bag
from mil.slide_encoders._dilated_attn import Branch, dilated_attn, runs_of
from mil.slide_encoders.checks import check_bag
from mil.slide_encoders.gigapath_slide import (
    SlideEncoder,
    grid_places,
    position_waves,
    reading_order,
)
from tests.messages import one_line
from tests.synthetic import bag_file

PUBLISHED_PARAMETERS = 86_330_880
BRANCHES = (Branch(4, 1), Branch(8, 2), Branch(100, 4))
SMALL = {"in_dim": 6, "dim": 16, "hidden": 24, "heads": 4, "depth": 2, "branches": BRANCHES}


def attended_by_loops(q, k, v, branches):
    """One softmax for each query and head, key by key; [tokens, heads, width]."""
    tokens, heads, width = q.shape
    sums = torch.zeros_like(v)
    totals = torch.zeros_like(v[..., 0])
    for segment, ratio in branches:
        length = min(segment, tokens)
        # The published implementation fills up with zeros: to whole segments, and each
        # segment to a multiple of the ratio.
        filled = math.ceil(length / ratio) * ratio
        for first in range(0, tokens, length):
            for head in range(heads):
                offset = head // (heads // ratio)
                inside = range(first + offset, min(first + length, tokens), ratio)
                fillers = len(range(offset, filled, ratio)) - len(inside)
                for i in inside:
                    weights = torch.stack([(q[i, head] @ k[j, head]) for j in inside])
                    weights = (weights / width**0.5).exp()
                    sums[i, head] += weights @ v[list(inside), head]
                    totals[i, head] += weights.sum() + fillers
    return sums / totals[..., None]


def published_vector(weights, features, columns, rows, shape):
    """The published forward pass, with tiles row by row, from a checkpoint's tensors."""

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name, eps=1e-5):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def waves(number):
        rates = [10000 ** -(i / (shape["dim"] // 4)) for i in range(shape["dim"] // 4)]
        sines = [math.sin(number * rate) for rate in rates]
        return sines + [math.cos(number * rate) for rate in rates]

    places = [waves(row) + waves(column) for column, row in zip(columns, rows, strict=True)]
    tiles = linear(features, "patch_embed.proj") + torch.tensor(places, dtype=torch.float64)
    x = torch.cat([weights["cls_token"][0], tiles])
    for number in range(shape["depth"]):
        layer = f"encoder.layers.{number}"
        normal = norm(x, f"{layer}.self_attn_layer_norm")
        q, k, v = (
            linear(normal, f"{layer}.self_attn.{name}_proj").view(len(x), shape["heads"], -1)
            for name in "qkv"
        )
        mixed = attended_by_loops(q, k, v, shape["branches"]).reshape(len(x), -1)
        mixed = norm(mixed, f"{layer}.self_attn.inner_attn_ln")
        x = x + linear(mixed, f"{layer}.self_attn.out_proj")
        hidden = linear(norm(x, f"{layer}.final_layer_norm"), f"{layer}.ffn.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        x = x + linear(norm(hidden, f"{layer}.ffn.ffn_layernorm"), f"{layer}.ffn.fc2")
    return norm(x[1:].mean(0), "norm", eps=1e-6)


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(5)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_model(draw, shape):
    """A model whose tensors all are random, also those that begin at 0 and 1."""
    model = SlideEncoder(**shape).double().eval()
    tensors = {name: draw(*t.shape) / t.shape[-1] ** 0.5 for name, t in model.state_dict().items()}
    model.load_state_dict(tensors)
    return model


def slide(draw, num_tiles, in_dim, columns=5):
    """Features, and the places of tiles row by row, from (3, 2)."""
    numbers = torch.arange(num_tiles)
    return draw(num_tiles, in_dim), numbers % columns + 3, numbers // columns + 2


@torch.inference_mode()
def vector(model, features, columns, rows, side=224):
    return model(features, torch.stack([columns, rows], 1) * side, side)


def difference(left, right):
    """Largest difference of two vectors."""
    assert left.shape == right.shape
    return float((left - right).abs().max())


@pytest.mark.parametrize("num_tiles", [1, 2, 6, 21])
def test_vector_is_that_of_the_published_forward_pass(draw, num_tiles):
    model = random_model(draw, SMALL)
    features, columns, rows = slide(draw, num_tiles, SMALL["in_dim"])
    expected = published_vector(
        model.state_dict(), features, columns.tolist(), rows.tolist(), SMALL
    )
    result = vector(model, features, columns, rows)
    assert difference(result, expected) < 1e-12


@pytest.mark.slow
def test_published_shape_agrees_over_several_segments(draw):
    # Of each of the two first branches there are two segments or more.
    branches = (Branch(64, 1), Branch(130, 2), Branch(1000, 4), Branch(1000, 8), Branch(1000, 16))
    shape = {"in_dim": 1536, "dim": 768, "hidden": 3072, "heads": 16, "depth": 2}
    shape = {**shape, "branches": branches}
    model = random_model(draw, shape)
    features, columns, rows = slide(draw, 200, 1536)
    expected = published_vector(
        model.state_dict(), features, columns.tolist(), rows.tolist(), shape
    )
    result = vector(model, features, columns, rows)
    assert difference(result, expected) < 1e-12
    single = vector(model.float(), features.float(), columns, rows)
    assert difference(single.double(), expected) < 1e-5


def test_names_and_shapes_are_those_of_the_published_checkpoint():
    with torch.device("meta"):
        model = SlideEncoder()
    expected = {
        "cls_token": (1, 1, 768),
        "patch_embed.proj.weight": (768, 1536),
        "patch_embed.proj.bias": (768,),
        "norm.weight": (768,),
        "norm.bias": (768,),
    }
    for number in range(12):
        layer = f"encoder.layers.{number}"
        shapes = {f"self_attn.{name}_proj": (768, 768) for name in ("q", "k", "v", "out")}
        shapes |= {"ffn.fc1": (3072, 768), "ffn.fc2": (768, 3072)}
        shapes |= {"self_attn.inner_attn_ln": (768,), "ffn.ffn_layernorm": (3072,)}
        shapes |= {"self_attn_layer_norm": (768,), "final_layer_norm": (768,)}
        for name, size in shapes.items():
            expected[f"{layer}.{name}.weight"] = size
            expected[f"{layer}.{name}.bias"] = size[:1]
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == expected
    # The checkpoint has one norm more, which the vector does not need.
    unused = 2 * 768
    count = sum(tensor.numel() for tensor in model.parameters())
    assert count == PUBLISHED_PARAMETERS - unused == 86_329_344


def test_published_segments_follow_from_the_largest_slide():
    exponents = torch.linspace(10, math.log2((262144 // 256) ** 2), 5, dtype=torch.float64)
    segments = (2**exponents).long().tolist()
    model = SlideEncoder(dim=16, hidden=4, in_dim=2, depth=1)
    branches = model.encoder.layers[0].self_attn.branches
    assert list(branches) == list(zip(segments, (1, 2, 4, 8, 16), strict=True))


def test_order_of_the_tiles_does_not_matter(draw):
    model = random_model(draw, SMALL)
    features, columns, rows = slide(draw, 13, SMALL["in_dim"])
    shuffled = torch.randperm(13, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(shuffled, torch.arange(13))
    again = vector(model, features[shuffled], columns[shuffled], rows[shuffled])
    assert difference(again, vector(model, features, columns, rows)) < 1e-12


def test_order_and_place_of_features_do_matter(draw):
    model = random_model(draw, SMALL)
    features, columns, rows = slide(draw, 13, SMALL["in_dim"])
    before = vector(model, features, columns, rows)
    for other in (
        vector(model, features.flip(0), columns, rows),
        vector(model, features, rows, columns),
    ):
        assert difference(other, before) > 1e-3


@pytest.mark.parametrize("side", [224.0, 441.8, 447.51])
def test_neighbouring_tiles_are_one_place_apart(side):
    numbers = torch.arange(300)
    corners = (numbers * side).round().long()
    places = grid_places(torch.stack([corners, corners.flip(0)], 1), side)
    assert places[:, 0].tolist() == numbers.tolist()
    assert places[:, 1].tolist() == numbers.tolist()[::-1]


def test_corners_between_places_belong_to_the_place_before():
    corners = torch.tensor([[255, 256], [511, 512], [100, 0]])
    assert grid_places(corners, 256.0).tolist() == [[0, 1], [1, 2], [0, 0]]


def test_tiles_are_read_row_by_row():
    places = torch.tensor([[2, 1], [0, 7], [1, 1], [90, 0]])
    assert reading_order(places).tolist() == [3, 2, 0, 1]


def test_waves_are_of_the_row_then_of_the_column():
    waves = position_waves(torch.tensor([[3, 7]]), 8)
    angles = [7, 7 / 100, 3, 3 / 100]
    sines = [math.sin(angle) for angle in angles]
    cosines = [math.cos(angle) for angle in angles]
    expected = [*sines[:2], *cosines[:2], *sines[2:], *cosines[2:]]
    assert waves[0].tolist() == pytest.approx(expected, abs=1e-15)


def test_every_token_is_once_in_each_branch():
    runs = runs_of(11, Branch(6, 4), torch.device("cpu"))
    assert sorted(runs.order.tolist()) == list(range(11))
    bounds = runs.offsets.tolist()
    members = [runs.order[start:end].tolist() for start, end in pairwise(bounds)]
    # Group by group, segments [0, 6) and [6, 11).
    assert members == [[0, 4], [6, 10], [1, 5], [7], [2], [8], [3], [9]]
    # A segment of 6 is filled up to 8: two places for each group.
    assert runs.num_empty.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("tile_px", "mpp", "fault"),
    [
        (224, 0.5, ""),
        # Of these the encoder of other tools sees the middle 224.
        (256, 0.5, ""),
        (256, 0.4375, "its tiles are 98 µm wide, slide encoder gigapath_slide takes those of 112"),
        (240, 0.5, "its tiles are 120 µm wide"),
    ],
)
def test_bags_of_cropped_tiles_are_taken(tmp_path, tile_px, mpp, fault):
    path = tmp_path / "a.h5"
    encoder = {"encoder": "gigapath"}
    bag_file(path, "a", np.ones((3, 1536)), tile_px=tile_px, target_mpp=mpp, encoder=encoder)
    entry = load_slide_encoder("gigapath_slide")
    with one_line(FormatError, match=fault) if fault else nullcontext():
        check_bag("gigapath_slide", entry, read_bag(path), path)


def test_no_slide_encoder_has_the_name_of_an_encoder_of_tiles():
    # `mil encoders show` and `fetch` take both by name.
    assert set(published_slide_encoders()).isdisjoint(load_encoders())


class LargestTensor(TorchFunctionMode):
    """Number of elements of the largest tensor that a function of torch returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor):
                self.numel = max(self.numel, each.numel())
        return result


def test_no_tensor_has_a_side_of_tokens_by_tokens():
    tokens = 4000
    rows = torch.ones(tokens, 2, 4)
    with LargestTensor() as largest:
        dilated_attn(rows, rows, rows, (Branch(64, 1), Branch(100_000, 2)))
    # A block of queries by keys, where that of all pairs would have 8 million.
    assert largest.numel <= 256 * 1024
