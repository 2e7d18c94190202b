"""In which precision an encoder computes."""

import torch

from mil.device import has_fast_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str, published: str | None, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`.

    Args:
        wanted: by the user; `auto` is the fastest that the device and the encoder's
            authors allow.
        published: what the authors compute in, if the encoder's entry says so; `fp32`
            is then kept everywhere, the others only on a GPU.
        device: where it computes.
    """
    if wanted != "auto":
        return wanted
    if published == "fp32":
        return "fp32"
    if device.type == "cuda":
        bf16 = has_fast_bf16(device)
        return (
            published if published and (bf16 or published != "bf16") else "bf16" if bf16 else "fp16"
        )
    return "bf16" if has_fast_bf16(device) else "fp32"
