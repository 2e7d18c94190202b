"""Names that the library `transformers` gives to the tensors of a ViT or DINOv2, in timm's words."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_WORDS = [
    (r"^(vit|dinov2|dinov2_with_registers)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"\.(output\.dense|mlp\.weights_out)\.", ".mlp.fc2."),
    (r"\.(layernorm_before|norm1)\.", ".norm1."),
    (r"\.(layernorm_after|norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
]


def in_timms_words(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors; queries, keys and values become one tensor, as in timm.

    With register tokens, timm adds no position to the class token when it computes: the
    position is put into the token.

    Args:
        given: tensors of a `ViTModel`, `Dinov2Model` or `Dinov2WithRegistersModel`.

    Returns:
        New tensors under timm's names; names that are not known stay as they are.
    """
    renamed = {_renamed(name): tensor for name, tensor in given.items()}
    for name in [name for name in renamed if ".attn.query." in name]:
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


def _renamed(name: str) -> str:
    for pattern, word in _WORDS:
        name = re.sub(pattern, word, name)
    return name
