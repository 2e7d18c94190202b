"""Slide encoders with their weights, and the vector of a bag."""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.config.slide_encoders import SlideEncoderConfig, load_slide_encoder
from mil.encoders.hub import commit_of
from mil.encoders.runner import is_out_of_memory
from mil.encoders.weights import fitting, read_tensors, weights_digest
from mil.errors import ConfigError, DatasetError
from mil.io.bags import Bag
from mil.slide_encoders.availability import weights_file
from mil.slide_encoders.checks import check_bag


@dataclass(frozen=True)
class PublishedEncoder:
    """A published slide encoder in memory.

    Attributes:
        name: Name of its entry.
        entry: Its entry.
        model: Module with its weights, in evaluation mode.
        weights_sha256: Checksum of the tensors that it uses.
        revision: File of the weights, as `OWNER/NAME@COMMIT` for one on the hub.
        device: Device of the model.
    """

    name: str
    entry: SlideEncoderConfig
    model: nn.Module
    weights_sha256: str
    revision: str
    device: torch.device

    def vector(self, bag: Bag, path: Path) -> Float[np.ndarray, " dim"]:
        """Vector of a usable bag by all its valid tiles, float32.

        Args:
            bag: Bag whose state is `ok`.
            path: Its file, for messages.

        Raises:
            FormatError: The bag is of another encoder or of other tiles than those that
                the slide encoder was trained on, or lacks positions that it needs.
            DatasetError: The memory does not hold the slide.
        """
        check_bag(self.name, self.entry, bag, path)
        features = torch.from_numpy(bag.features[bag.valid]).float()
        try:
            return self._forward(features, bag).float().cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DatasetError(
                f"{path}: {len(features)} tiles are more than the memory of {self.device} holds "
                f"for {self.name}; free some memory, or compute on another machine"
            ) from None

    @torch.inference_mode()
    def _forward(self, features: Float[Tensor, "tiles in"], bag: Bag) -> Float[Tensor, " dim"]:
        features = features.to(self.device)
        if not self.entry.positions or bag.coords is None:
            return self.model(features)
        corners = torch.from_numpy(bag.coords[bag.valid]).long().to(self.device)
        return self.model(features, corners, bag.side_level0_px)


def build_slide_encoder(
    name: str, *, weights: Path | None = None, device: torch.device | None = None
) -> PublishedEncoder:
    """Build a published slide encoder and load its weights.

    Args:
        name: Name of a file in configs/slide_encoders.
        weights: File of the weights; None: that of the entry.
        device: Device of the model; None: the CPU.

    Raises:
        ConfigError: There is no such slide encoder, or its weights cannot be had or do not
            fit.
    """
    entry = load_slide_encoder(name)
    device = device or torch.device("cpu")
    # Forked: building must not change what the caller draws next.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = new_model(name)
    tensors, revision = model.state_dict(), "random"
    if weights is not None or entry.weights != "random":
        file = weights_file(name, entry, weights)
        content = read_tensors(file, partial(renamed_tensors, file, name))
        _check_surplus(file, name, content.keys() - tensors.keys())
        tensors = fitting(file, content, tensors)
        # A user's file may lie in a folder that looks like the hub's cache.
        revision = file.name if weights is not None else _revision(entry, file)
        model.load_state_dict(tensors, assign=True)
    model = model.eval().requires_grad_(False).to(device)
    return PublishedEncoder(name, entry, model, weights_digest(tensors), revision, device)


def new_model(name: str) -> nn.Module:
    """A slide encoder in its published shape, before its weights.

    Args:
        name: Name of a file in mil/slide_encoders.

    Raises:
        ConfigError: There is no such architecture.
    """
    module = f"mil.slide_encoders.{name}"
    is_here = name.isidentifier() and find_spec(module) is not None
    architecture = getattr(import_module(module), "SlideEncoder", None) if is_here else None
    if architecture is None:
        raise ConfigError(
            f"configs/slide_encoders/{name}.yaml: there is no architecture of that name in "
            "mil/slide_encoders; rename the file as one that is"
        )
    return architecture()


def renamed_tensors(file: Path, name: str, content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint under the model's names.

    Args:
        file: Its file, for messages.
        name: Name of the slide encoder.
        content: Tensors by their published names.

    Raises:
        ConfigError: Two tensors for one name differ.
    """
    patterns = getattr(import_module(f"mil.slide_encoders.{name}"), "NAMES", [])
    renamed: dict[str, Tensor] = {}
    for published, tensor in content.items():
        key = published
        for pattern, replacement in patterns:
            key = re.sub(pattern, replacement, key)
        # A tensor that several layers share may have a name in each of them.
        if key in renamed and not torch.equal(renamed[key], tensor):
            raise ConfigError(
                f"{file}: does not fit slide encoder {name}: {published} differs from the tensor "
                "of another layer that shares it; give the file that its entry names"
            )
        renamed[key] = tensor
    return renamed


def _check_surplus(file: Path, name: str, surplus: Set[str]) -> None:
    """Refuse tensors that neither the vector nor another part of the checkpoint has."""
    unused = getattr(import_module(f"mil.slide_encoders.{name}"), "UNUSED", [".*"])
    unknown = sorted(
        key for key in surplus if not any(re.fullmatch(pattern, key) for pattern in unused)
    )
    if unknown:
        raise ConfigError(
            f"{file}: does not fit slide encoder {name}, which has no {unknown[0]} ({len(unknown)} "
            "such tensors); give the file that its entry names"
        )


def _revision(entry: SlideEncoderConfig, file: Path) -> str:
    commit = commit_of(file)
    if entry.hub is None or commit is None:
        return file.name
    return entry.hub._replace(revision=commit).pinned
