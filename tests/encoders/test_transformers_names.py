"""Checkpoints of the library `transformers`: a block by hand, and whole models there and back."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from mil.config import EncoderConfig
from mil.encoders.build import build_encoder
from mil.encoders.checkpoint_names import from_transformers
from mil.errors import ConfigError
from tests.messages import one_line

VIT = {
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
}
DINOV2 = {
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
GATED = {**DINOV2, "mlp.fc1": "mlp.weights_in", "mlp.fc2": "mlp.weights_out"}
OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "reg_token": "embeddings.register_tokens",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}


def to_transformers_names(
    own: dict[str, torch.Tensor], words: dict[str, str]
) -> dict[str, torch.Tensor]:
    """A timm ViT's tensors as `transformers` would have saved them."""
    tensors = {"embeddings.mask_token": torch.zeros(1, 4), "pooler.dense.weight": torch.zeros(4, 4)}
    for name, tensor in own.items():
        block, _, rest = name.removeprefix("blocks.").partition(".")
        stem, _, kind = (rest if name.startswith("blocks.") else name).rpartition(".")
        if "qkv" in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[f"encoder.layer.{block}.attention.attention.{part}.{kind}"] = third.clone()
        elif name.startswith("blocks."):
            tensors[f"encoder.layer.{block}." + (words.get(rest) or f"{words[stem]}.{kind}")] = (
                tensor
            )
        else:
            tensors[OUTSIDE.get(name) or f"{OUTSIDE[stem]}.{kind}"] = tensor
    return tensors


def test_a_block_by_hand():
    numbers = iter(range(100))
    one = lambda *shape: torch.full(shape, float(next(numbers)))  # noqa: E731
    block = "vit.encoder.layer.7."
    tensors = {
        block + "attention.attention.query.weight": one(1, 2),
        block + "attention.attention.key.weight": one(1, 2),
        block + "attention.attention.value.weight": one(1, 2),
        block + "attention.output.dense.bias": one(2),
        block + "intermediate.dense.bias": one(2),
        block + "output.dense.bias": one(2),
        block + "layernorm_after.weight": one(2),
        "vit.layernorm.bias": one(2),
        "pooler.dense.bias": one(1),
    }
    assert {name: tensor.tolist() for name, tensor in from_transformers(tensors).items()} == {
        "blocks.7.attn.qkv.weight": [[0, 0], [1, 1], [2, 2]],
        "blocks.7.attn.proj.bias": [3, 3],
        "blocks.7.mlp.fc1.bias": [4, 4],
        "blocks.7.mlp.fc2.bias": [5, 5],
        "blocks.7.norm2.weight": [6, 6],
        "norm.bias": [7, 7],
        "pooler.dense.bias": [8],
    }


def test_with_registers_the_class_tokens_position_is_added_to_it():
    tensors = {
        "embeddings.cls_token": torch.ones(1, 1, 2),
        "embeddings.register_tokens": torch.zeros(1, 4, 2),
        "embeddings.position_embeddings": torch.tensor([[[5.0, 6.0], [7.0, 8.0], [9.0, 9.0]]]),
    }
    renamed = from_transformers(tensors)
    assert renamed["cls_token"].tolist() == [[[6, 7]]]
    assert renamed["pos_embed"].tolist() == [[[7, 8], [9, 9]]]
    without = from_transformers({name: tensors[name] for name in tensors if "register" not in name})
    assert without["cls_token"].tolist() == [[[1, 1]]]
    assert without["pos_embed"].shape == (1, 3, 2)


SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("vit_tiny_patch16_224", {}, VIT),
        ("vit_tiny_patch16_224", {"init_values": 1.0}, DINOV2),
        ("vit_small_patch14_reg4_dinov2", {}, DINOV2),
        (
            "vit_small_patch14_reg4_dinov2",
            {"mlp_layer": "SwiGLUPacked", "act_layer": "silu", "mlp_ratio": 2},
            GATED,
        ),
    ],
    ids=["vit", "dinov2", "registers", "registers and gated"],
)
def test_whole_models_there_and_back(name, args, words, tmp_path):
    torch.manual_seed(2)
    arguments = {
        **SMALL,
        **args,
        **({"mlp_layer": timm.layers.SwiGLUPacked} if "mlp_layer" in args else {}),
    }
    model = timm.create_model(name, num_classes=0, **arguments).eval()
    for tensor in model.state_dict().values():
        tensor.normal_(std=0.3)
    own = model.state_dict()
    tensors = to_transformers_names(own, words)
    if "reg_token" in own:  # there, the class token has a position of its own
        position = torch.full((1, 1, 48), 0.25)
        tensors["embeddings.cls_token"] = own["cls_token"] - position
        tensors["embeddings.position_embeddings"] = torch.cat([position, own["pos_embed"]], dim=1)
    save_file(tensors, tmp_path / "w.safetensors")
    built = build(name, {**SMALL, **args}, str(tmp_path / "w.safetensors"))
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model((pixels / 255 - 0.5).div(0.5).permute(0, 3, 1, 2))
    torch.testing.assert_close(built(pixels), expected, rtol=1e-4, atol=1e-5)


def build(name, args, weights):
    entry = EncoderConfig(
        timm=name,
        args=args,
        dim=48,
        tile_px=32,
        weights=weights,
        keys="transformers",
        licence="x",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    return build_encoder("x", entry, tile_px=32, device=torch.device("cpu"), precision="fp32")


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "encoder.layer.0.attention.attention.query.weight": torch.zeros(2, 3),
            "encoder.layer.0.attention.attention.key.weight": torch.zeros(2, 5),
        },
        {
            "embeddings.cls_token": torch.zeros(1),
            "embeddings.register_tokens": torch.zeros(1),
            "embeddings.position_embeddings": torch.zeros(1),
        },
        {"encoder.layer.0.attention.attention.query.weight": torch.zeros(48, 48)},
        {},
    ],
    ids=["shapes that do not join", "no dimensions", "no keys and values", "nothing"],
)
def test_a_file_that_makes_no_sense_is_one_line(tensors, tmp_path):
    torch.save(tensors, tmp_path / "w.pth")
    with one_line(ConfigError) as caught:
        build("vit_tiny_patch16_224", SMALL, str(tmp_path / "w.pth"))
    assert str(tmp_path / "w.pth") in str(caught.value)
