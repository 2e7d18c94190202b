"""The device to compute on, and its precisions."""

import os

import torch

from mil.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Device by its name.

    Args:
        name: `cpu`, `cuda`, or `auto`: the GPU if there is one.

    Raises:
        ConfigError: `cuda` on a machine without a CUDA device.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError(
            "no CUDA device here; compute on the CPU with --device cpu, or in a run with device=cpu"
        )
    return torch.device("cuda" if name != "cpu" and has_gpu else "cpu")


def visible_gpus(most: int | None = None) -> list[str]:
    """Ids of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them.

    Args:
        most: Number of GPUs to take; None: all.

    Raises:
        ConfigError: Fewer GPUs are visible than that.
    """
    count = torch.cuda.device_count()
    if most is not None and most > count:
        raise ConfigError(
            f"--devices {most}: {count} GPUs are visible here; give at most as many, or leave "
            "out --devices"
        )
    # Ids may be numbers or names. CUDA ignores them from the first that it does not know.
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = listed.split(",") if listed else [str(number) for number in range(count)]
    return [name.strip() for name in ids][:count][:most]


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16.

    Where bfloat16 is emulated, float32 is faster.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older torch cannot tell what a processor has: then it counts as without.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    has_instructions = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return device.type == "cpu" and bool(has_instructions)
