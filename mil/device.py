"""Where to compute, in what precision, and who keeps the memory."""

import ctypes
import sys

import torch

from mil.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of a name: `auto` is the GPU if there is one.

    Raises:
        ConfigError: `cuda` is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device here; leave out --device, or say --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16: where they are emulated, float32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older torch cannot tell what a processor has: then no.
    can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def keep_freed_memory(largest: int = 1 << 30) -> None:
    """Let glibc hand freed memory to the next step instead of back to the system; elsewhere nothing is done.

    Each step frees and asks again for the same hundreds of megabytes. By default those
    come as fresh pages every time, which the kernel has to find and to fill with zeros:
    a third of the time of a small encoder on a CPU.

    Args:
        largest: block that is kept, bytes. Where blocks of many sizes come and go, a
            large one may find its old place cut up, and take a second one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # of malloc.h
        m_trim_threshold = -1
        m_mmap_threshold = -3
        m_arena_max = -8
        mallopt(m_mmap_threshold, largest)
        mallopt(m_trim_threshold, (1 << 31) - 1)
        mallopt(m_arena_max, 1)  # other arenas are too small for such blocks
