"""Checkpoints of other codes: tensors and plain values are read, no class of theirs is run.

`torch.load` with `weights_only` builds tensors and plain containers, and refuses every
class that is not on its list. Checkpoints of ACMIL and AEM hold one such class, with the
settings of the training, so a class without any code of its own is put on that list in
its place.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor

from mil.errors import FormatError

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
    """Stands in for a number of NumPy, whose value is not needed."""

    __slots__ = ()

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _class_named(path: str, base: type) -> Any:
    """Class that torch takes for another one, because it compares names only.

    Args:
        path: module and name of the other class.
        base: stand-in that does the work.
    """
    module, _, name = path.rpartition(".")
    return type(name, (base,), {"__slots__": (), "__module__": module})


# All classes that a checkpoint may hold besides those that torch allows by itself. NumPy
# moved its numbers from `core` to `_core` in version 2.
_STAND_INS = [
    _class_named("utils.utils.Struct", _StandInSettings),
    _class_named("numpy.core.multiarray.scalar", _StandInNumber),
    _class_named("numpy._core.multiarray.scalar", _StandInNumber),
    _class_named("numpy.dtype", _StandInNumber),
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
    zipped = is_zipfile(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipped:
            _check_not_compressed(path)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in as many ways as there are instructions
        raise FormatError(f"{path}: {_reason(error)}") from None


def _check_not_compressed(path: Path) -> None:
    """Refuse a compressed archive: torch writes none, and it could unpack to any size."""
    with ZipFile(path) as archive:
        if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
            raise BadZipFile("it is a compressed archive")


def _reason(error: BaseException) -> str:
    """Why torch refused a file, in the user's words."""
    text = " ".join(str(error).split())
    if refused_class := re.search(r"GLOBAL (\S+)", text):
        return (
            f"reading it would run {refused_class[1][:MAX_QUOTED]}, which is never done with a "
            "file from elsewhere; save the model's state_dict() alone and import that"
        )
    gist = text.rpartition("WeightsUnpickler error: ")[2]
    gist = gist.partition(" Check the documentation")[0][:MAX_QUOTED]
    # An error of one word is a key or a number, which helps nobody.
    detail = f" ({gist})" if " " in gist else ""
    return f"not a checkpoint saved by torch, cut short or damaged{detail}"


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
