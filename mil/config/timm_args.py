"""Arguments of `timm.create_model` that an entry may set: those of a model's shape.

Others reach files, hosts and pickles: `checkpoint_path`, `pretrained_cfg`,
`pretrained_cfg_overlay`, `cache_dir`.
"""

from typing import Any

# Vision transformers, DINOv2, EVA and BEiT.
TRANSFORMERS = """
    img_size patch_size global_pool embed_dim depth num_heads num_kv_heads mlp_ratio
    qkv_bias qkv_fused qk_norm scale_attn_norm scale_mlp_norm proj_bias init_values
    class_token pos_embed no_embed_class reg_tokens num_reg_tokens pre_norm final_norm
    fc_norm use_fc_norm pool_include_prefix dynamic_img_size dynamic_img_pad norm_layer
    embed_norm_layer act_layer mlp_layer attn_layer swiglu_mlp swiglu_align_to scale_mlp
    scale_attn_inner attn_type use_abs_pos_emb use_rot_pos_emb use_rel_pos_bias
    use_shared_rel_pos_bias use_post_norm use_pre_transformer_norm use_post_transformer_norm
    ref_feat_shape rope_type rope_temperature rope_rotate_half rope_grid_offset
    rope_grid_indexing rope_shift_coords rope_jitter_coords rope_rescale_coords
"""
# Swin and other hierarchical transformers; `embed_layer` names a module of mil.encoders.stem.
HIERARCHICAL = """
    depths dims window_size head_dim always_partition strict_img_size
    pretrained_window_sizes embed_layer
"""
# Convolutions.
CONVOLUTIONS = """
    layers cardinality base_width stem_width stem_type stem_size stem_kernel_size fix_stem
    replace_stem_pool block_reduce_first down_kernel_size avg_down channels aa_layer
    se_layer output_stride num_features pad_type bn_eps bn_momentum channel_multiplier
    depth_multiplier kernel_sizes ls_init_value conv_mlp conv_bias use_grn norm_eps
    head_norm_first head_hidden_size
"""
# Of no effect on a model that is not trained.
TRAINING = """
    drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate
    drop_block_rate weight_init fix_init zero_init_last head_init_scale
"""
ALLOWED = frozenset((TRANSFORMERS + HIERARCHICAL + CONVOLUTIONS + TRAINING).split())
# Those that most entries need, for the message.
USUAL = "img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio, init_values, reg_tokens"
LARGEST = 100_000


def check_args(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments, if each is one of a model's shape and plain.

    Raises:
        ValueError: An argument is not in the list, or its value is not a number, a word,
            or a list of them.
    """
    for name, value in args.items():
        if name not in ALLOWED:
            raise ValueError(
                f"{name!r} is not an argument of a model's shape, the only ones that an entry may "
                f"set ({USUAL} and others, listed in mil/config/timm_args.py)"
            )
        values = value if isinstance(value, list) else [value]
        if not all(_is_plain(one) for one in values):
            raise ValueError(f"{name} must be a number, a word, or a list of them")
    return args


def _is_plain(value: Any) -> bool:
    if isinstance(value, int | float):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str)
