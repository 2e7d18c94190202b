"""Ensembles of heads that are never asked, for what is said of their answers."""

from collections.abc import Sequence

from torch import nn

from mil.config import EncoderConfig, Recipe
from mil.config.joined import TiledEncoder
from mil.predict.ensemble import Ensemble
from mil.tasks import AnyTask, Classification
from mil.trained import Calibration, Trained

TWO = Classification(classes=["normal", "tumour"], positive="tumour")


def ensemble(
    task: AnyTask, heads: int = 1, calibrations: Sequence[Calibration | None] = ()
) -> Ensemble:
    """Heads of a task, on features of 4 numbers."""
    recipe = Recipe(name="abmil", options={}, losses={"cross_entropy": 1})
    trained = Trained(
        recipe_name="abmil",
        recipe=recipe,
        encoder="tiny",
        weights_sha256="0",
        tiling="64px_0.5mpp",
        dim=4,
        task=task,
        dataset="d",
        seed=1,
        fold=0,
        epoch=1,
    )
    entry = EncoderConfig(timm="test_resnet", dim=4, mpp=0.5, weights="random", licence="ours")
    each = [
        trained.model_copy(update={"calibration": one}) for one in calibrations or [None] * heads
    ]
    return Ensemble([(nn.Identity(), one) for one in each], [TiledEncoder("tiny", entry, 64, 0.5)])
