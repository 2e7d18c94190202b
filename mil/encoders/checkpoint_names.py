"""Published checkpoints under timm's names: patterns and replacements, a table a project.

Tensors of other parts, such as a text tower, keep names that no model here has and are
dropped with them.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

# Patterns of names and their replacements in timm, applied in order.
_TRANSFORMERS = [
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
# Image tower of a `CLIPModel` of transformers.
_CLIP = [
    (r"^vision_model\.", ""),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn\.q_proj\.", ".attn.query."),
    (r"\.self_attn\.k_proj\.", ".attn.key."),
    (r"\.self_attn\.v_proj\.", ".attn.value."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"^post_layernorm\.", "norm."),
    (r"^visual_projection\.", "projection."),
]
# Vision branch, A, of a BEiT-3, such as MUSK.
_BEIT3 = [
    (r"^beit3\.(vision_embed|encoder)\.", ""),
    (r"^proj\.", "patch_embed.proj."),
    (r"^embed_positions\.A\.weight$", "pos_embed"),
    (r"^layers\.", "blocks."),
    (r"\.A\.", "."),
    (r"\.self_attn\.q_proj\.", ".attn.query."),
    (r"\.self_attn\.k_proj\.", ".attn.key."),
    (r"\.self_attn\.v_proj\.", ".attn.value."),
    (r"\.self_attn\.inner_attn_ln\.", ".attn.norm."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.ffn\.ffn_layernorm\.", ".mlp.norm."),
    (r"\.ffn\.", ".mlp."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"^layer_norm\.", "norm."),
]
_KEEP = [
    (r"^visual\.", ""),
    (r"\.ls([12])\.weight$", r".ls\1.gamma"),
    (r"^visual_head\.0\.", "projection.fc1."),
    (r"^visual_head\.2\.", "projection.fc2."),
]
# CONCH, whose pooling is torch's MultiheadAttention, and CONCH v1.5, with its own.
_CONCH = [
    (r"^visual\.", ""),
    (r"^trunk\.", ""),
    (r"^attn_pool_contrast\.query$", "projection.query"),
    (r"^attn_pool_contrast\.ln_q\.", "projection.norm_query."),
    (r"^attn_pool_contrast\.ln_k\.", "projection.norm_tokens."),
    (r"^attn_pool_contrast\.(attn\.q_proj_|to_q\.)weight$", "projection.to_query.weight"),
    (r"^attn_pool_contrast\.attn\.(k|v)_proj_weight$", r"projection.\1"),
    (r"^attn_pool_contrast\.to_kv\.weight$", "projection.to_key_value.weight"),
    (r"^attn_pool_contrast\.attn\.in_proj_bias$", "projection.biases"),
    (r"^attn_pool_contrast\.(attn\.out_proj|to_out)\.", "projection.to_out."),
    (r"^ln_contrast\.", "projection.norm."),
]
# Rows of positions before the first token's: fairseq counts from 2.
_BEIT3_OFFSET = 2


def from_transformers(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors of a `ViTModel`, `Dinov2Model` or `Dinov2WithRegistersModel`.

    With register tokens, timm adds no position to the class token when it computes: the
    position is added to the token here.

    Args:
        tensors: Tensors of the checkpoint.

    Returns:
        New tensors under timm's names; unknown names stay as they are.

    Raises:
        RuntimeError: Queries, keys and values do not have shapes that can be joined.
        IndexError: Tokens or positions do not have three dimensions.
    """
    renamed = _joined(_renamed(tensors, _TRANSFORMERS))
    if {"reg_token", "cls_token", "pos_embed"} <= renamed.keys():
        position = renamed["pos_embed"]
        renamed["cls_token"] = renamed["cls_token"] + position[:, :1]
        renamed["pos_embed"] = position[:, 1:]
    return renamed


def from_clip(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors of the image tower of a `CLIPModel`; see `from_transformers`."""
    # A text tower of the same layers lies beside it.
    tower = _chosen(tensors, r"^(vision_model|visual_projection)\.")
    renamed = _joined(_renamed(tower, _CLIP))
    for name in ("cls_token", "pos_embed"):
        if name in renamed:
            renamed[name] = renamed[name].reshape(1, -1, renamed[name].shape[-1])
    return renamed


def from_beit3(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors of the vision branch of a BEiT-3; see `from_transformers`."""
    # Each layer has its branch for text, B, beside it.
    branch = _chosen(tensors, r"^beit3\.(vision_embed\.|encoder\.(?!.*\.B\.))")
    renamed = _joined(_renamed(branch, _BEIT3))
    if "pos_embed" in renamed:
        renamed["pos_embed"] = renamed["pos_embed"][None, _BEIT3_OFFSET:]
    return renamed


def from_keep(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors of KEEP's image tower; see `from_transformers`."""
    return _renamed(tensors, _KEEP)


def from_conch(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors of the image tower of CONCH or CONCH v1.5; see `from_transformers`.

    The pooling of CONCH v1.5 has no biases: they are zeros here.
    """
    renamed = _renamed(tensors, _CONCH)
    halves = [renamed.pop(f"projection.{half}", None) for half in ("k", "v")]
    if halves[0] is not None and halves[1] is not None:
        renamed["projection.to_key_value.weight"] = torch.cat([halves[0], halves[1]])
    query = renamed.get("projection.to_query.weight")
    if query is not None:
        dim = len(query)
        biases = renamed.pop("projection.biases", query.new_zeros(3 * dim))
        renamed["projection.to_query.bias"] = biases[:dim]
        renamed["projection.to_key_value.bias"] = biases[dim:]
        renamed.setdefault("projection.to_out.bias", query.new_zeros(dim))
    return renamed


def from_swin(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors of a Swin of its authors or of an older timm; see `from_transformers`.

    There, a stage ends with the merging of its patches; in timm the next begins with it.
    """
    if "layers.0.downsample.reduction.weight" not in tensors:
        return dict(tensors)

    def next_stage(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) + 1}.downsample."

    return {
        re.sub(r"^layers\.(\d+)\.downsample\.", next_stage, name): tensor
        for name, tensor in tensors.items()
    }


# By the value of `keys` in an entry; of `name` and `order` nothing is renamed.
NAMINGS: dict[str, Callable[[Mapping[str, Tensor]], Tensors]] = {
    "transformers": from_transformers,
    "clip": from_clip,
    "beit3": from_beit3,
    "keep": from_keep,
    "conch": from_conch,
    "swin": from_swin,
}


def _chosen(tensors: Mapping[str, Tensor], pattern: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if re.search(pattern, name)}


def _renamed(tensors: Mapping[str, Tensor], renames: list[tuple[str, str]]) -> Tensors:
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _joined(renamed: Tensors) -> Tensors:
    """Queries, keys and values of each block as one tensor, as in timm; changed in place."""
    for name in [name for name in renamed if ".attn.query." in name]:
        # A missing part is empty: the joined tensor then does not fit, and is reported.
        parts = [
            renamed.pop(name.replace("query", part), torch.empty(0))
            for part in ("query", "key", "value")
        ]
        renamed[name.replace("query", "qkv")] = torch.cat(parts)
    return renamed
