"""Madeleine's slide vector, against sums over tiles and heads in float64."""

from math import erf

import numpy as np
import torch

from mil.slide_encoders.build import build_slide_encoder, new_model
from tests.slide_encoders.checkpoints import linear, norm, numbers, random_checkpoint

POOLING = "wsi_embedders"
# Tensors of model.pt, as its authors' class has them.
USED = {
    **linear(f"{POOLING}.pre_attn.0", 512, 512),
    **norm(f"{POOLING}.pre_attn.1", 512),
    **linear(f"{POOLING}.pre_attn.4", 512, 512),
    **norm(f"{POOLING}.pre_attn.5", 512),
    **linear(f"{POOLING}.pre_attn.8", 2048, 512),
    **norm(f"{POOLING}.pre_attn.9", 2048),
    **{
        name: shape
        for head in range(4)
        for name, shape in {
            **linear(f"{POOLING}.attn.{head}.attention_a.0", 512, 512),
            **linear(f"{POOLING}.attn.{head}.attention_b.0", 512, 512),
            **linear(f"{POOLING}.attn.{head}.attention_c", 1, 512),
        }.items()
    },
    **linear("projector", 512, 2048),
}
DROPPED = linear("token_projector", 128, 2048)


def by_sums(checkpoint, features):
    """The four heads one after the other, each by einsum over its own numbers."""
    c = {name: tensor.double().numpy() for name, tensor in checkpoint.items()}

    def affine(name, rows):
        return np.einsum("ti,oi->to", rows, c[f"{name}.weight"]) + c[f"{name}.bias"]

    rows = features
    for place in (0, 4, 8):
        rows = affine(f"{POOLING}.pre_attn.{place}", rows)
        centred = rows - rows.mean(1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(1, keepdims=True) + 1e-5)
        name = f"{POOLING}.pre_attn.{place + 1}"
        rows = centred / spread * c[f"{name}.weight"] + c[f"{name}.bias"]
        rows = rows * (1 + np.vectorize(erf)(rows / np.sqrt(2))) / 2
    pooled = np.zeros(2048)
    for head in range(4):
        own = rows[:, head::4]
        name = f"{POOLING}.attn.{head}.attention_"
        gate = np.tanh(affine(f"{name}a.0", own)) / (1 + np.exp(-affine(f"{name}b.0", own)))
        scores = affine(f"{name}c", gate)[:, 0]
        attention = np.exp(scores) / np.exp(scores).sum()
        pooled[head::4] = np.einsum("t,te->e", attention, own)
    return affine("projector", pooled[None])[0]


def test_names_and_sizes_are_those_of_the_checkpoint():
    model = new_model("madeleine")
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == USED
    assert (numbers(USED), numbers(USED | DROPPED)) == (4_734_468, 4_996_740)


def test_the_vector_is_a_map_of_four_pooled_rows(tmp_path):
    checkpoint = random_checkpoint(USED | DROPPED)
    # As the published file names them.
    file = {f"module.{name}": tensor for name, tensor in checkpoint.items()}
    torch.save(file, tmp_path / "model.pt")
    encoder = build_slide_encoder("madeleine", weights=tmp_path / "model.pt")
    features = np.random.default_rng(1).normal(size=(9, 512)) * 3
    with torch.inference_mode():
        vector = encoder.model(torch.from_numpy(features).float())
    np.testing.assert_allclose(vector, by_sums(checkpoint, features), atol=1e-5)
