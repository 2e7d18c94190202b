"""The heads of a folder, and the input that they need: encoder, weights, tiles."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import nn

from mil.config import FeaturesConfig, by_alias, checked, load_encoders, unknown_encoder
from mil.config.joined import (
    TiledEncoder,
    name_of_tiled,
    parse_encoders,
    tiled_encoders,
)
from mil.config.stain import NO_STAIN_NORM
from mil.encoders.build import build_batched_encoder
from mil.encoders.runner import BatchedEncoder
from mil.errors import ConfigError, FormatError
from mil.features.stain import check_stain_norm
from mil.heads import Streams
from mil.io.bags.checks import difference
from mil.io.bags.join import joined_weights, shown_weights
from mil.trained import Trained, find_heads, load_heads

# Number of folds, in the name of a head's folder as the workflow calls it.
DIVISION = re.compile(r"_fold\d+of(\d+)")
# Name of a tiling, such as 224px_0.5mpp.
TILING = re.compile(r"(\d{1,4})px_(\d+(?:\.\d+)?(?:e[+-]?\d+)?)mpp")
# What heads must share for their mean to mean something, and the advice otherwise.
SHARED = {
    **dict.fromkeys(
        ("encoder", "weights_sha256", "tiling", "stain_norm", "dim"),
        "that were trained on the same features",
    ),
    **dict.fromkeys(("fusion", "dataset"), "of one study"),
}


@dataclass(frozen=True)
class Ensemble:
    """Heads of one recipe (its seeds and folds) on features of one encoder.

    Attributes:
        models: Heads with their records, by seed and fold.
        encoders: Their encoder with its tiles; of joined ones all, that of the bags' tiles
            first.
        divisions: Numbers of folds into which the patients were divided for the heads, as
            far as the names of their folders say.
    """

    models: list[tuple[nn.Module, Trained]]
    encoders: list[TiledEncoder]
    divisions: tuple[int, ...] = ()

    @property
    def trained(self) -> Trained:
        """Record of the first head, for what all heads share."""
        return self.models[0][1]

    @property
    def encoder(self) -> TiledEncoder:
        """Encoder of the bags' tiles; of one that is not joined, the encoder."""
        return self.encoders[0]

    @property
    def joined(self) -> bool:
        """Whether the heads were trained on features of several encoders side by side."""
        return len(self.encoders) > 1

    @property
    def records(self) -> list[Trained]:
        """Record of each head."""
        return [trained for _, trained in self.models]

    @property
    def streams(self) -> bool:
        """Whether all heads predict from parts of a bag, so that no features need to be kept."""
        return all(isinstance(head, Streams) for head, _ in self.models)


def load_ensemble(*roots: Path) -> Ensemble:
    """Load all heads of some folders, and the entry of their encoder.

    Raises:
        FormatError: there is no head, or one cannot be used; or they are of different
            features or studies.
        DatasetError: they are of several recipes.
        ConfigError: their encoder is not in configs/encoders.yaml.
    """
    folders = [folder for root in roots for folder in find_heads(root)]
    models = load_heads(folders)
    first = models[0][1]
    for head_folder, (_, trained) in zip(folders, models, strict=True):
        for key, advice in SHARED.items():
            value = getattr(trained, key)
            usual = getattr(first, key)
            if value != usual:
                message = difference(head_folder, key, value, usual, folders[0])
                raise FormatError(f"{message}; give heads {advice}")
    # The record has the number of a head's fold, but not of how many: only the folder's
    # name says that.
    divisions = {int(match[1]) for path in folders if (match := DIVISION.search(path.name))}
    return Ensemble(
        sorted(models, key=lambda model: (model[1].seed, model[1].fold)),
        _encoders(first, folders[0]),
        tuple(sorted(divisions)),
    )


class _TileSizes(NamedTuple):
    """Tiles of a head's bags; see `mil.config.joined.TileSizes`."""

    size_px: int
    mpp: float


def _encoders(trained: Trained, folder: Path) -> list[TiledEncoder]:
    """Encoder of a head with its tiles; of joined ones all."""
    # The tiling is that of the first of joined encoders; the names of the others state
    # their resolution, and the side of their tiles where that is another.
    sizes = _TileSizes(*_tiling(trained, folder))
    encoders = load_encoders()
    names = [part.name for part in parse_encoders(trained.encoder)]
    unknown = [name for name in names if by_alias(name, encoders) is None]
    if unknown:
        raise ConfigError(
            f"{folder}: was trained on features of {unknown[0]}, which has no entry in "
            "configs/encoders.yaml; add it there (docs/how-to/encoders.md): "
            f"{unknown_encoder(unknown[0], encoders)}"
        )
    # Checkpoints of other codes do not say which weights of the encoder they were
    # trained on.
    if not trained.weights_sha256:
        raise ConfigError(
            f"{folder}: does not say which weights of {trained.encoder} it was trained on; "
            "import the head again with --weights-sha256, or with --bags"
        )
    tiled = tiled_encoders(trained.encoder, sizes, encoders)
    if len(tiled) > 1 and name_of_tiled(tiled) != trained.encoder:
        raise ConfigError(
            f"{folder}: was trained on bags that `mil bags join` made of {trained.encoder} and "
            "that do not state all of their tiles; join the bags of new slides in the same way, "
            "and predict with `mil score`"
        )
    return tiled


def _tiling(trained: Trained, folder: Path) -> tuple[int, float]:
    """Side of a tile, pixels, and its resolution, micrometres per pixel."""
    # The record of an imported head may have `unknown` in place of either number.
    match = TILING.fullmatch(trained.tiling)
    if not match or not int(match[1]) or not 0 < float(match[2]) < 1000:
        raise ConfigError(
            f"{folder}: does not say how large its tiles were ({trained.tiling}); import the "
            "head again with --tile-px and --target-mpp"
        )
    return int(match[1]), float(match[2])


def features_for(ensemble: Ensemble, folder: Path, config: FeaturesConfig) -> FeaturesConfig:
    """Settings of features with the stain normalisation of the heads, whatever is configured.

    Args:
        ensemble: Heads of one recipe.
        folder: Folder of the heads, for messages.
        config: Section `features` of the configuration.

    Raises:
        ConfigError: The heads are for another method, or its package is not installed.
    """
    needed = config.model_copy(update={"stain_norm": NO_STAIN_NORM})
    method = ensemble.trained.stain_norm
    if method:
        needed = checked(FeaturesConfig, {**dict(config), "stain_norm": method}, str(folder))
    check_stain_norm(needed)
    return needed


def runners_of(
    ensemble: Ensemble, folder: Path, config: FeaturesConfig, device: str
) -> list[BatchedEncoder]:
    """Build the encoder that the heads were trained on, or all joined ones.

    Args:
        ensemble: Heads of one recipe.
        folder: Folder of the heads, for messages.
        config: Section `features` of the configuration.
        device: Device of the encoders: `cpu`, `cuda`, or `auto`.

    Raises:
        ConfigError: one cannot be built, or its weights are others.
    """
    trained = ensemble.trained
    runners = [
        build_batched_encoder(encoder.name, encoder.entry, encoder.tile_px, config, device)
        for encoder in ensemble.encoders
    ]
    # The name alone says nothing: an entry may have been given other weights since.
    weights = joined_weights([runner.encoder.identity["weights_sha256"] for runner in runners])
    dim = sum(runner.dim for runner in runners)
    if weights != trained.weights_sha256 or dim != trained.dim:
        raise ConfigError(
            f"{folder}: was trained on {trained.encoder} with weights "
            f"{shown_weights(trained.weights_sha256)} and {trained.dim} features a tile, but "
            f"configs/encoders.yaml has weights {shown_weights(weights)} and {dim} features under "
            "that name; give that entry the weights of the head, or use a head that was trained "
            "on these"
        )
    return runners
