"""Where to compute."""

import torch

from mil.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of a name: `auto` is the GPU if there is one.

    Raises:
        ConfigError: `cuda` is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device here; leave out --device, or say --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
