"""timm's models with what entries add to them; the only place that calls `timm.create_model`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from mil.config import EncoderConfig
from mil.config.encoders import HUB_PREFIXES
from mil.encoders.availability import fetch_advice, hub_repository
from mil.encoders.hub import Repository, hub_error
from mil.encoders.projection import projection_of
from mil.encoders.stem import STEMS
from mil.encoders.timm_import import import_timm
from mil.errors import ConfigError, first_line


def create_model(name: str, entry: EncoderConfig, *, pretrained: bool = False) -> nn.Module:
    """A model as timm builds it, with the stem and the projection of its entry.

    Args:
        name: Name of the encoder's entry.
        entry: Entry of configs/encoders.yaml.
        pretrained: Whether timm loads its own weights.

    Raises:
        ConfigError: timm cannot build the model, or its weights cannot be had.
    """
    timm = import_timm()
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    args: dict[str, Any] = dict(entry.args)
    if "mlp_layer" in args:
        args["mlp_layer"] = _timm_layer(name, args["mlp_layer"])
    if "embed_layer" in args:
        args["embed_layer"] = _stem(name, args["embed_layer"])
    try:
        bare = timm.create_model(entry.timm, pretrained=pretrained, num_classes=0, **args)
    except (HfHubHTTPError, EntryNotFoundError, ConnectionError) as error:
        if entry.timm.startswith(HUB_PREFIXES):
            repository = hub_repository(entry.timm)
        else:
            repository = Repository(f"timm/{entry.timm}")
        message = hub_error(error, repository).message
        raise ConfigError(f"encoder {name}: {message}; {fetch_advice(name)}") from None
    except Exception as error:  # noqa: BLE001  timm raises errors of every class
        raise ConfigError(
            f"encoder {name}: timm cannot build {entry.timm!r}: {first_line(error)}"
        ) from None
    projection = projection_of(entry, bare.num_features)
    if projection is not None:
        # Part of the model, so that its tensors are loaded with the others.
        bare.projection = projection
    return bare


def _stem(name: str, layer: object) -> type[nn.Module]:
    """A module of `mil.encoders.stem` by its name."""
    if str(layer) not in STEMS:
        raise ConfigError(
            f"encoder {name}: no stem {layer!r} for embed_layer; there are: {', '.join(STEMS)}"
        )
    return STEMS[str(layer)]


def _timm_layer(name: str, layer: object) -> Callable[..., nn.Module]:
    """A layer of `timm.layers` by its name; other arguments timm looks up itself."""
    constructor: Any = getattr(import_timm().layers, str(layer), None)
    # Some layers, such as SwiGLUPacked, are partials of a class.
    layer_class = constructor.func if isinstance(constructor, partial) else constructor
    if not isinstance(layer_class, type) or not issubclass(layer_class, nn.Module):
        raise ConfigError(f"encoder {name}: timm.layers has no layer {layer!r}")
    return constructor
