"""Files of `torch.save` from elsewhere: tensors and plain values are read, no class is run.

`torch.load` with `weights_only` builds tensors and plain containers, and refuses every
class that is not on its list. It compares names only, so that harmless stand-ins can be
put on that list under the names of other classes.
"""

import pickletools
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mil.errors import FormatError, MilError, brief, some
from mil.interop.untrusted import check_feature_shape, finite_rows
from mil.io.guard import SECONDS, run_guarded

# NumPy moved its functions from `core` to `_core` in version 2; both names stand in files.
NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
# Kinds of numbers whose NumPy dtype a file may hold: all of one fixed size.
DTYPE_CODES = "?bBhHiIlLqQefdgFDG"
# Memory that reading a file may take, relative to its size: arrays pickled as text take six
# times theirs.
MEMORY_FACTOR = 6
LEAST_GIGABYTES = 0.5
# Slow network disks give more than this.
BYTES_PER_SECOND = 10e6
# Names in the pickle of a plain tensor, none of which can take memory that it does not have.
PLAIN = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
    *(f"torch {kind}Storage" for kind in ("Half", "BFloat16", "Float", "Double")),
}
PLAIN_BYTES = 64 << 10
# Characters of an untrusted name that a message repeats.
MAX_QUOTED = 200
# Types that NumPy has too; the others become float32, which holds each of their values.
NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def named(path: str, item: Any) -> Any:
    """A function or class that torch takes for another one.

    Args:
        path: module and name of the other one.
        item: stand-in, whose name is changed.
    """
    item.__module__, _, item.__name__ = path.rpartition(".")
    item.__qualname__ = item.__name__
    return item


def _empty_array(path: str) -> Callable[..., Any]:
    def empty_array(*_: Any) -> np.ndarray:
        # Filled by its state: a shape that the file asks for here has no numbers.
        return np.empty(0, np.uint8)

    return named(path, empty_array)


def _scalar(path: str) -> Callable[..., Any]:
    def scalar(dtype: np.dtype, data: bytes) -> Any:
        return np.frombuffer(data, dtype, 1)[0]

    return named(path, scalar)


# All that a pickled array or number of NumPy needs.
_ARRAYS = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in DTYPE_CODES},
    *(_empty_array(f"{module}._reconstruct") for module in NUMPY_MODULES),
    *(_scalar(f"{module}.scalar") for module in NUMPY_MODULES),
]


def load_untrusted(path: Path, allowed: Sequence[Any], *, mmap: bool = False) -> Any:
    """Content of a file that torch saved.

    Unless it holds plain tensors alone, it is read in a guarded process first: a file of
    some hundred bytes can ask for all memory.

    Args:
        path: the file.
        allowed: classes and functions that the file may name besides those of torch.
        mmap: whether tensors stay in the file until they are used.

    Raises:
        FormatError: the file is damaged, names another class, or asks for far more memory
            than its size.
    """
    size = path.stat().st_size
    if not _is_plain(path):
        run_guarded(
            _try_load,
            path,
            allowed,
            mmap,
            path=path,
            seconds=SECONDS + size / BYTES_PER_SECOND,
            gigabytes=LEAST_GIGABYTES + MEMORY_FACTOR * size / 2**30,
        )
    return _load(path, allowed, mmap=mmap)


def _is_plain(path: Path) -> bool:
    """Whether a file certainly holds plain tensors alone; a guarded process takes longer."""
    try:
        with ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            if len(entries) != 1 or entries[0].file_size > PLAIN_BYTES:
                return False
            pickled = archive.read(entries[0])
        names = {arg for code, arg, _ in pickletools.genops(pickled) if code.name == "GLOBAL"}
    # Damage shows itself when torch reads the file.
    except Exception:  # noqa: BLE001  a damaged pickle fails in as many ways as there are instructions
        return False
    return names <= PLAIN


def _try_load(path: Path, allowed: Sequence[Any], mmap: bool) -> None:
    _load(path, allowed, mmap=mmap)


def _load(path: Path, allowed: Sequence[Any], *, mmap: bool) -> Any:
    try:
        zipped = is_zipfile(path)
        if zipped:
            _check_not_compressed(path)
        with (
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(list(allowed)),
        ):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged pickle fails in as many ways as there are instructions
        raise FormatError(f"{path}: {_reason(error)}") from None


def _check_not_compressed(path: Path) -> None:
    """Refuse a compressed archive: torch writes none, and it could unpack to any size."""
    with ZipFile(path) as archive:
        if any(entry.compress_type != ZIP_STORED for entry in archive.infolist()):
            raise BadZipFile("it is a compressed archive")


def _reason(error: BaseException) -> str:
    """Why torch refused a file, in the user's words and without its advice to trust the file."""
    # Whole: the class stands at the end, after advice.
    text = " ".join(str(error).split())
    if refused_class := re.search(r"GLOBAL (\S+)", text):
        return (
            f"reading it would run {refused_class[1][:MAX_QUOTED]}, which is never done with a "
            "file from elsewhere; save the features alone, or of a model the state_dict()"
        )
    gist = text.rpartition("WeightsUnpickler error: ")[2]
    gist = gist.partition(" Check the documentation")[0]
    # An error of one word is a key or a number, which helps nobody.
    detail = f" ({brief(gist)})" if " " in gist else ""
    return f"not a file saved by torch, cut short or damaged{detail}"


def read_pt(path: Path) -> Float[np.ndarray, "tiles dim"]:
    """Features from a .pt file that holds one tensor (CLAM) or one array (TRIDENT) only.

    Raises:
        FormatError: it holds something else, or would have to be unpickled.
    """
    value = load_untrusted(path, _ARRAYS)
    try:
        features = _array(value, path)
        check_feature_shape(features.shape, features.dtype.kind, str(path))
        return finite_rows(features, str(path))
    except MilError:
        raise
    # Kinds of tensors outnumber those known here, and each fails in its own way.
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        reason = brief(error)
        raise FormatError(f"{path}: its tensor cannot be read ({reason})") from None


def _array(value: object, path: Path) -> np.ndarray:
    if isinstance(value, Tensor):
        tensor = value.detach()
        kind = _kind(tensor)
        if kind:
            raise FormatError(
                f"{path}: holds a {kind} tensor, not plain numbers; save it again as a dense "
                "tensor of float32"
            )
        # Strides may claim one number of the file for all elements: copied out it would
        # have any size.
        _check_claim(tensor.numel() * tensor.element_size(), path)
        if tensor.is_floating_point() and tensor.dtype not in NUMPY_FLOATS:
            tensor = tensor.float()
        return tensor.resolve_conj().resolve_neg().numpy()
    if isinstance(value, np.ndarray):
        _check_claim(value.nbytes, path)
        return value
    raise FormatError(
        f"{path}: holds {_described(value)}, not one tensor of features; save that tensor alone"
    )


def _kind(tensor: Tensor) -> str:
    """Kind of a tensor without plain numbers, one for each element; empty for others."""
    kinds = {
        "sparse": tensor.layout != torch.strided,
        "nested": tensor.is_nested,
        "quantised": tensor.is_quantized,
        "meta (empty)": tensor.is_meta,
    }
    return next((kind for kind, applies in kinds.items() if applies), "")


def _check_claim(claimed: int, path: Path) -> None:
    if claimed > path.stat().st_size:
        raise FormatError(
            f"{path}: its tensor claims {claimed / 1e6:.0f} MB, more than the file has; save it "
            "again by torch.save(tensor.contiguous(), FILE)"
        )


def _described(value: object) -> str:
    """Type of a value, with the keys of a dict or the number of a list's entries."""
    name = type(value).__name__
    if isinstance(value, dict):
        keys = [str(key)[:MAX_QUOTED] for key in value if isinstance(key, str)]
        return f"a {name} of {some(keys)}" if keys else f"a {name}"
    if isinstance(value, list | tuple):
        return f"a {name} of {len(value)}"
    return f"a {name}"
