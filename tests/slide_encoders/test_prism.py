"""PRISM's slide tower against a naive one that reads the published names of its tensors."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mil.errors import ConfigError
from mil.slide_encoders.build import renamed_tensors
from mil.slide_encoders.prism import SlideEncoder
from tests.messages import one_line
from tests.slide_encoders.checkpoints import linear, norm, numbers

TILE_DIM = 12
DIM = 8
LATENTS = 5
LAYERS = 2
HEADS = 2
PUBLISHED = "image_resampler."


def mlp(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    layers = linear(f"{name}.net.0", 2 * dim, dim) | linear(f"{name}.net.2", dim, dim)
    return norm(f"{name}.norm", dim) | layers


def published_shapes(
    tile_dim: int, dim: int, latents: int, layers: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the slide tower's tensors, shared ones under their first name."""
    shapes: dict[str, tuple[int, ...]] = {"perceiver.latents": (latents, dim)}
    shapes |= norm("cls_norm", dim) | norm("img_norm", dim)
    for number in (0, 1):
        read = f"perceiver.layers.{number}.xattn."
        shapes |= norm(f"{read}xattn.x_norm", dim) | mlp(f"{read}ff", dim)
        shapes |= {f"{read}xattn.to_q.weight": (dim, dim)}
        shapes |= {f"{read}xattn.to_kv.weight": (2 * dim, tile_dim)}
        shapes |= {f"{read}xattn.to_out.weight": (dim, dim)}
    for number in range(layers):
        layer = f"perceiver.layers.0.tf.{number}."
        shapes |= norm(f"{layer}mhsa.norm", dim) | mlp(f"{layer}ff", dim)
        shapes |= {f"{layer}mhsa.mha.in_proj_weight": (3 * dim, dim)}
        shapes |= {f"{layer}mhsa.mha.out_proj.weight": (dim, dim)}
    return {f"{PUBLISHED}{name}": shape for name, shape in shapes.items()}


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(6)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def checkpoint(draw):
    shapes = published_shapes(TILE_DIM, DIM, LATENTS, LAYERS)
    return {name: draw(*shape) for name, shape in shapes.items()}


def repeated(checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The checkpoint with shared tensors under all their names."""
    first, again = f"{PUBLISHED}perceiver.layers.0.tf.", f"{PUBLISHED}perceiver.layers.1.xattn."
    content = dict(checkpoint)
    for name, tensor in checkpoint.items():
        for number in range(1, 8):
            stem = f"{PUBLISHED}perceiver.layers.{number}."
            if name.startswith(first):
                content[f"{stem}tf.{name.removeprefix(first)}"] = tensor.clone()
            elif name.startswith(again):
                content[f"{stem}xattn.{name.removeprefix(again)}"] = tensor.clone()
    return content


def loaded(content: dict[str, torch.Tensor]) -> SlideEncoder:
    model = SlideEncoder(TILE_DIM, DIM, LATENTS, LAYERS, HEADS).double().requires_grad_(False)
    fit = renamed_tensors(Path("x"), "prism", content)
    model.load_state_dict({name: fit[name] for name in model.state_dict()})
    return model


class Naive:
    """The published slide tower: eight layers one after another, a query at a time."""

    def __init__(self, content: dict[str, torch.Tensor]) -> None:
        self.w = {name.removeprefix(PUBLISHED): t.numpy() for name, t in content.items()}

    def norm(self, x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def mlp(self, x, name):
        hidden = self.norm(x, f"{name}.norm") @ self.w[f"{name}.net.0.weight"].T
        values, gates = np.split(hidden + self.w[f"{name}.net.0.bias"], 2, axis=1)
        gelu = gates * 0.5 * (1 + np.vectorize(math.erf)(gates / math.sqrt(2)))
        return values * gelu @ self.w[f"{name}.net.2.weight"].T + self.w[f"{name}.net.2.bias"]

    def attend(self, query, key, value):
        out = np.zeros((len(query), value.shape[1]))
        for number, row in enumerate(query):
            weights = np.exp(key @ row / math.sqrt(len(row)))
            out[number] = weights / weights.sum() @ value
        return out

    def __call__(self, features):
        x = self.w["perceiver.latents"]
        for number in range(8):
            read = f"perceiver.layers.{number}.xattn."
            key, value = np.split(features @ self.w[f"{read}xattn.to_kv.weight"].T, 2, axis=1)
            query = self.norm(x, f"{read}xattn.x_norm") @ self.w[f"{read}xattn.to_q.weight"].T
            x = x + self.attend(query, key, value) @ self.w[f"{read}xattn.to_out.weight"].T
            x = x + self.mlp(x, f"{read}ff")
            for layer in range(LAYERS):
                at = f"perceiver.layers.{number}.tf.{layer}."
                qkv = self.norm(x, f"{at}mhsa.norm") @ self.w[f"{at}mhsa.mha.in_proj_weight"].T
                heads = [np.split(part, HEADS, axis=1) for part in np.split(qkv, 3, axis=1)]
                attended = [self.attend(*head) for head in zip(*heads, strict=True)]
                x = x + np.hstack(attended) @ self.w[f"{at}mhsa.mha.out_proj.weight"].T
                x = x + self.mlp(x, f"{at}ff")
        return self.norm(x, "cls_norm")[0]


@pytest.mark.parametrize("tiles", [1, 7])
def test_the_vector_is_that_of_the_naive_tower(draw, checkpoint, tiles):
    features = draw(tiles, TILE_DIM)
    expected = Naive(repeated(checkpoint))(features.numpy())
    vector = loaded(checkpoint)(features).numpy()
    np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-11)


def test_shared_tensors_may_have_all_their_names(draw, checkpoint):
    features = draw(3, TILE_DIM)
    content = repeated(checkpoint)
    assert len(content) > 3 * len(checkpoint)
    assert loaded(content)(features).equal(loaded(checkpoint)(features))


def test_a_shared_tensor_that_differs_is_one_line(checkpoint):
    content = repeated(checkpoint)
    content[f"{PUBLISHED}perceiver.layers.5.tf.1.ff.net.0.bias"][2] += 1
    with one_line(ConfigError, "layers.5.tf.1.ff.net.0.bias differs from the tensor of another"):
        loaded(content)


def test_the_published_checkpoint_fits_whole(without_initialisation):
    published = published_shapes(2560, 1280, 513, 6)
    assert numbers(published) == 99_037_440
    content = {name: torch.empty(shape) for name, shape in published.items()}
    fit = renamed_tensors(Path("x"), "prism", content)
    expected = SlideEncoder().state_dict()
    assert {name: fit[name].shape for name in expected} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert sum(tensor.numel() for tensor in expected.values()) == 99_034_880
    assert fit.keys() - expected.keys() == {"img_norm.weight", "img_norm.bias"}
