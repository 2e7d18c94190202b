"""The device to compute on, its precisions, and memory that is kept for reuse."""

import ctypes
import os
import sys

import torch

from mil.errors import ConfigError

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8


def choose_device(name: str) -> torch.device:
    """Device by its name.

    Args:
        name: `cpu`, `cuda`, or `auto`: the GPU if there is one.

    Raises:
        ConfigError: `cuda` on a machine without a CUDA device.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError("no CUDA device here; leave out --device, or use --device cpu")
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


def keep_freed_memory(largest: int = 1 << 30) -> None:
    """Let glibc keep freed memory for the next batch instead of returning it.

    Each batch frees and requests the same hundreds of megabytes. By default they are
    fresh pages each time, which the kernel has to find and to fill with zeros: a third
    of the time of a small encoder on a CPU. Other systems than Linux with glibc are
    left as they are.

    Args:
        largest: Largest block that is kept, bytes. Where blocks of many sizes come and
            go, a large one may find its old place fragmented and take a second one.
    """
    if not sys.platform.startswith("linux"):
        return
    # Another libc than glibc, such as musl, has no mallopt.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, largest)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        # The arenas of further threads are too small for such blocks.
        mallopt(M_ARENA_MAX, 1)
