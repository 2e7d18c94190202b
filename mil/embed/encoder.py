"""A slide encoder in memory: a statistic, trained heads, or a published model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mil.config.slide_encoders import published_slide_encoders
from mil.embed.rows import PoolingHead, load_pooling_heads, stacked, vectors_of
from mil.errors import DatasetError, FormatError
from mil.io.bags import Bag
from mil.slide_encoders.build import PublishedEncoder, build_slide_encoder
from mil.trained.compatibility import check_usable


@dataclass(frozen=True)
class LoadedEncoder:
    """A slide encoder in memory.

    Attributes:
        name: Name of the slide encoder.
        heads: Its trained heads; none of a statistic and of a published one.
        published: Published slide encoder; else None.
    """

    name: str
    heads: Sequence[PoolingHead] = ()
    published: PublishedEncoder | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What vectors depend on beside the bag, as it goes into their digest."""
        facts: dict[str, Any] = {
            "slide_encoder": self.name,
            "heads": [asdict(each.fact) for each in self.heads],
        }
        # Left out of others, whose vectors then stay current.
        if self.published is not None:
            # Not the revision: a file that is renamed changes no vector.
            facts["slide_encoder_sha256"] = self.published.weights_sha256
        return facts

    @property
    def weights(self) -> dict[str, str]:
        """Fields of the header that name the weights of a published slide encoder."""
        if self.published is None:
            return {}
        return {
            "slide_encoder_sha256": self.published.weights_sha256,
            "slide_encoder_revision": self.published.revision,
        }

    def vectors(self, bag: Bag, path: Path) -> Float[np.ndarray, "rows dim"]:
        """Vectors of a usable bag, float32: a row for each head, or a single one.

        Args:
            bag: Bag whose state is `ok`.
            path: Its file, for messages.

        Raises:
            FormatError: The bag does not suit the slide encoder, or a vector is no numbers.
            DatasetError: The memory does not hold the slide.
        """
        if self.published is None:
            return vectors_of(self.name, self.heads, bag, path)
        check_usable(bag, path)
        row = self.published.vector(bag, path)
        expected = self.published.entry.dim
        if row.shape != (expected,):
            raise FormatError(
                f"{path}: its vector by {self.name} has the shape {list(row.shape)}, not "
                f"[{expected}]; correct dim in configs/slide_encoders/{self.name}.yaml"
            )
        return stacked([row], self.name, path)


def load_encoder(
    name: str, heads: Sequence[Path], weights: Path | None, device: torch.device
) -> LoadedEncoder:
    """Load a slide encoder.

    Args:
        name: `mean`, `mean_std`, a published slide encoder, or the recipe of `heads`.
        heads: Folders of trained heads of one recipe.
        weights: File of the weights of a published one; None: that of its entry.
        device: Device of a published one.

    Raises:
        DatasetError: Heads, weights and slide encoder do not go together.
        FormatError: A head cannot be used.
        ConfigError: Weights cannot be had, or do not fit.
    """
    published = published_slide_encoders()
    if name not in published:
        if weights is not None:
            raise DatasetError(
                f"slide encoder {name}: has no file of weights; leave --weights out, or take one "
                f"of {', '.join(published)}"
            )
        return LoadedEncoder(name, load_pooling_heads(name, heads))
    if heads:
        raise DatasetError(f"slide encoder {name}: is computed without heads; leave --head-dir out")
    return LoadedEncoder(name, (), build_slide_encoder(name, weights=weights, device=device))
