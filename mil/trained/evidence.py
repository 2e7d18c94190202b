"""Evidence of each tile: its logits alone, and the logits that its bag loses without it."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mil.heads import Removals
from mil.io.scores import TileEvidence


@torch.inference_mode()
def exact_evidence(removals: Removals) -> TileEvidence:
    """Evidence of each tile of a bag by a head that removes tiles exactly."""
    return TileEvidence(alone=_rounded(removals.alone()), effect=_rounded(removals.effect()))


def _rounded(values: Tensor) -> Float[np.ndarray, "tiles outputs"]:
    return values.float().double().numpy()
