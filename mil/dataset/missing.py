"""What to say when slides of a dataset are not there. For the dry run, so it imports next to nothing."""

from collections.abc import Sequence
from pathlib import Path

from mil.config import DatasetConfig

NUM_SHOWN = 3


def missing_message(
    dataset_name: str,
    dataset: DatasetConfig,
    missing: Sequence[tuple[str, Path]],
    total: int,
    slides_dir: Path,
) -> str:
    """Which slides are missing, how big the set is, how to get it, and what to type.

    Args:
        dataset_name: as in `dataset=NAME`.
        dataset: its yaml.
        missing: id, and the path looked for, of each missing slide.
        total: how many slides the table has.
        slides_dir: the folder that was looked in.
    """
    lines = [f"dataset {dataset_name}: {len(missing)} of {total} slides are not in {slides_dir}"]
    lines += [f"  {slide}: no {path}" for slide, path in missing[:NUM_SHOWN]]
    if len(missing) > NUM_SHOWN:
        lines[-1] += f", and {len(missing) - NUM_SHOWN} more"
    if dataset.size:
        lines.append(f"The whole set is {dataset.size}.")
    if dataset.get:
        lines.append(dataset.get.strip())
    advice = f"If they are elsewhere: `--config dataset={dataset_name} slides_dir=DIR`."
    if len(missing) < total:
        advice += f" To go on with the other {total - len(missing)}: `--config allow_missing=true`."
    return "\n".join([*lines, advice])
