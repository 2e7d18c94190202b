"""Whether the jobs of a run ask for a GPU."""

import os
import re
import subprocess
from pathlib import Path
from typing import Literal

# Device files of NVIDIA's driver, of AMD's, and of the Windows Subsystem for Linux.
DEVICE_FILES = ("nvidia[0-9]*", "kfd", "dxg")
# Generic resources of each partition, such as `gpu:a100:4`.
LIST_GENERIC_RESOURCES = ("sinfo", "--noheader", "--format=%G")
LONGEST_QUERY_SECONDS = 30


def asks_for_gpu(
    device: Literal["auto", "cpu", "gpu"], executor: str, devices: Path = Path("/dev")
) -> bool:
    """Whether jobs that can use a GPU ask for one.

    Args:
        device: Setting `device` of the run.
        executor: Name of Snakemake's executor. With `slurm`, the cluster's nodes decide
            about `auto`, for a login node has no GPU; else this machine decides.
        devices: Folder of the device files.
    """
    if device != "auto":
        return device == "gpu"
    return _slurm_has_gpus() if executor == "slurm" else _is_gpu_visible(devices)


def _is_gpu_visible(devices: Path) -> bool:
    """Whether this machine has a GPU that is not hidden from CUDA; torch is not imported."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    return any(any(devices.glob(pattern)) for pattern in DEVICE_FILES)


def _slurm_has_gpus() -> bool:
    """Whether any node of the Slurm cluster has a GPU; no, where Slurm does not answer."""
    try:
        done = subprocess.run(
            LIST_GENERIC_RESOURCES,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=LONGEST_QUERY_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.search(r"\bgpu\b", done.stdout) is not None
