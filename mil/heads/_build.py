"""Heads by their names: their modules, and heads built with checked options."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint
from operator import index
from typing import Any, SupportsIndex

from torch import nn

from mil.config import Section, check_head, checked
from mil.config.heads import package_of
from mil.errors import ConfigError, MilError, brief

# Classes of the module of a head: name, base class, and that base's name for messages.
REQUIRED_CLASSES = (
    ("Config", Section, "mil.config.Section"),
    ("Head", nn.Module, "torch.nn.Module"),
)

# Words of torch's errors for sizes that cannot be allocated, or not even be counted.
TOO_LARGE = ("memory", "overflow")


def head_module(name: str) -> Any:
    """Module of a head, with its `Config` and its `Head`.

    Raises:
        ConfigError: no head has that name, or the package that provides it is broken.
    """
    return _module(name, check_head(name))


def build_head(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    dim: SupportsIndex,
    classes: SupportsIndex,
) -> nn.Module:
    """Build a head.

    Args:
        name: name of a file of this folder, or of a head that another package provides.
        options: options of the head's `Config`; the others have their defaults.
        dim: length of a tile's feature vector.
        classes: number of classes.

    Raises:
        ConfigError: no head has that name, an option is unknown or out of range, `dim` or
            `classes` is no whole number above 0, or the package that provides the head is
            broken.
    """
    entry = check_head(name)
    width = _positive(dim, f"head {name}: dim")
    num_classes = _positive(classes, f"head {name}: classes")
    module = _module(name, entry)
    config = checked(module.Config, options or {}, f"head {name}: options")
    with plugin_errors(entry), _construction_errors(name):
        head: nn.Module = module.Head(config, width, num_classes)
    return head


def _positive(value: SupportsIndex, name: str) -> int:
    """A whole number above 0; numpy's integers are too."""
    number = 0 if isinstance(value, bool) or not hasattr(value, "__index__") else index(value)
    if number < 1:
        raise ConfigError(f"{name}: a whole number above 0 is needed, not {value!r}")
    return number


@contextmanager
def _construction_errors(name: str) -> Iterator[None]:
    """Name the head in errors of its construction."""
    try:
        yield
    except ConfigError as error:
        # Parts that several heads share do not know which head they are of.
        message = str(error)
        raise ConfigError(
            message if message.startswith("head ") else f"head {name}: {message}"
        ) from None
    except RuntimeError as error:
        message = brief(str(error))
        if not any(word in message for word in TOO_LARGE):
            raise
        raise ConfigError(f"head {name}: too large for this machine: {message}") from None


def _module(name: str, entry: EntryPoint | None) -> Any:
    # A head of `mil` itself; its errors are ours, and keep their traceback.
    if entry is None:
        return import_module(f"mil.heads.{name}")
    with plugin_errors(entry):
        module = entry.load()
    _check_classes(module, name, entry)
    return module


def _check_classes(module: Any, name: str, entry: EntryPoint) -> None:
    """Check that the module of a plugged-in head has its two classes."""
    for class_name, base, base_name in REQUIRED_CLASSES:
        value = getattr(module, class_name, None)
        if not (isinstance(value, type) and issubclass(value, base)):
            raise ConfigError(
                f"head {name} of the package {package_of(entry)}: {entry.value} has no class "
                f"{class_name} that is a {base_name}"
            )


@contextmanager
def plugin_errors(entry: EntryPoint | None) -> Iterator[None]:
    """Turn any error of another package's code into one line that names the package."""
    try:
        yield
    except MilError:
        raise
    except Exception as error:
        if entry is None:
            raise
        message = brief(f"{type(error).__name__}: {error}")
        raise ConfigError(
            f"head {entry.name} of the package {package_of(entry)} does not work: {message}"
        ) from error
