"""An entry of configs/encoders.yaml becomes a model and its preprocessing. The only place that builds timm's models."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mil.config import EncoderConfig
from mil.config.encoders import HUB
from mil.encoders.availability import how_to_fetch, named
from mil.encoders.hub import WEIGHTS_FILES, HubError, Repository, bring, commit_of, explained
from mil.encoders.pooling import Pooled
from mil.encoders.precision import DTYPES, choose_precision
from mil.encoders.runner import Encoder
from mil.encoders.weights import first_line, given_path, read_weights, weights_digest
from mil.errors import ConfigError

# timm is imported where it is used: it takes longer than torch, and a slide without
# tiles needs neither model nor timm.


def build_encoder(
    name: str, entry: EncoderConfig, *, tile_px: int, device: torch.device, precision: str
) -> Encoder:
    """Build a model, load its weights, and say what it is.

    Args:
        name: the entry's name.
        entry: what to build.
        tile_px: side of the tiles it will see, pixels.
        device: where it runs.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: what the device is fast in; see
            `choose_precision`.

    Raises:
        ConfigError: timm does not know the model, the weights cannot be had or do not
            fit, or `dim` is wrong.
    """
    path = None if entry.weights in ("timm", "random") else _weights_file(name, entry)
    shell = build_shell(name, entry, tile_px)
    bare, digest = (
        _loaded(name, entry, shell, path, device) if path else _made_by_timm(name, entry, device)
    )
    mean, std = _normalisation(entry, bare)
    used = choose_precision(precision, entry.precision, device)
    identity = {
        "encoder": name,
        "encoder_revision": _revision(entry, path),
        "weights_sha256": digest,
        "transform": f"{tile_px} px, /255, mean {mean}, std {std}"
        + ("" if entry.pooling == "model" else f", pooling {entry.pooling}"),
        "precision": used,
    }
    model = pooled(name, entry, bare).eval().requires_grad_(False).to(device)
    return Encoder(
        name, model.to(memory_format=torch.channels_last), mean, std, device, DTYPES[used], identity
    )


def build_shell(name: str, entry: EncoderConfig, tile_px: int) -> nn.Module:
    """An encoder's model without memory: only names and shapes, and the certainty that it gives `dim` numbers.

    Raises:
        ConfigError: timm cannot build it, or it does not do what its entry says.
    """
    try:
        with torch.device("meta"):
            shell = _create(name, entry)
    except ConfigError:  # or an older timm, which reads values while it builds
        shell = _create(name, entry)
    _check_width(name, pooled(name, entry, shell).eval(), entry.dim, tile_px)
    return shell


def pooled(name: str, entry: EncoderConfig, bare: nn.Module) -> nn.Module:
    """The model with the pooling of its entry.

    Raises:
        ConfigError: it cannot be pooled so.
    """
    if entry.pooling == "model":
        return bare
    try:
        return Pooled(bare, entry.pooling)
    except ValueError as error:
        raise ConfigError(f"encoder {name}: {error} ({entry.timm})") from None


@torch.inference_mode()
def _check_width(name: str, model: nn.Module, dim: int, tile_px: int) -> None:
    """Ask the model itself: some pool to another width than timm says, some take one size of tile only."""
    device = next(model.parameters()).device
    try:
        width = model(torch.zeros(1, 3, tile_px, tile_px, device=device)).shape
    except AttributeError:
        raise ConfigError(
            f"encoder {name}: the model gives no vector for a tile; look at its args"
        ) from None
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise ConfigError(
            f"encoder {name}: cannot take tiles of {tile_px} px: {first_line(error)}"
        ) from None
    if tuple(width) != (1, dim):
        raise ConfigError(
            f"encoder {name}: dim is {dim} in configs/encoders.yaml, the model gives "
            f"{list(width)[1:]}"
        )


def _create(name: str, entry: EncoderConfig, *, pretrained: bool = False) -> nn.Module:
    import timm
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    args: dict[str, Any] = {
        k: _layer(name, v) if k == "mlp_layer" else v for k, v in entry.args.items()
    }
    try:
        return timm.create_model(entry.timm, pretrained=pretrained, num_classes=0, **args)
    except (HfHubHTTPError, EntryNotFoundError, ConnectionError) as error:
        hub_name = (
            named(entry.timm) if entry.timm.startswith(HUB) else Repository(f"timm/{entry.timm}")
        )
        raise ConfigError(
            f"encoder {name}: {explained(error, hub_name).detail}; {how_to_fetch(name)}"
        ) from None
    except Exception as error:  # noqa: BLE001  timm raises of every kind
        raise ConfigError(
            f"encoder {name}: timm cannot build {entry.timm!r}: {first_line(error)}"
        ) from None


def _layer(name: str, layer: object) -> Callable[..., nn.Module]:
    """A layer of timm's by its name; for other arguments than `mlp_layer` timm looks them up itself."""
    import timm.layers

    found: Any = getattr(timm.layers, str(layer), None)
    made = found.func if isinstance(found, partial) else found
    if not isinstance(made, type) or not issubclass(made, nn.Module):
        raise ConfigError(f"encoder {name}: timm.layers has no layer {layer!r}")
    return found


def _made_by_timm(name: str, entry: EncoderConfig, device: torch.device) -> tuple[nn.Module, str]:
    """The model with the weights that timm gives it, or random ones, the same each time; and their digest."""
    with torch.random.fork_rng(), device:
        torch.manual_seed(0)
        bare = _create(name, entry, pretrained=entry.weights == "timm")
    return bare, weights_digest(bare.state_dict())


def _weights_file(name: str, entry: EncoderConfig) -> Path:
    if entry.hub is None:
        return given_path(name, entry.weights)
    wanted = [entry.hub.file] if entry.hub.file else WEIGHTS_FILES
    try:
        return bring(Repository(entry.hub.repository, entry.hub.revision), wanted)
    except HubError as error:
        raise ConfigError(f"encoder {name}: {error.detail}; {how_to_fetch(name)}") from None


def _loaded(
    name: str, entry: EncoderConfig, shell: nn.Module, path: Path, device: torch.device
) -> tuple[nn.Module, str]:
    """The model with the weights of a file, and their digest, which is computed while they are copied."""
    tensors = read_weights(path, shell, entry.keys)
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(weights_digest, tensors)
        bare = _create(name, entry) if _computes_tensors(shell) else shell.to_empty(device=device)
        bare.load_state_dict(tensors)
        return bare, digest.result()


def _computes_tensors(model: nn.Module) -> bool:
    """Whether timm makes tensors that no weights file holds, such as tables of positions: then memory is not enough."""
    held = model.state_dict().keys()
    others = (value for module in model.modules() for value in vars(module).values())
    return any(name not in held for name, _ in model.named_buffers()) or any(
        isinstance(v, Tensor) for v in others
    )


def _normalisation(
    entry: EncoderConfig, bare: nn.Module
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if entry.mean and entry.std:
        return entry.mean, entry.std
    from timm.data.config import resolve_data_config

    known: dict[str, Any] = resolve_data_config({}, model=bare)
    return tuple(entry.mean or known["mean"]), tuple(entry.std or known["std"])


def _revision(entry: EncoderConfig, path: Path | None) -> str:
    """What was loaded, as people write it: for the hub the commit that was got, whether the entry names one or not."""
    if entry.hub is None or path is None:
        return entry.timm
    return entry.hub._replace(revision=commit_of(path) or entry.hub.revision).pinned
