"""Checkpoints of CLIP, BEiT-3, KEEP, CONCH and CTransPath, computed from their published names.

Each reference reads the published tensors and computes the features by itself; the model is
built from a file of them, as a run builds it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.swin_transformer import SwinTransformer

from mil.config import EncoderConfig
from mil.config.encoders import Naming
from mil.encoders.build import build_encoder
from mil.encoders.checkpoint_names import NAMINGS, from_clip, from_swin
from mil.encoders.weights import read_weights
from mil.errors import ConfigError
from tests.messages import one_line

WIDTH = 24
HEADS = 3
PATCH = 8
SIDE = 16
BLOCKS = 2
TOKENS = 1 + (SIDE // PATCH) ** 2
VIT = {
    "img_size": SIDE,
    "patch_size": PATCH,
    "embed_dim": WIDTH,
    "depth": BLOCKS,
    "num_heads": HEADS,
}
Tensors = dict[str, Tensor]


def drawn(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    generator = torch.Generator().manual_seed(4)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def layer(name: str, out: int, inside: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inside)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, size: int = WIDTH) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def pixels(side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=generator)


def features(tmp_path: Path, tensors: Tensors, side: int = SIDE, **entry: object) -> Tensor:
    torch.save(tensors, tmp_path / "w.pth")
    config = EncoderConfig(
        **{"licence": "x", "tile_px": side, "mean": (0.5,) * 3, "std": (0.5,) * 3, **entry},
        weights=str(tmp_path / "w.pth"),
    )
    encoder = build_encoder("x", config, tile_px=side, device=torch.device("cpu"), precision="fp32")
    return encoder(pixels(side))


def normalised(side: int = SIDE) -> Tensor:
    return (pixels(side).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5


class Reference:
    """A transformer computed from tensors by their published names."""

    def __init__(self, tensors: Tensors, eps: float) -> None:
        self.tensors = tensors
        self.eps = eps

    def linear(self, x: Tensor, name: str) -> Tensor:
        bias = self.tensors.get(f"{name}.bias")
        return functional.linear(x, self.tensors[f"{name}.weight"], bias)

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self.eps)

    def patches(self, name: str) -> Tensor:
        bias = self.tensors.get(f"{name}.bias")
        grid = functional.conv2d(normalised(), self.tensors[f"{name}.weight"], bias, stride=PATCH)
        return grid.flatten(2).transpose(1, 2)

    def attention(self, x: Tensor, names: str) -> Tensor:
        """Heads beside each other; `names` has a place for q, k and v."""
        q, k, v = (self.linear(x, names.format(part)).chunk(HEADS, -1) for part in "qkv")
        scale = (WIDTH // HEADS) ** -0.5
        heads = [
            (a @ b.transpose(1, 2) * scale).softmax(-1) @ c for a, b, c in zip(q, k, v, strict=True)
        ]
        return torch.cat(heads, -1)


def test_each_naming_of_an_entry_is_known():
    assert set(get_args(Naming)) == NAMINGS.keys() | {"name", "order"}


def clip_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (WIDTH,),
        "vision_model.embeddings.position_embedding.weight": (TOKENS, WIDTH),
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        **norm("vision_model.pre_layrnorm"),
        **norm("vision_model.post_layernorm"),
        **layer("visual_projection", 10, WIDTH, bias=False),
        # Of the text tower, under names like those of the other.
        **layer("text_model.encoder.layers.0.self_attn.q_proj", 7, 7),
    }
    for block in range(BLOCKS):
        stem = f"vision_model.encoder.layers.{block}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= layer(f"{stem}.self_attn.{part}", WIDTH, WIDTH)
        shapes |= layer(f"{stem}.mlp.fc1", 4 * WIDTH, WIDTH)
        shapes |= layer(f"{stem}.mlp.fc2", WIDTH, 4 * WIDTH)
        shapes |= norm(f"{stem}.layer_norm1") | norm(f"{stem}.layer_norm2")
    return shapes


def test_clip(tmp_path):
    tensors = drawn(clip_shapes())
    reference = Reference(tensors, eps=1e-5)
    first = tensors["vision_model.embeddings.class_embedding"].expand(2, 1, WIDTH)
    x = torch.cat([first, reference.patches("vision_model.embeddings.patch_embedding")], 1)
    x = x + tensors["vision_model.embeddings.position_embedding.weight"]
    x = reference.norm(x, "vision_model.pre_layrnorm")
    for block in range(BLOCKS):
        stem = f"vision_model.encoder.layers.{block}"
        attended = reference.attention(
            reference.norm(x, f"{stem}.layer_norm1"), stem + ".self_attn.{}_proj"
        )
        x = x + reference.linear(attended, f"{stem}.self_attn.out_proj")
        hidden = reference.linear(reference.norm(x, f"{stem}.layer_norm2"), f"{stem}.mlp.fc1")
        x = x + reference.linear(hidden * (1.702 * hidden).sigmoid(), f"{stem}.mlp.fc2")
    pooled = reference.norm(x[:, 0], "vision_model.post_layernorm")
    entry = {"timm": "vit_base_patch32_clip_quickgelu_224", "args": VIT, "keys": "clip"}
    found = features(tmp_path, tensors, **entry, pooling="cls", projection="linear", dim=10)
    expected = reference.linear(pooled, "visual_projection")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not [name for name in from_clip(tensors) if "text" in name]


def beit3_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "beit3.vision_embed.cls_token": (1, 1, WIDTH),
        "beit3.vision_embed.mask_token": (1, 1, WIDTH),
        "beit3.vision_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "beit3.vision_embed.proj.bias": (WIDTH,),
        "beit3.text_embed.weight": (9, WIDTH),
        "beit3.encoder.embed_positions.A.weight": (TOKENS + 2, WIDTH),
        "beit3.encoder.embed_positions.B.weight": (30, WIDTH),
        "vision_head.weight": (WIDTH, WIDTH),
    }
    for branch in "AB":
        shapes |= norm(f"beit3.encoder.layer_norm.{branch}")
        for block in range(BLOCKS):
            stem = f"beit3.encoder.layers.{block}"
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= layer(f"{stem}.self_attn.{part}.{branch}", WIDTH, WIDTH)
            shapes |= norm(f"{stem}.self_attn.inner_attn_ln.{branch}")
            shapes |= norm(f"{stem}.self_attn_layer_norm.{branch}")
            shapes |= norm(f"{stem}.final_layer_norm.{branch}")
            shapes |= layer(f"{stem}.ffn.{branch}.fc1", 4 * WIDTH, WIDTH)
            shapes |= layer(f"{stem}.ffn.{branch}.fc2", WIDTH, 4 * WIDTH)
            shapes |= norm(f"{stem}.ffn.{branch}.ffn_layernorm", 4 * WIDTH)
    return shapes


def test_beit3(tmp_path):
    tensors = drawn(beit3_shapes())
    reference = Reference(tensors, eps=1e-5)
    first = tensors["beit3.vision_embed.cls_token"].expand(2, 1, WIDTH)
    x = torch.cat([first, reference.patches("beit3.vision_embed.proj")], 1)
    x = x + tensors["beit3.encoder.embed_positions.A.weight"][2:]
    for block in range(BLOCKS):
        stem = f"beit3.encoder.layers.{block}"
        attended = reference.attention(
            reference.norm(x, f"{stem}.self_attn_layer_norm.A"), stem + ".self_attn.{}_proj.A"
        )
        attended = reference.norm(attended, f"{stem}.self_attn.inner_attn_ln.A")
        x = x + reference.linear(attended, f"{stem}.self_attn.out_proj.A")
        hidden = reference.linear(
            reference.norm(x, f"{stem}.final_layer_norm.A"), f"{stem}.ffn.A.fc1"
        )
        hidden = reference.norm(functional.gelu(hidden), f"{stem}.ffn.A.ffn_layernorm")
        x = x + reference.linear(hidden, f"{stem}.ffn.A.fc2")
    expected = reference.norm(x[:, 0], "beit3.encoder.layer_norm.A")
    args = {**VIT, "global_pool": "token"}
    entry = {"timm": "beit3_large_patch16_224", "args": args, "keys": "beit3", "pooling": "cls"}
    found = features(tmp_path, tensors, **entry, dim=WIDTH)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def vit_shapes(prefix: str, scale: str) -> dict[str, tuple[int, ...]]:
    """Tensors of a timm ViT, whose layer scales may have another name."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}cls_token": (1, 1, WIDTH),
        f"{prefix}pos_embed": (1, TOKENS, WIDTH),
        f"{prefix}patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        f"{prefix}patch_embed.proj.bias": (WIDTH,),
        **norm(f"{prefix}norm"),
    }
    for block in range(BLOCKS):
        stem = f"{prefix}blocks.{block}"
        shapes |= layer(f"{stem}.attn.qkv", 3 * WIDTH, WIDTH)
        shapes |= layer(f"{stem}.attn.proj", WIDTH, WIDTH)
        shapes |= layer(f"{stem}.mlp.fc1", 4 * WIDTH, WIDTH)
        shapes |= layer(f"{stem}.mlp.fc2", WIDTH, 4 * WIDTH)
        shapes |= norm(f"{stem}.norm1") | norm(f"{stem}.norm2")
        shapes |= {f"{stem}.ls1.{scale}": (WIDTH,), f"{stem}.ls2.{scale}": (WIDTH,)}
    return shapes


def test_keep(tmp_path):
    tensors = drawn(
        {
            **vit_shapes("visual.", "weight"),
            **layer("visual_head.0", 10, WIDTH),
            **layer("visual_head.2", 10, 10),
            "text.embeddings.word_embeddings.weight": (5, 4),
        }
    )
    trunk = {name: t for name, t in tensors.items() if name.startswith("visual.")}
    trunk = {
        name.removeprefix("visual.")
        .replace("ls1.weight", "ls1.gamma")
        .replace("ls2.weight", "ls2.gamma"): tensor
        for name, tensor in trunk.items()
    }
    vit = {"timm": "vit_large_patch16_224", "args": {**VIT, "init_values": 1.0}}
    pooled = features(tmp_path, trunk, **vit, pooling="cls", dim=WIDTH)
    reference = Reference(tensors, eps=1e-5)
    hidden = functional.gelu(reference.linear(pooled, "visual_head.0"))
    expected = functional.normalize(reference.linear(hidden, "visual_head.2"), dim=1)
    found = features(tmp_path, tensors, **vit, keys="keep", pooling="cls", projection="mlp", dim=10)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def to_published_name(name: str) -> str:
    """CTransPath's name of a tensor of torchvision's Swin."""
    part, index, *rest = name.removeprefix("features.").split(".")
    if name.startswith("norm."):
        return name
    if part == "0":
        return ".".join(["patch_embed", "norm" if index == "1" else "proj", *rest])
    stage = (int(part) - 1) // 2
    if int(part) % 2 == 0:
        return ".".join([f"layers.{stage}.downsample", index, *rest])
    inside = ".".join(rest).replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
    return f"layers.{stage}.blocks.{index}.{inside}"


class Permuted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def swin(side: int) -> tuple[Tensors, Callable[[Tensor], Tensor]]:
    """A small CTransPath of torchvision's Swin: its tensors and its features."""
    model = SwinTransformer([4, 4], 24, [2, 2], [3, 6], [7, 7], num_classes=1)
    convolutions: list[nn.Module] = []
    for inside, out in ((3, 3), (3, 6)):
        convolutions += [nn.Conv2d(inside, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out)]
        convolutions += [nn.ReLU()]
    stem = nn.Sequential(*convolutions, nn.Conv2d(6, 24, 1), Permuted())
    model.features[0] = nn.Sequential(stem, nn.LayerNorm(24))
    model.head = nn.Identity()
    model.eval()
    generator = torch.Generator().manual_seed(2)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator) * 0.3
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise)
    tensors = {
        to_published_name(name): tensor
        for name, tensor in model.state_dict().items()
        if "relative_position_index" not in name
    }
    return tensors, model


def test_ctranspath(tmp_path):
    tensors, model = swin(56)
    with torch.inference_mode():
        expected = model(normalised(56))
    entry = {
        "timm": "swin_tiny_patch4_window7_224",
        "args": {
            "embed_layer": "ConvStem",
            "img_size": 56,
            "embed_dim": 24,
            "depths": [2, 2],
            "num_heads": [3, 6],
        },
        "keys": "swin",
        "dim": 48,
    }
    found = features(tmp_path, {"model": tensors}, 56, **entry)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_swin_under_timms_names_stays_as_it_is():
    names = ["layers.0.downsample.reduction.weight", "layers.1.downsample.norm.bias", "norm.bias"]
    published = dict.fromkeys(names, torch.zeros(1))
    moved = from_swin(published)
    assert list(moved) == [
        "layers.1.downsample.reduction.weight",
        "layers.2.downsample.norm.bias",
        "norm.bias",
    ]
    assert from_swin(moved) == moved


def test_a_stem_that_there_is_not(tmp_path):
    with one_line(ConfigError, match="no stem 'Nothing' for embed_layer; there are: ConvStem"):
        features(
            tmp_path, {}, timm="swin_tiny_patch4_window7_224", dim=1,
            args={"embed_layer": "Nothing"},
        )  # fmt: skip


@pytest.mark.parametrize("keys", ["clip", "beit3", "keep", "conch", "swin"])
def test_a_file_of_another_model_is_one_line(keys, tmp_path):
    model = nn.Linear(2, 2)
    for tensors in ({}, {"projection.to_query.weight": torch.zeros(2, 2)}, drawn(clip_shapes())):
        torch.save(tensors, tmp_path / "w.pth")
        with one_line(ConfigError, match="does not fit the model: 2 of 2 tensors"):
            read_weights(tmp_path / "w.pth", model, keys)
