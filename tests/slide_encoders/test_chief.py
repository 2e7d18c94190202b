"""CHIEF's slide vector, against loops over tiles in float64."""

import numpy as np
import pytest
import torch

from mil.slide_encoders.build import build_slide_encoder, new_model
from tests.slide_encoders.checkpoints import linear, numbers, random_checkpoint

# Tensors of CHIEF_pretraining.pth, as its authors' class has them.
USED = {
    **linear("attention_net.0", 512, 768),
    **linear("attention_net.3.attention_a.0", 256, 512),
    **linear("attention_net.3.attention_b.0", 256, 512),
    **linear("attention_net.3.attention_c", 1, 256),
}
DROPPED = {
    **linear("classifiers", 2, 512),
    **linear("instance_classifiers.0", 2, 512),
    **linear("instance_classifiers.1", 2, 512),
    **linear("att_head.fc1", 256, 512),
    **linear("att_head.fc2", 1, 256),
    **linear("text_to_vision.0", 512, 768),
}
TEXTS = {"organ_embedding": (19, 768)}


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(USED | DROPPED | TEXTS)


def saved(checkpoint, folder):
    torch.save(checkpoint, folder / "CHIEF_pretraining.pth")
    return build_slide_encoder("chief", weights=folder / "CHIEF_pretraining.pth")


def by_loops(checkpoint, features):
    """Mean of the tiles by attention, a tile at a time."""
    c = {name: tensor.double().numpy() for name, tensor in checkpoint.items()}
    net = "attention_net.3.attention_"
    scores = []
    for tile in features:
        hidden = np.maximum(c["attention_net.0.weight"] @ tile + c["attention_net.0.bias"], 0)
        gate = np.tanh(c[f"{net}a.0.weight"] @ hidden + c[f"{net}a.0.bias"])
        gate /= 1 + np.exp(-(c[f"{net}b.0.weight"] @ hidden + c[f"{net}b.0.bias"]))
        scores.append(float(c[f"{net}c.weight"][0] @ gate))
    exponentials = np.exp(np.array(scores) - max(scores))
    vector = np.zeros(768)
    for weight, tile in zip(exponentials / exponentials.sum(), features, strict=True):
        vector += weight * tile
    return vector


def test_names_and_sizes_are_those_of_the_checkpoint():
    model = new_model("chief")
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == USED
    assert (numbers(USED), numbers(USED | DROPPED)) == (656_641, 1_185_032)


def test_the_vector_is_the_mean_of_the_tiles_by_attention(checkpoint, tmp_path):
    encoder = saved(checkpoint, tmp_path)
    for tiles in (1, 40):
        features = np.random.default_rng(tiles).normal(size=(tiles, 768)) * 3
        with torch.inference_mode():
            vector = encoder.model(torch.from_numpy(features).float())
        np.testing.assert_allclose(vector, by_loops(checkpoint, features), atol=1e-5)


def test_texts_and_classifiers_change_neither_vector_nor_checksum(checkpoint, tmp_path):
    first = saved(checkpoint, tmp_path)
    others = {name: checkpoint[name] + 1 for name in DROPPED | TEXTS}
    assert saved({**checkpoint, **others}, tmp_path).weights_sha256 == first.weights_sha256
    gate = {name: checkpoint[name] + 1 for name in USED}
    assert saved({**checkpoint, **gate}, tmp_path).weights_sha256 != first.weights_sha256
