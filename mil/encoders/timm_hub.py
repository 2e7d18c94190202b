"""Where timm's own models have their weights.

A module of its own because it imports timm, and with it torch, which takes seconds:
`availability` imports it only for a model whose weights are not in the cache.
"""

from typing import NamedTuple

from mil.encoders.timm_import import import_timm


class PretrainedSource(NamedTuple):
    """Source of a timm model's weights; a field is empty where timm names none.

    Attributes:
        repository: Repository on the hub.
        file: File in it, if it is not one of the usual names.
        url: Address outside the hub.
    """

    repository: str = ""
    file: str = ""
    url: str = ""


def pretrained_source(model: str) -> PretrainedSource:
    """Source of the weights of a timm model.

    Args:
        model: Name for `timm.create_model`, with or without a tag.

    Raises:
        ValueError: timm has no model, or no tag, of that name.
    """
    models = import_timm().models
    if not models.is_model(model):
        raise ValueError(f"timm has no model {model!r}")
    try:
        config = models.get_pretrained_cfg(model)
    except RuntimeError as error:
        # The model exists, but not with this tag.
        raise ValueError(f"timm: {error}") from None
    if config is None:
        return PretrainedSource()
    return PretrainedSource(
        config.hf_hub_id or "", config.hf_hub_filename or "", str(config.url or "")
    )
