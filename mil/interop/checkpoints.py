"""Checkpoints of strangers: tensors and plain values are taken out of them, no class of theirs is ever made."""

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

LARGEST_BYTES = 1 << 30  # a head with its optimiser is some megabytes
INSIDE = ("model", "state_dict", "model_state_dict")  # where tools put the tensors


class _Settings:
    """Stands for a class whose attributes are wanted: keeps them, runs nothing."""

    __slots__ = ("said",)

    def __setstate__(self, state: Any) -> None:
        self.said = state


class _Passed:
    """Stands for a number of NumPy's, whose value is not needed."""

    __slots__ = ()

    def __init__(self, *given: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _named(path: str, kind: type) -> Any:
    """A class that torch takes for the one of that path, since it goes by the name."""
    module, _, name = path.rpartition(".")
    return type(name, (kind,), {"__slots__": (), "__module__": module})


# All that may stand in a checkpoint besides what torch allows by itself. The first
# holds the settings in the files of ACMIL and AEM.
_STAND_INS = [
    _named("utils.utils.Struct", _Settings),
    *(
        _named(f"numpy.{path}", _Passed)
        for path in ("core.multiarray.scalar", "_core.multiarray.scalar", "dtype")
    ),
]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What is taken from a file; nothing in `config` has been checked."""

    tensors: dict[str, Tensor]
    epoch: int | None  # from 0
    config: dict[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a state dict, alone or in a dict beside `epoch` and `config`.

    Raises:
        FormatError: it is something else, would have to be unpickled, claims more than
            it holds, or holds NaN.
    """
    if path.is_dir():
        raise FormatError(f"{path}: is a folder; give the checkpoint's file in it")
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise FormatError(
            f"{path}: {size / 1e9:.1f} GB, which is no checkpoint of a head; those have some MB"
        )
    whole = _loaded(path)
    if not isinstance(whole, Mapping):
        raise FormatError(
            f"{path}: holds a {type(whole).__name__}, not the named tensors of a head"
        )
    tensors = next((whole[key] for key in INSIDE if isinstance(whole.get(key), Mapping)), whole)
    _check(tensors, size, path)
    epoch = whole.get("epoch")
    return Checkpoint(
        dict(tensors), epoch if type(epoch) is int else None, _config(whole.get("config"))
    )


def _config(found: Any) -> dict[str, Any]:
    said = getattr(found, "said", None) if isinstance(found, _Settings) else found
    return (
        {key: value for key, value in said.items() if isinstance(key, str)}
        if isinstance(said, dict)
        else {}
    )


def _loaded(path: Path) -> Any:
    zipped = is_zipfile(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipped:
            _check_stored(path)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in as many ways as there are instructions
        raise FormatError(f"{path}: {_reason(error)}") from None


def _check_stored(path: Path) -> None:
    """Torch compresses nothing, and what is compressed could unpack to any size."""
    with ZipFile(path) as archive:
        if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
            raise BadZipFile("it is a compressed archive")


def _reason(error: BaseException) -> str:
    said = " ".join(str(error).split())
    if named := re.search(r"GLOBAL (\S+)", said):
        return (
            f"reading it would run {named[1][:80]}, which is never done with a stranger's file; "
            "save the model's state_dict() alone and import that"
        )
    gist = said.rpartition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0][
        :80
    ]
    known = (
        f" ({gist})" if " " in gist else ""
    )  # an error of one word, such as a number, says nothing
    return f"not a checkpoint saved by torch, cut short or damaged{known}"


def _check(tensors: Mapping[Any, Any], size: int, path: Path) -> None:
    """Whether all are tensors of finite numbers that the file has room for."""
    for name, tensor in tensors.items():
        where = f"{path}: {str(name)[:80]!r}"
        if not isinstance(tensor, Tensor):
            raise FormatError(f"{where} is of type {type(tensor).__name__}, not a tensor of a head")
        if not isinstance(name, str):
            raise FormatError(f"{where} is no name of a tensor")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise FormatError(f"{where} is not a plain tensor")
    # A tensor may claim one number of the file for all its places; copied out it would
    # have any size.
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > size:
        raise FormatError(f"{path}: its tensors claim more numbers than the file has")
    bad = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
    if bad is not None:
        raise FormatError(f"{path}: {bad!r} holds NaN or infinity")
