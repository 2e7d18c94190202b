"""Where timm's own models have their weights. Imports torch, and so only when such an encoder is not in the cache."""

from timm.models import get_pretrained_cfg, is_model


def where(name: str) -> tuple[str, str, str]:
    """Repository on the hub, file there if it has a name of its own, and address elsewhere; empty where there is none.

    Raises:
        ValueError: timm does not know the model.
    """
    if not is_model(name):
        raise ValueError(f"timm knows no model {name!r}")
    try:
        known = get_pretrained_cfg(name)
    except RuntimeError as error:  # the model exists, but not with this tag
        raise ValueError(f"timm: {error}") from None
    if known is None:
        return "", "", ""
    return known.hf_hub_id or "", known.hf_hub_filename or "", str(known.url or "")
