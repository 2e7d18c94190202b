"""Folders of small labelled tiles: pale ones are normal, dark ones are tumour."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SIDE_PX = 24
COLOURS = {0: (225, 150, 190), 1: (110, 60, 150)}


def labelled_tiles(folder: Path, of_each: int = 24, *, blank: int = 1) -> Path:
    """Write tiles of both classes in turn, then blank normal ones, and their labels.csv.

    Args:
        folder: folder to write.
        of_each: number of tiles of each class.
        blank: number of blank tiles, which are labelled normal.
    """
    rng = np.random.default_rng(7)
    rows = []
    for number in range(2 * of_each + blank):
        label = number % 2 if number < 2 * of_each else 0
        pixels = np.full((SIDE_PX, SIDE_PX, 3), 250, np.uint8)
        if number < 2 * of_each:
            noise = rng.integers(-30, 31, pixels.shape)
            pixels = (np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)
        name = f"{('normal', 'tumour')[label]}/{number:03d}.png"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        rows.append({"file": name, "label": label})
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return folder
