"""Everything that decides the last bit of a head's weights: a head of other inputs is stale."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mil.config import Recipe, check_head
from mil.io.bags.patients import FoldBag
from mil.tasks import AnyTask
from mil.train.fold import FoldData
from mil.versions import STAGE_VERSION, TOOL_VERSION


def inputs_of_head(
    data: FoldData, bags_dir: Path, identity: Mapping[str, str], *, seed: int, fold: int
) -> dict[str, object]:
    """Inputs of one head, as JSON values.

    Args:
        data: Training and validation bags of the fold.
        bags_dir: Folder of the bag files.
        identity: Encoder, its weights, tiling and stain normalisation of the bags.
        seed: Random seed of the head.
        fold: Number of the fold.
    """
    inputs: dict[str, object] = {
        **_settings(data.recipe, data.task, data.device),
        "bags": [_bags_on_disk(bags_dir, data.bags_of(split)) for split in ("train", "val")],
        # Without what is off, so that finished heads of earlier runs are not trained again.
        **{name: value for name, value in identity.items() if value or name != "stain_norm"},
        "seed": seed,
        "fold": fold,
    }
    if data.initial is not None:
        inputs["init"] = data.initial.sha256
    return inputs


def _settings(recipe: Recipe, task: AnyTask, device: torch.device) -> dict[str, object]:
    """Recipe, task, versions and machine."""
    entry = check_head(recipe.name)
    plugin_version = entry.dist.version if entry is not None and entry.dist is not None else ""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "task": task.model_dump(mode="json"),
        "versions": [TOOL_VERSION, STAGE_VERSION["train"], torch.__version__, plugin_version],
        # Sums are split among threads, and kernels chosen by the CPU's instructions.
        "machine": [device.type, torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()],
    }


def _bags_on_disk(bags_dir: Path, bags: Sequence[FoldBag]) -> list[list[object]]:
    """Name, slides and label of each bag, with size and time of change of its files.

    A digest of their content would take as long as an epoch.
    """
    rows: list[list[object]] = []
    for bag in bags:
        stats = [path.stat() for path in bag.paths(bags_dir)]
        files = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
        rows.append([bag.name, bag.slides, bag.label, *files])
    return rows
