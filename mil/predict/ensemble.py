"""The heads of a folder, and what they want to see: encoder, weights, tiles."""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mil.config import EncoderConfig, FeaturesConfig, load_encoders
from mil.encoders.runner import Feeder
from mil.errors import ConfigError, FormatError, unknown_name
from mil.features.stage import make_feeder
from mil.heads import Streams
from mil.io.bags.checks import difference
from mil.trained import Trained, find_heads, load_heads

DIVISION = re.compile(
    r"_fold\d+of(\d+)"
)  # in the name of a folder of the workflow: into how many folds
TILING = re.compile(r"(\d{1,4})px_(\d+(?:\.\d+)?(?:e[+-]?\d+)?)mpp")
SHARED = {
    **dict.fromkeys(
        ("encoder", "weights_sha256", "tiling", "dim"), "that were trained on the same features"
    ),
    **dict.fromkeys(("fusion", "dataset"), "of one study"),
}


@dataclass(frozen=True)
class Ensemble:
    """Heads of one recipe (its seeds and folds) on features of one encoder.

    Attributes:
        models: the heads with what their folders say, by seed and fold.
        entry: of their encoder in configs/encoders.yaml.
        tile_px: side of a tile as the encoder sees it, pixels.
        target_mpp: its resolution, micrometres per pixel.
        divisions: into how many folds the patients were divided for them, as far as
            their folders' names say.
    """

    models: list[tuple[nn.Module, Trained]]
    entry: EncoderConfig
    tile_px: int
    target_mpp: float
    divisions: tuple[int, ...] = ()

    @property
    def trained(self) -> Trained:
        """What all heads have in common, from the first of them."""
        return self.models[0][1]

    @property
    def streams(self) -> bool:
        """Whether all heads answer from parts of a bag, so that no features need to be kept."""
        return all(isinstance(head, Streams) for head, _ in self.models)


def load_ensemble(folder: Path) -> Ensemble:
    """All heads of a folder, and their encoder's entry.

    Raises:
        FormatError: there is no head, or one cannot be used; or they are of different
            features or studies.
        DatasetError: they are of several recipes.
        ConfigError: their encoder is not in configs/encoders.yaml.
    """
    folders = find_heads(folder)
    loaded = load_heads(folders)
    first = loaded[0][1]
    for where, (_, trained) in zip(folders, loaded, strict=True):
        for key, advice in SHARED.items():
            value = getattr(trained, key)
            usual = getattr(first, key)
            if value != usual:
                message = difference(where, key, value, usual, folders[0])
                raise FormatError(f"{message}; give heads {advice}")
    entry, (tile_px, target_mpp) = _entry(first, folders[0]), _tiling(first, folders[0])
    models = sorted(loaded, key=lambda pair: (pair[1].seed, pair[1].fold))
    divisions = {
        int(found[1]) for found in (DIVISION.search(where.name) for where in folders) if found
    }
    return Ensemble(models, entry, tile_px, target_mpp, tuple(sorted(divisions)))


def _entry(trained: Trained, folder: Path) -> EncoderConfig:
    encoders = load_encoders()
    if trained.encoder not in encoders:
        raise ConfigError(
            f"{folder}: was trained on features of {trained.encoder}, which has no entry in "
            "configs/encoders.yaml; add "
            f"it there (docs/encoders.md): {unknown_name('encoder', trained.encoder, encoders)}"
        )
    if not trained.weights_sha256:
        raise ConfigError(
            f"{folder}: does not say which weights of {trained.encoder} it was trained on; "
            "import the head again with "
            "--weights-sha256, or with --bags"
        )
    return encoders[trained.encoder]


def _tiling(trained: Trained, folder: Path) -> tuple[int, float]:
    found = TILING.fullmatch(trained.tiling)
    if not found or not int(found[1]) or not 0 < float(found[2]) < 1000:
        raise ConfigError(
            f"{folder}: does not say how large its tiles were ({trained.tiling}); import the "
            "head again with --tile-px "
            "and --target-mpp"
        )
    return int(found[1]), float(found[2])


def feeder_of(ensemble: Ensemble, folder: Path, config: FeaturesConfig, device: str) -> Feeder:
    """The encoder that the heads were trained on, ready for work.

    Raises:
        ConfigError: it cannot be built, or its weights are others.
    """
    trained = ensemble.trained
    feeder = make_feeder(trained.encoder, ensemble.entry, ensemble.tile_px, config, device)
    mine = feeder.encoder.identity["weights_sha256"]
    if mine != trained.weights_sha256 or feeder.dim != trained.dim:
        raise ConfigError(
            f"{folder}: was trained on {trained.encoder} with weights "
            f"{trained.weights_sha256[:12]} and {trained.dim} "
            f"features a tile, but configs/encoders.yaml has weights {mine[:12]} and "
            f"{feeder.dim} features under that "
            "name; give that entry the weights of the head, or use a head that was trained on these"
        )
    return feeder
