"""MIL heads, one file each, found by file name: bags in, one `HeadOutput` out."""

from importlib import import_module
from typing import Any

from torch import nn

from mil.config import checked, head_names
from mil.errors import ConfigError, unknown_name


def build_head(name: str, options: dict[str, Any], *, dim: int, classes: int) -> nn.Module:
    """Build a head.

    Args:
        name: a file of this folder.
        options: what the head's `Config` allows.
        dim: length of a tile's feature vector.
        classes: number of classes.

    Raises:
        ConfigError: there is no such head, or it does not know an option.
    """
    if name not in head_names():
        raise ConfigError(unknown_name("head", name, head_names()))
    module = import_module(f"mil.heads.{name}")
    head: nn.Module = module.Head(checked(module.Config, options, f"head {name}: options"), dim, classes)
    return head
