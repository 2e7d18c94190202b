"""Peak memory of a training step by the length of a bag."""

from collections.abc import Iterator

import torch

from mil.bench.gpu.rows import Bench, GpuRow
from mil.bench.gpu.steps import training_step
from mil.bench.kernels_step import with_memory

RECIPES = ("abmil", "acmil", "clam_sb", "dsmil", "transmil", "graph_select")


def memory(bench: Bench) -> Iterator[GpuRow]:
    """Peak beyond the bag, MB, and bytes a tile."""
    sizes = (16, 32) if bench.dry else (10_000, 100_000, 1_000_000)
    for name in RECIPES[: bench.size(len(RECIPES), 1)]:
        for tiles in sizes:
            if bench.is_late:
                return
            try:
                step = training_step(bench, name, tiles)
                peak, _ = with_memory(step, bench.device)
            except torch.cuda.OutOfMemoryError:
                yield GpuRow("memory", f"{name}, {tiles} tiles", note="does not fit into memory")
                break
            note = f"{peak * 2**20 / tiles:.0f} bytes a tile"
            yield GpuRow("memory", f"{name}, {tiles} tiles", peak, "MB", note=note)
