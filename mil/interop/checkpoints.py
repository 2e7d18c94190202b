"""Checkpoints of other codes: tensors and plain values are read, no class of theirs is run.

Checkpoints of ACMIL and AEM hold a class with the settings of the training, so a class
without any code of its own is read in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mil.errors import FormatError, brief
from mil.interop.torch_file import NUMPY_MODULES, load_untrusted, named

# A head with its optimiser has some megabytes.
MAX_BYTES = 1 << 30
# Keys under which published codes keep the tensors of a head.
STATE_DICT_KEYS = ("model", "state_dict", "model_state_dict")
# Characters of an untrusted text that a message repeats.
MAX_QUOTED = 80


class _StandInSettings:
    """Stands in for a class of settings: keeps the attributes, runs nothing."""

    __slots__ = ("attributes",)

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _StandInNumber:
    """Stands in for a number or an array of NumPy, whose values are not needed."""

    __slots__ = ()

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _stand_in(path: str, base: type) -> Any:
    """Class that torch takes for another one; `base` does the work."""
    return named(path, type(path, (base,), {"__slots__": ()}))


# All classes that a checkpoint may hold besides those that torch allows by itself.
_STAND_INS = [
    _stand_in("utils.utils.Struct", _StandInSettings),
    _stand_in("numpy.dtype", _StandInNumber),
    _stand_in("numpy.ndarray", _StandInNumber),
    *(_stand_in(f"{module}.scalar", _StandInNumber) for module in NUMPY_MODULES),
    *(_stand_in(f"{module}._reconstruct", _StandInNumber) for module in NUMPY_MODULES),
]


@dataclass(frozen=True, eq=False)
class ExternalCheckpoint:
    """Content of another code's checkpoint.

    Attributes:
        tensors: the state dict.
        epoch: number of the epoch, from 0; None if the file does not have it.
        settings: settings of the training, of any type and not checked.
    """

    tensors: Mapping[str, Tensor]
    epoch: int | None
    settings: Mapping[str, object]


def read_checkpoint(path: Path) -> ExternalCheckpoint:
    """Read a state dict, alone or in a dict beside `epoch` and `config`.

    Raises:
        FormatError: it is something else, would have to be unpickled, claims more
            numbers than it holds, or holds NaN.
    """
    if path.is_dir():
        raise FormatError(f"{path}: is a folder; give the checkpoint's file in it")
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FormatError(
            f"{path}: {size / 1e9:.1f} GB, which is no checkpoint of a head; those have some MB"
        )
    content = _load(path)
    if not isinstance(content, Mapping):
        raise FormatError(
            f"{path}: holds a {type(content).__name__}, not the named tensors of a head"
        )
    nested = (content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping))
    tensors = next(nested, content)
    _check_tensors(tensors, size, path)
    epoch = content.get("epoch")
    return ExternalCheckpoint(
        tensors=dict(tensors),
        # Not isinstance: True is an int too.
        epoch=epoch if type(epoch) is int else None,
        settings=_settings(content.get("config")),
    )


def _settings(config: object) -> Mapping[str, object]:
    """Settings by name; none if the file keeps them in a form that is not known."""
    values = config
    if isinstance(config, _StandInSettings):
        # The attributes are missing where the pickle never set any.
        values = getattr(config, "attributes", None)
    if not isinstance(values, dict):
        return {}
    return {key: value for key, value in values.items() if isinstance(key, str)}


def _load(path: Path) -> Any:
    if path.suffix != ".safetensors":
        return load_untrusted(path, _STAND_INS, mmap=True)
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = brief(error)
        raise FormatError(f"{path}: not a file of safetensors, or damaged ({reason})") from None


def _check_tensors(tensors: Mapping[Any, Any], size: int, path: Path) -> None:
    """Check that all values are tensors of finite numbers that the file has room for.

    Args:
        tensors: the state dict, not checked yet.
        size: size of the file, bytes.
        path: the file, for messages.
    """
    for name, tensor in tensors.items():
        location = f"{path}: {str(name)[:MAX_QUOTED]!r}"
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise FormatError(f"{location} is of type {kind}, not a tensor of a head")
        if not isinstance(name, str):
            raise FormatError(f"{location} is no name of a tensor")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise FormatError(f"{location} is not a plain tensor")
    # By its strides a tensor may claim one number of the file for all its elements;
    # copied out it would have any size.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > size:
        raise FormatError(f"{path}: its tensors claim more numbers than the file has")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise FormatError(f"{path}: {name!r} holds NaN or infinity")
