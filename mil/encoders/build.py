"""Encoders built from entries of configs/encoders.yaml.

timm is imported where it is used: it takes longer to import than torch, and a slide
without tiles needs neither.
"""

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mil.config import EncoderConfig, FeaturesConfig
from mil.config.encoders import WEIGHTS_FILES
from mil.device import choose_device
from mil.encoders.availability import fetch_advice
from mil.encoders.create import create_model
from mil.encoders.hub import (
    HubError,
    Repository,
    commit_of,
    local_file,
)
from mil.encoders.pooling import MultiScale, TokenPooling
from mil.encoders.precision import DTYPES, cast_weights, choose_precision
from mil.encoders.runner import (
    BatchedEncoder,
    Encoder,
    default_batch_size,
    out_of_memory_message,
)
from mil.encoders.weights import read_weights, weights_digest, weights_path
from mil.errors import ConfigError, first_line

# Weights files up to this size are of models that are quicker to build than the meta
# device is to import.
SMALL_FILE_BYTES = 100_000_000


def build_batched_encoder(
    name: str, entry: EncoderConfig, tile_px: int, config: FeaturesConfig, device: str
) -> BatchedEncoder:
    """Build an encoder on its device, ready for the tiles of slides.

    Args:
        name: Name of the encoder's entry.
        entry: Entry of configs/encoders.yaml.
        tile_px: Side of a tile, pixels.
        config: Section `features`.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.

    Raises:
        ConfigError: The encoder cannot be built, or the memory does not hold it.
    """
    # Encoder threads work on batches of their own: features are then the same for any
    # number of threads.
    torch.set_num_threads(1)
    torch_device = choose_device(device)
    if config.compile:
        # Before timm, so that it marks for the compiler what must not be compiled.
        import_module("torch._dynamo")
    try:
        encoder = build_encoder(
            name, entry, tile_px=tile_px, device=torch_device, precision=config.precision
        )
        cast_weights(encoder.model, encoder.dtype)
        if config.compile:
            encoder.model.compile()
        batch_size = config.batch_size or default_batch_size(encoder, tile_px)
    except torch.OutOfMemoryError:
        raise ConfigError(out_of_memory_message(name, torch_device)) from None
    return BatchedEncoder(encoder, entry.dim, batch_size, pad=config.compile)


def build_encoder(
    name: str, entry: EncoderConfig, *, tile_px: int, device: torch.device, precision: str
) -> Encoder:
    """Build an encoder's model, load its weights, and record what it is.

    Args:
        name: Name of the encoder's entry.
        entry: Entry of configs/encoders.yaml.
        tile_px: Side of a tile, pixels.
        device: Device of the model.
        precision: `fp32`, `bf16`, `fp16`, or `auto`; see `choose_precision`.

    Raises:
        ConfigError: timm does not know the model, the weights cannot be had or do not
            fit, or `dim` is wrong.
    """
    path = None if entry.weights in ("timm", "random") else _weights_file(name, entry)
    # Also for weights from timm: it checks the entry before they are downloaded.
    shell = build_shell(name, entry, tile_px, _shell_device(entry, path))
    if path is None:
        bare, digest = _timm_model(name, entry, device)
    else:
        bare, digest = _loaded_model(name, entry, shell, path, device)
    mean, std = _normalisation(entry, bare)
    used_precision = choose_precision(precision, entry.precision, device)
    identity = {
        "encoder": name,
        "encoder_revision": _revision(entry, path),
        "weights_sha256": digest,
        "transform": _transform(entry, tile_px, mean, std),
        "precision": used_precision,
    }
    model = with_pooling(name, entry, bare).eval().requires_grad_(False).to(device)
    model = model.to(memory_format=torch.channels_last)
    return Encoder(name, model, mean, std, device, DTYPES[used_precision], identity)


def _shell_device(entry: EncoderConfig, path: Path | None) -> str:
    small = entry.weights == "random" if path is None else path.stat().st_size <= SMALL_FILE_BYTES
    return "cpu" if small else "meta"


def build_shell(name: str, entry: EncoderConfig, tile_px: int, device: str = "meta") -> nn.Module:
    """An encoder's model before its weights, checked to return `dim` features per tile.

    Args:
        name: Name of the encoder's entry.
        entry: Entry of configs/encoders.yaml.
        tile_px: Side of a tile, pixels.
        device: `meta`, for a model without memory, or `cpu`.

    Raises:
        ConfigError: timm cannot build the model, or it does not suit its entry.
    """
    try:
        # Forked: building an encoder must not change what the caller draws next.
        with torch.random.fork_rng(), torch.device(device):
            shell = create_model(name, entry)
    # Older versions of timm read values while they build, which meta tensors lack.
    except ConfigError:
        shell = create_model(name, entry)
    _check_dim(name, with_pooling(name, entry, shell).eval(), entry.dim, tile_px)
    return shell


def with_pooling(name: str, entry: EncoderConfig, bare: nn.Module) -> nn.Module:
    """A timm model with the pooling of its entry.

    Args:
        name: Name of the encoder's entry.
        entry: Entry of configs/encoders.yaml.
        bare: Model as timm builds it.

    Raises:
        ConfigError: The model has no such tokens.
    """
    model = bare
    if entry.pooling != "model":
        try:
            model = TokenPooling(bare, entry.pooling)
        except ValueError as error:
            raise ConfigError(f"encoder {name}: {error} ({entry.timm})") from None
    return model if entry.scales == [1] else MultiScale(model, entry.scales)


@torch.inference_mode()
def _check_dim(name: str, model: nn.Module, dim: int, tile_px: int) -> None:
    """Check the length of a feature vector by encoding a tile.

    Some models pool to another length than timm states, some take one size of tile only.
    """
    device = next(model.parameters()).device
    try:
        shape = model(torch.zeros(1, 3, tile_px, tile_px, device=device)).shape
    except AttributeError:
        raise ConfigError(
            f"encoder {name}: the model returns no vector for a tile; check its args"
        ) from None
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(
            f"encoder {name}: the model cannot take tiles of {tile_px} px: {first_line(error)}"
        ) from None
    if tuple(shape) != (1, dim):
        raise ConfigError(
            f"encoder {name}: dim is {dim} in configs/encoders.yaml, the model returns "
            f"{list(shape)[1:]}"
        )


def _timm_model(name: str, entry: EncoderConfig, device: torch.device) -> tuple[nn.Module, str]:
    """A model with timm's weights, or random ones that are always the same; and a digest."""
    # Forked, as above.
    with torch.random.fork_rng(), device:
        torch.manual_seed(0)
        bare = create_model(name, entry, pretrained=entry.weights == "timm")
    return bare, weights_digest(bare.state_dict())


def _weights_file(name: str, entry: EncoderConfig) -> Path:
    if entry.hub is None:
        return weights_path(name, entry.weights)
    names = [entry.hub.file] if entry.hub.file else WEIGHTS_FILES
    try:
        return local_file(Repository(entry.hub.repository, entry.hub.revision), names)
    except HubError as error:
        raise ConfigError(f"encoder {name}: {error.message}; {fetch_advice(name)}") from None


def _loaded_model(
    name: str, entry: EncoderConfig, shell: nn.Module, path: Path, device: torch.device
) -> tuple[nn.Module, str]:
    """A model with the weights of a file, and their digest."""
    # Against the shell, before memory is spent on the model.
    tensors = read_weights(path, shell, entry.keys)
    # The digest is computed while the weights are copied: both read the file.
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(weights_digest, tensors)
        if _has_computed_tensors(shell):
            bare = create_model(name, entry)
        else:
            bare = shell.to_empty(device=device)
        bare.load_state_dict(tensors)
        return bare, digest.result()


def _has_computed_tensors(model: nn.Module) -> bool:
    """Whether timm computes tensors that no weights file holds, such as position tables.

    Such a model must be built in full: memory and weights are not enough.
    """
    saved = model.state_dict().keys()
    if any(name not in saved for name, _ in model.named_buffers()):
        return True
    attributes = (value for module in model.modules() for value in vars(module).values())
    return any(isinstance(value, Tensor) for value in attributes)


def _normalisation(
    entry: EncoderConfig, bare: nn.Module
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, from the entry or else from timm."""
    if entry.mean and entry.std:
        return entry.mean, entry.std
    from timm.data.config import resolve_data_config

    timm_config: dict[str, Any] = resolve_data_config({}, model=bare)
    mean = entry.mean or timm_config["mean"]
    std = entry.std or timm_config["std"]
    return tuple(mean), tuple(std)


def _transform(
    entry: EncoderConfig, tile_px: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> str:
    """Preprocessing and pooling; an attribute of bag files, so its wording must not change."""
    transform = f"{tile_px} px, /255, mean {mean}, std {std}"
    if entry.pooling != "model":
        transform += f", pooling {entry.pooling}"
    if entry.projection != "none":
        transform += f", projection {entry.projection}"
    if entry.scales != [1]:
        transform += f", scales {'+'.join(map(str, entry.scales))}"
    return transform


def _revision(entry: EncoderConfig, path: Path | None) -> str:
    """Name of the model that was loaded, as `OWNER/NAME@COMMIT` for one on the hub.

    The commit is that of the file in the cache, whether the entry names one or not.
    """
    if entry.hub is None or path is None:
        return entry.timm
    return entry.hub._replace(revision=commit_of(path) or entry.hub.revision).pinned
