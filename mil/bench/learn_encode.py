"""Encoding of labelled tiles for `mil bench learn`, each once under every stain."""

import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from PIL import Image

from mil.bench.learn_bank import VERSION, FeatureBank, ToolCohort, stain_file, write_features
from mil.bench.learn_stains import stain_groups
from mil.config import FeaturesConfig, encoder_name, load_encoder
from mil.config.stages import StainNorm
from mil.config.stain import NO_STAIN_NORM
from mil.demo.composite import JPEG_QUALITY, oriented, stained
from mil.demo.composite_plan import (
    BIAS_DEVIATION,
    CELL_PX,
    GAIN_DEVIATION,
    CompositeSlide,
    Stain,
)
from mil.demo.labelled_tiles import (
    LabelledTiles,
    read_labelled_tiles,
    read_tile,
    tiles_with_tissue,
)
from mil.encoders.build import build_batched_encoder
from mil.encoders.runner import BatchedEncoder
from mil.features.stain import SAMPLE_TILES, check_stain_norm, fit_stain, normalise, sampled
from mil.progress import progress

# All stains and orientations of a bank are drawn at once, so that a bank of fewer
# stains is the beginning of the full one.
MAX_STAINS = 64
BANK_SEED = 12345

TileImage = UInt8[np.ndarray, "side side 3"]


class TileSource(NamedTuple):
    """Tiles, and the encoder that they go through.

    Attributes:
        tiles: labelled tiles.
        encoder: encoder on its device.
        digest: digest of all that features depend on, 16 hexadecimal digits.
        stain_norm: stain normalisation before the encoder, or `none`.
    """

    tiles: LabelledTiles
    encoder: BatchedEncoder
    digest: str
    stain_norm: str = NO_STAIN_NORM


def open_source(
    folder: Path,
    *,
    encoder: str,
    max_tiles: int,
    device: str,
    stain_norm: StainNorm = NO_STAIN_NORM,
) -> TileSource:
    """Find the tiles of a folder, and build an encoder for them.

    Args:
        folder: folder of labelled tiles; see `read_labelled_tiles`.
        encoder: name of the encoder.
        max_tiles: largest number of tiles; of more, half of it is drawn of each class.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        stain_norm: stain normalisation before the encoder, as in `FeaturesConfig`.

    Raises:
        DatasetError: the tiles cannot be used.
        ConfigError: the encoder cannot be built, or the package of `stain_norm` is not
            installed.
    """
    config = FeaturesConfig(stain_norm=stain_norm)
    check_stain_norm(config)
    tiles = at_most(read_labelled_tiles(folder), max_tiles)
    entry = load_encoder(encoder)
    encoder = encoder_name(encoder)
    built = build_batched_encoder(encoder, entry, CELL_PX, config, device)
    # Absent where it is off, so that earlier banks are used again.
    stains = {} if stain_norm == NO_STAIN_NORM else {"stain_norm": stain_norm}
    digest = source_digest(tiles, {**built.encoder.identity, **stains})
    return TileSource(tiles, built, digest, stain_norm)


def open_bank(
    source: TileSource,
    cache: Path,
    *,
    stains: int,
    tool_cohorts: Sequence[ToolCohort],
    threads: int,
    by_stain: bool = False,
) -> FeatureBank:
    """Open a bank, and encode what is not in it yet; an interrupted one is continued.

    Args:
        source: tiles and encoder.
        cache: folder for banks, each in a subfolder named by its digest.
        stains: number of stains, at most `MAX_STAINS`.
        tool_cohorts: slides of `mil demo composites` to encode too, without its tests.
        threads: number of threads that prepare and encode tiles.
        by_stain: whether tiles are divided into two groups by their own stain.

    Raises:
        DatasetError: a tile cannot be read, or there are too few.
    """
    tiles = source.tiles
    folder = cache / f"bank-{source.digest}"
    usable = tiles_with_tissue(tiles)
    groups = stain_groups(tiles, usable) if by_stain else None
    bank = FeatureBank(folder, source.digest, tiles.labels, usable, stains, groups)
    missing_stains = [stain for stain in range(stains) if not (folder / stain_file(stain)).exists()]
    missing_cohorts = [cohort for cohort in tool_cohorts if not (folder / cohort.file).exists()]
    if missing_stains or missing_cohorts:
        images = [read_tile(path, CELL_PX) for path in tiles.paths]
        encoding = _Encoding(source.encoder, images, threads, source.stain_norm)
        _add_stains(bank, missing_stains, encoding)
        for cohort in missing_cohorts:
            _add_tool_cohort(bank, cohort, encoding)
    return bank


def at_most(tiles: LabelledTiles, count: int) -> LabelledTiles:
    """All tiles, or half of a number of each class, drawn at random, in their order."""
    if len(tiles.paths) <= count:
        return tiles
    rng = np.random.default_rng(BANK_SEED)
    numbers: list[int] = []
    for label in (0, 1):
        of_class = rng.permutation(np.flatnonzero(tiles.labels == label))
        numbers += of_class[: count // 2].tolist()
    numbers.sort()
    return LabelledTiles(tiles.folder, [tiles.paths[i] for i in numbers], tiles.labels[numbers])


def source_digest(tiles: LabelledTiles, encoder: dict[str, str]) -> str:
    """Digest of all that features depend on: 16 hexadecimal digits.

    Args:
        tiles: labelled tiles, whose files are read.
        encoder: identity of the encoder, as bags state it.
    """
    digest = sha256()
    settings = [VERSION, BANK_SEED, MAX_STAINS, CELL_PX, JPEG_QUALITY, encoder]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for path, label in zip(tiles.paths, tiles.labels, strict=True):
        digest.update(bytes([label]))
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class _Encoding(NamedTuple):
    """An encoder, pixels of all tiles, number of threads, and stain normalisation."""

    encoder: BatchedEncoder
    images: Sequence[TileImage]
    threads: int
    stain_norm: str = NO_STAIN_NORM


def _add_stains(bank: FeatureBank, missing: Sequence[int], encoding: _Encoding) -> None:
    images = encoding.images
    rng = np.random.default_rng(BANK_SEED)
    gain = rng.normal(1, GAIN_DEVIATION, (MAX_STAINS, 3))
    bias = rng.normal(0, BIAS_DEVIATION, (MAX_STAINS, 3))
    turns = rng.integers(4, size=(MAX_STAINS, len(images)))
    flips = rng.random((MAX_STAINS, len(images))) < 0.5
    shown = np.flatnonzero(bank.usable)
    with progress("encode stains", len(missing) * len(images), "tiles") as advance:
        for number in missing:
            stain = Stain(gain[number], bias[number])

            def tile(index: int, number: int = number, stain: Stain = stain) -> TileImage:
                image = stained(images[index], stain)
                return _compressed(
                    oriented(image, turns[number, index], flip=bool(flips[number, index]))
                )

            # Other tiles for each stain, as other slides have: estimates differ by them too.
            drawn = np.random.default_rng([BANK_SEED, number]).permutation(shown)[:SAMPLE_TILES]
            tile_of = _normalised(encoding.stain_norm, tile, drawn.tolist())
            features = _encode(encoding, tile_of, len(images), advance)
            write_features(bank.folder / stain_file(number), features)


def _add_tool_cohort(bank: FeatureBank, cohort: ToolCohort, encoding: _Encoding) -> None:
    slides = bank.tool_slides(cohort)
    cells = [(number, place) for number, s in enumerate(slides) for place in range(len(s.tiles))]

    def tile_of_slide(slide: CompositeSlide, place: int) -> TileImage:
        image = stained(encoding.images[slide.tiles[place]], slide.stain)
        return _compressed(oriented(image, slide.turns[place], flip=bool(slide.flips[place])))

    tiles_of = [
        _normalised(encoding.stain_norm, partial(tile_of_slide, slide), range(len(slide.tiles)))
        for slide in slides
    ]

    def tile(index: int) -> TileImage:
        number, place = cells[index]
        return tiles_of[number](place)

    with progress(f"encode slides of seed {cohort.seed}", len(cells), "tiles") as advance:
        features = _encode(encoding, tile, len(cells), advance)
    write_features(bank.folder / cohort.file, features)


def _normalised(
    stain_norm: str, tile: Callable[[int], TileImage], sample: Sequence[int]
) -> Callable[[int], TileImage]:
    """Tiles of one slide after its stains are normalised; a sample of them tells the stains."""
    if stain_norm == NO_STAIN_NORM:
        return tile
    pixels = np.concatenate([sampled(tile(index)[None]) for index in sample])
    matrix = fit_stain(pixels).to_reference()
    return tile if matrix is None else lambda index: normalise(tile(index), matrix)


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
    encoder = encoding.encoder
    size = encoder.batch_size
    features = np.zeros((count, encoder.dim), np.float16)

    def encode_batch(start: int) -> int:
        end = min(count, start + size)
        pixels = np.stack([tile(index) for index in range(start, end)])
        features[start:end] = encoder(torch.from_numpy(pixels)).numpy()
        return end - start

    # Batches are the same for any number of threads, and so are the features.
    with ThreadPoolExecutor(encoding.threads) as pool:
        for num_tiles in pool.map(encode_batch, range(0, count, size)):
            advance(num_tiles)
    return features
