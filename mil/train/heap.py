"""Memory that small steps free and take again stays with the process."""

from functools import cache

import torch

# Below the 32 MB up to which the C library adapts to what is freed.
ADAPTED_BYTES = 31 << 20


@cache
def keep_freed_memory() -> None:
    """Let the C library keep some 60 MB of freed memory, once a process.

    glibc returns memory above twice the largest block that it has seen freed. The tensors of
    a small step, of some MB, go back at each step and come again as pages to be cleared: up
    to a tenth of the processor time of a step of five heads.
    """
    torch.empty(ADAPTED_BYTES, dtype=torch.uint8)
