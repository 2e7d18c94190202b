"""Bank of tiles for `mil bench learn`: each labelled tile encoded once under many stains.

A cohort of composite slides is then drawn from the bank, and costs no encoding.
"""

import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float16, Int, UInt8
from PIL import Image

from mil.config import FeaturesConfig, load_encoder
from mil.demo.composite import JPEG_QUALITY, oriented, stained
from mil.demo.composite_plan import (
    BIAS_DEVIATION,
    CELL_PX,
    GAIN_DEVIATION,
    CompositeSlide,
    Stain,
    plan_composites,
)
from mil.demo.labelled_tiles import (
    LabelledTiles,
    read_labelled_tiles,
    read_tile,
    tiles_with_tissue,
)
from mil.encoders.build import build_batched_encoder
from mil.encoders.runner import BatchedEncoder
from mil.io import h5
from mil.progress import progress

FORMAT = "mil.bench.learn.features"
VERSION = 1
# All stains and orientations of a bank are drawn at once, so that a bank of fewer
# stains is the beginning of the full one.
MAX_STAINS = 64
BANK_SEED = 12345

TileImage = UInt8[np.ndarray, "side side 3"]


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """Features of all tiles under several stains, on disk.

    Attributes:
        folder: folder of the files, one for each stain.
        digest: digest of tiles, encoder and settings, which names the folder.
        labels: 1 for tumour, 0 for normal.
        usable: tiles that are not blank.
        stains: number of stains.
    """

    folder: Path
    digest: str
    labels: Int[np.ndarray, " tiles"]
    usable: Bool[np.ndarray, " tiles"]
    stains: int

    def features(self) -> Float16[np.ndarray, "stains tiles dim"]:
        """Features of all tiles under all stains, read once in a process."""
        return _read_stains(self.folder, self.stains)

    def tool_features(self, cohort: "ToolCohort") -> Float16[np.ndarray, "tiles dim"]:
        """Features of the tiles of `tool_slides`, slide after slide."""
        return _read_features(self.folder / cohort.file)


class ToolCohort(NamedTuple):
    """Slides that `mil demo composites` writes: its `--seed`, `--slides` and `--witness`."""

    seed: int
    slides: int
    witness: float

    @property
    def file(self) -> str:
        """Name of the file of their features."""
        return f"tool_seed{self.seed}_slides{self.slides}_witness{self.witness:g}.h5"


class _Encoding(NamedTuple):
    """An encoder, and the number of threads that prepare and encode tiles."""

    encoder: BatchedEncoder
    threads: int


def open_bank(
    tiles_folder: Path,
    cache: Path,
    *,
    encoder: str,
    stains: int,
    max_tiles: int,
    tool_cohorts: Sequence[ToolCohort],
    threads: int,
    device: str,
) -> FeatureBank:
    """Open a bank, and encode what is not in it yet; an interrupted one is continued.

    Args:
        tiles_folder: folder of labelled tiles; see `read_labelled_tiles`.
        cache: folder for banks, each in a subfolder named by its digest.
        encoder: name of the encoder.
        stains: number of stains, at most `MAX_STAINS`.
        max_tiles: largest number of tiles; of more, half of it is drawn of each class.
        tool_cohorts: slides of `mil demo composites` to encode too, without its tests.
        threads: number of threads that prepare and encode tiles.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.

    Raises:
        DatasetError: the tiles cannot be used, or are too few.
        ConfigError: the encoder cannot be built.
    """
    tiles = at_most(read_labelled_tiles(tiles_folder), max_tiles)
    built = build_batched_encoder(encoder, load_encoder(encoder), CELL_PX, FeaturesConfig(), device)
    digest = _digest(tiles, built.encoder.identity)
    usable = tiles_with_tissue(tiles)
    bank = FeatureBank(cache / f"bank-{digest}", digest, tiles.labels, usable, stains)
    missing = [stain for stain in range(stains) if not (bank.folder / stain_file(stain)).exists()]
    missing_cohorts = [
        cohort for cohort in tool_cohorts if not (bank.folder / cohort.file).exists()
    ]
    if missing or missing_cohorts:
        images = [read_tile(path, CELL_PX) for path in tiles.paths]
        encoding = _Encoding(built, threads)
        _add_stains(bank, missing, images, encoding)
        for cohort in missing_cohorts:
            _add_tool_cohort(bank, cohort, images, encoding)
    return bank


def at_most(tiles: LabelledTiles, count: int) -> LabelledTiles:
    """All tiles, or half of a number of each class, drawn at random, in their order."""
    if len(tiles.paths) <= count:
        return tiles
    rng = np.random.default_rng(BANK_SEED)
    drawn: list[int] = []
    for label in (0, 1):
        of_class = rng.permutation(np.flatnonzero(tiles.labels == label))
        drawn += of_class[: count // 2].tolist()
    drawn.sort()
    return LabelledTiles(tiles.folder, [tiles.paths[i] for i in drawn], tiles.labels[drawn])


def tool_slides(bank: FeatureBank, cohort: ToolCohort) -> list[CompositeSlide]:
    """Training and validation slides of `mil demo composites`, in its order."""
    plan = plan_composites(
        bank.labels, bank.usable, slides=cohort.slides, witness=cohort.witness, seed=cohort.seed
    )
    return [slide for slide in plan if slide.split in ("train", "val")]


def stain_file(stain: int) -> str:
    """Name of the file of one stain's features."""
    return f"stain_{stain:02d}.h5"


def _digest(tiles: LabelledTiles, encoder: dict[str, str]) -> str:
    """Digest of all that features depend on: 16 hexadecimal digits."""
    digest = sha256()
    settings = [VERSION, BANK_SEED, MAX_STAINS, CELL_PX, JPEG_QUALITY, encoder]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for path, label in zip(tiles.paths, tiles.labels, strict=True):
        digest.update(bytes([label]))
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _add_stains(
    bank: FeatureBank, missing: Sequence[int], images: Sequence[TileImage], encoding: _Encoding
) -> None:
    rng = np.random.default_rng(BANK_SEED)
    gain = rng.normal(1, GAIN_DEVIATION, (MAX_STAINS, 3))
    bias = rng.normal(0, BIAS_DEVIATION, (MAX_STAINS, 3))
    turns = rng.integers(4, size=(MAX_STAINS, len(images)))
    flips = rng.random((MAX_STAINS, len(images))) < 0.5
    with progress("encode stains", len(missing) * len(images), "tiles") as advance:
        for number in missing:
            stain = Stain(gain[number], bias[number])

            def tile(index: int, number: int = number, stain: Stain = stain) -> TileImage:
                flip = bool(flips[number, index])
                image = oriented(stained(images[index], stain), turns[number, index], flip=flip)
                return _compressed(image)

            features = _encode(encoding, tile, len(images), advance)
            write_features(bank.folder / stain_file(number), features)


def _add_tool_cohort(
    bank: FeatureBank, cohort: ToolCohort, images: Sequence[TileImage], encoding: _Encoding
) -> None:
    slides = tool_slides(bank, cohort)
    cells = [(slide, place) for slide in slides for place in range(len(slide.tiles))]

    def tile(index: int) -> TileImage:
        slide, place = cells[index]
        image = stained(images[slide.tiles[place]], slide.stain)
        return _compressed(oriented(image, slide.turns[place], flip=bool(slide.flips[place])))

    with progress(f"encode slides of seed {cohort.seed}", len(cells), "tiles") as advance:
        features = _encode(encoding, tile, len(cells), advance)
    write_features(bank.folder / cohort.file, features)


def _compressed(image: TileImage) -> TileImage:
    """A tile after JPEG, as a slide would store it."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer))


def _encode(
    encoding: _Encoding,
    tile: Callable[[int], TileImage],
    count: int,
    advance: Callable[[int], None],
) -> Float16[np.ndarray, "tiles dim"]:
    encoder, threads = encoding
    features = np.zeros((count, encoder.dim), np.float16)
    size = encoder.batch_size

    def encode_batch(start: int) -> int:
        end = min(count, start + size)
        pixels = np.stack([tile(index) for index in range(start, end)])
        features[start:end] = encoder(torch.from_numpy(pixels)).numpy()
        return end - start

    # Batches are the same for any number of threads, and so are the features.
    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(encode_batch, range(0, count, size)):
            advance(done)
    return features


def write_features(path: Path, features: Float16[np.ndarray, "tiles dim"]) -> None:
    """Write one file of a bank: features of all tiles, or of the slides of a cohort."""
    with h5.writing(path, FORMAT, VERSION) as file:
        file["features"] = features


def _read_features(path: Path) -> Float16[np.ndarray, "tiles dim"]:
    with h5.reading(path, FORMAT, VERSION) as file:
        features: Float16[np.ndarray, "tiles dim"] = file["features"][:]
        return features


@lru_cache(maxsize=1)
def _read_stains(folder: Path, stains: int) -> Float16[np.ndarray, "stains tiles dim"]:
    return np.stack([_read_features(folder / stain_file(stain)) for stain in range(stains)])
