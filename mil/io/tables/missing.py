"""Messages about slides of a dataset, or their bags, that are missing.

The dry run uses them, so this module imports next to nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from mil.config import DatasetConfig
from mil.errors import SHOWN
from mil.text import clean, escaped


def missing_message(
    dataset_name: str,
    dataset: DatasetConfig,
    missing: Sequence[tuple[str, Path]],
    total: int,
    slides_dir: Path,
) -> str:
    """Message on missing slides: which, size of the set, how to get it, and what to type.

    Args:
        dataset_name: name of the dataset, as in `dataset=NAME`.
        dataset: the dataset's yaml.
        missing: id, and the path looked for, of each missing slide.
        total: number of slides in the table.
        slides_dir: the folder that was searched.
    """
    lines = [
        f"dataset {dataset_name}: {len(missing)} of {total} slides are not in {slides_dir}",
        *_examples(missing),
    ]
    if dataset.size:
        lines.append(f"The whole set is {dataset.size}.")
    if dataset.get:
        lines.append(dataset.get.strip())
    advice = f"If they are elsewhere: `--config dataset={dataset_name} slides_dir=DIR`."
    return "\n".join([*lines, advice + _without_them(missing, total)])


def missing_bags_message(
    dataset_name: str, missing: Sequence[tuple[str, Path]], total: int, others: list[str]
) -> str:
    """Message on slides without a precomputed bag, and what to do.

    Args:
        dataset_name: name of the dataset, as in `dataset=NAME`.
        missing: id, and the bag looked for, of each slide without one.
        total: number of slides in the table.
        others: bags in the folder that are of no slide in the table.
    """
    folder = missing[0][1].parent
    lines = [
        f"dataset {dataset_name}: {len(missing)} of {total} slides have no bag in {folder}",
        *_examples(missing),
    ]
    if others:
        lines.append(
            f"{len(others)} bags there are of no slide in the table, such as {others[0]}.h5."
        )
    ids = {slide for slide, _ in missing}
    alike = [name for name in others if clean(name) in ids]
    if alike:
        lines.append(
            f"{len(alike)} of these have the name of a slide in other letters that look the same, "
            f"such as {escaped(alike[0])}: rename them in composed letters (NFC)."
        )
    advice = (
        "Bring them in by `mil bags import`; a bag is called SLIDE.h5, after the csv's column of "
        "slides."
    )
    return "\n".join([*lines, advice + _without_them(missing, total)])


def _examples(missing: Sequence[tuple[str, Path]]) -> list[str]:
    lines = [f"  {slide}: no {path}" for slide, path in missing[:SHOWN]]
    if len(missing) > SHOWN:
        lines[-1] += f", and {len(missing) - SHOWN} more"
    return lines


def _without_them(missing: Sequence[tuple[str, Path]], total: int) -> str:
    # Nothing to go on with if all are missing.
    left = total - len(missing)
    return f" To go on with the other {left}: `--config allow_missing=true`." if left else ""
