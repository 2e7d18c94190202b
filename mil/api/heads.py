"""Features, bags and heads from Python."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mil.bags import Bags, join
from mil.config import DEFAULT_ENCODER, FeaturesConfig, encoder_name, load_encoder
from mil.errors import ConfigError
from mil.features.stage import Target, run
from mil.io.bags import Bag, read_bag
from mil.io.scores import HeadScores, MapKind
from mil.trained import Trained
from mil.trained.compatibility import check_compatible, check_usable
from mil.trained.evidence import evidence_of, remover_of
from mil.trained.folder import load_trained
from mil.trained.forward import apply, tensors_of
from mil.trained.tile_maps import tile_map

EVIDENCE: tuple[MapKind, MapKind] = ("alone", "effect")


def extract_features(
    slide: Path | str,
    tiles: Path | str,
    out: Path | str,
    *,
    encoder: str = DEFAULT_ENCODER,
    threads: int = 1,
    device: str = "auto",
    config: FeaturesConfig | None = None,
) -> Bag:
    """Embed the tiles of a slide and write the bag, as `mil features` does.

    Args:
        slide: File of the slide.
        tiles: Tiles file of the slide, as `tile_slide` wrote it.
        out: Bag file to write (.h5).
        encoder: Name of the encoder in configs/encoders.yaml.
        threads: Number of CPU threads. Features do not depend on it.
        device: Device of the encoder: `cpu`, `cuda`, or `auto` (a GPU if there is one).
        config: Precision, type and batch size; default: those of the configuration.

    Returns:
        The bag: features [tiles, dim], coordinates [tiles, 2], validity [tiles].

    Raises:
        UnreadableSlideError: The slide does not open.
        FormatError: The tiles belong to another slide.
        ConfigError: The encoder is unknown, cannot be built, or does not fit into
            memory.
    """
    # A name, not a model: the entry pins weights and transform, which the bag records.
    target = Target(encoder_name(encoder), load_encoder(encoder), Path(out))
    run(
        Path(slide),
        Path(tiles),
        [target],
        config=config or FeaturesConfig(),
        threads=threads,
        device=device,
    )
    # Read back from disk, so that a notebook computes with what a study would.
    return read_bag(Path(out))


def collate(bags: Sequence[Bag | np.ndarray | Tensor]) -> Bags:
    """Lay the valid tiles of several bags end to end, as the input of a head.

    Args:
        bags: Bags of one encoder, each with at least one valid tile; or their features
            alone, arrays or tensors [tiles, dim].

    Returns:
        Features [tiles of all bags, dim] (float32) and the offsets at which bags begin;
        coordinates where every bag has them.

    Raises:
        ConfigError: One is no bag, or bags differ in the length of a feature vector.
        ValueError: There is no bag, or one has no valid tile.
    """
    if not isinstance(bags, Sequence):
        raise ConfigError(f"collate: a list of bags is needed, not a {type(bags).__name__}")
    features = [_features(bag, number) for number, bag in enumerate(bags, 1)]
    dims = sorted({bag.shape[1] for bag in features})
    if len(dims) > 1:
        raise ConfigError(
            f"collate: bags have {' and '.join(map(str, dims))} features per tile; give bags of "
            "one encoder"
        )
    whole = [bag for bag in bags if isinstance(bag, Bag)]
    coords = [bag.coords[bag.valid] for bag in whole if bag.coords is not None]
    if len(coords) < len(features):
        # Coordinates of some bags alone could not be told apart once laid end to end.
        return join(features)
    return join(features, [torch.from_numpy(corners) for corners in coords])


def _features(bag: object, number: int) -> Float[Tensor, "tiles dim"]:
    """Features of the valid tiles of a bag, as heads take them."""
    values = bag.features[bag.valid] if isinstance(bag, Bag) else bag
    # Heads compute in float32; bags on disk are float16 to halve their size.
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))
    if isinstance(values, Tensor) and values.ndim == 2 and values.is_floating_point():
        return values.float()
    kind = type(bag).__name__
    if isinstance(values, np.ndarray | Tensor):
        kind += f" of {values.dtype}, shape {tuple(values.shape)}"
    raise ConfigError(
        f"collate: bag {number} is a {kind}; give a Bag of `mil.read_bag`, or its features: "
        "floating-point numbers [tiles, dim]"
    )


# eq=False: modules and arrays have no equality that is a truth value.
@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A trained head, ready to score bags.

    Attributes:
        module: The network, in evaluation mode: `Bags` in, `HeadOutput` out.
        settings: Content of the head's `recipe.json`: recipe, task, encoder, tiling,
            seed, fold, calibration.
    """

    module: nn.Module
    settings: Trained


class SlideScore(NamedTuple):
    """Prediction and attention of one head for one slide.

    Attributes:
        predictions: Calibrated prediction by column of predictions.csv, such as
            `p_tumour`.
        attention: Attention of each valid tile; sums to 1.
        coords: Top left corner (x, y) of each valid tile, level-0 pixels; None where
            the bag has no coordinates.
        selected: Tiles that the prediction is made from, for heads that select tiles;
            else None.
        alone: Evidence of each valid tile, were the bag this tile alone, for the class
            of interest (log-odds) or the prediction itself; None: not asked for.
        effect: Evidence that the bag loses without the tile, on the same scale.
        rollout: Attention by the tiles before mixing layers; sums to 1. None: the head has
            no such layer.
    """

    predictions: dict[str, float]
    attention: Float[np.ndarray, " tiles"]
    coords: Int[np.ndarray, "tiles 2"] | None
    selected: Bool[np.ndarray, " tiles"] | None
    alone: Float[np.ndarray, " tiles"] | None = None
    effect: Float[np.ndarray, " tiles"] | None = None
    rollout: Float[np.ndarray, " tiles"] | None = None


def load_head(folder: Path | str) -> TrainedHead:
    """Load a trained head from its folder. Nothing is unpickled.

    Args:
        folder: Folder with `recipe.json` and `head.safetensors`, such as
            results/DATASET/train/TILING/ENCODER/HEAD/seed1_fold0of1.

    Raises:
        FormatError: A file is missing, has another format, or does not fit the recipe.
    """
    module, settings = load_trained(Path(folder))
    return TrainedHead(module, settings)


def score_bag(head: TrainedHead, bag: Bag, *, evidence: bool = False) -> SlideScore:
    """Apply a trained head to the bag of a slide.

    Args:
        head: The head, from `load_head`.
        bag: Bag of the same encoder, weights and tiling that the head was trained on.
        evidence: Whether to compute the evidence of each tile.

    Returns:
        Calibrated predictions, and the attention of each valid tile.

    Raises:
        FormatError: The bag is of another encoder, other weights or another tiling, has
            no valid tile, or holds values that are not finite.
        ConfigError: `head` or `bag` is something else, such as a path.
    """
    if not isinstance(head, TrainedHead):
        raise ConfigError(f"score_bag: head is a {type(head).__name__}; give mil.load_head(FOLDER)")
    if not isinstance(bag, Bag):
        raise ConfigError(
            f"score_bag: bag is a {type(bag).__name__}; give mil.read_bag(FILE), which states the "
            "encoder and the tiles of its features"
        )
    # A bag in memory has no file; its slide names it in messages.
    path = Path(f"{bag.slide}.h5")
    check_usable(bag, path)
    check_compatible(head.settings, bag, path)
    # The calibration on validation slides is applied here, as in predictions.csv.
    result = apply(head.module, head.settings, bag)
    columns = head.settings.task.columns
    alone = effect = None
    if evidence:
        _, of_tiles = evidence_of(head.module, remover_of(head.module), tensors_of(bag))
        scores = replace(result, evidence=of_tiles)
        alone, effect = (_values(kind, head.settings, scores) for kind in EVIDENCE)
    return SlideScore(
        predictions=dict(zip(columns, result.predictions.tolist(), strict=True)),
        attention=result.attention,
        coords=None if bag.coords is None else bag.coords[bag.valid],
        selected=None if result.selection is None else result.selection.selected,
        alone=alone,
        effect=effect,
        rollout=result.rollout,
    )


def _values(
    kind: MapKind, settings: Trained, scores: HeadScores
) -> Float[np.ndarray, " tiles"] | None:
    """Values of a map of the tiles, for the column of interest."""
    of_tiles = tile_map(kind, [settings], [scores])
    return None if of_tiles is None else of_tiles.values
