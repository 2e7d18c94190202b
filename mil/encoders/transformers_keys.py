"""Checkpoints of a ViT or DINOv2 of the library `transformers`, under timm's names."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Patterns of names in `transformers` and their replacements in timm, applied in order.
_RENAMES = [
    (r"^(vit|dinov2|dinov2_with_registers)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    # Before the plain `output.dense`, which is that of the MLP.
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"\.(output\.dense|mlp\.weights_out)\.", ".mlp.fc2."),
    (r"\.(layernorm_before|norm1)\.", ".norm1."),
    (r"\.(layernorm_after|norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
]


def to_timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a checkpoint; queries, keys and values are joined, as in timm.

    With register tokens, timm adds no position to the class token when it computes: the
    position is added to the token here.

    Args:
        tensors: Tensors of a `ViTModel`, `Dinov2Model` or `Dinov2WithRegistersModel`.

    Returns:
        New tensors under timm's names; unknown names stay as they are.

    Raises:
        RuntimeError: Queries, keys and values do not have shapes that can be joined.
        IndexError: Tokens or positions do not have three dimensions.
    """
    renamed = {_timm_name(name): tensor for name, tensor in tensors.items()}
    for name in [name for name in renamed if ".attn.query." in name]:
        # A missing part is empty: the joined tensor then does not fit, and is reported.
        parts = [
            renamed.pop(name.replace("query", part), torch.empty(0))
            for part in ("query", "key", "value")
        ]
        renamed[name.replace("query", "qkv")] = torch.cat(parts)
    if {"reg_token", "cls_token", "pos_embed"} <= renamed.keys():
        position = renamed["pos_embed"]
        renamed["cls_token"] = renamed["cls_token"] + position[:, :1]
        renamed["pos_embed"] = position[:, 1:]
    return renamed


def _timm_name(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
