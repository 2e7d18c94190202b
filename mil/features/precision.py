"""In which precision an encoder computes."""

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str, published: str | None, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`.

    Args:
        wanted: by the user; `auto` is the fastest that the device and the encoder's authors allow.
        published: what the authors compute in, if the encoder's entry says so; `fp32` is then kept everywhere, the
            others only on a GPU.
        device: where it computes.
    """
    if wanted != "auto":
        return wanted
    if published == "fp32":
        return "fp32"
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return published if published and (bf16 or published != "bf16") else "bf16" if bf16 else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    # Processors without these instructions emulate bf16, slower than fp32. Older torch cannot tell: then fp32.
    can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
