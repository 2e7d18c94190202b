"""Import of timm without torch's compiler, which costs four times as much as timm itself.

torchvision, which timm imports, asks `torch._dynamo.utils` for one function; timm marks two
functions by `torch.compiler.disable`. Both import the whole compiler, and neither needs it until
a model is compiled.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

import torch.compiler

UTILS = "torch._dynamo.utils"


def import_timm() -> ModuleType:
    """The package timm, imported without torch's compiler unless that is there already."""
    if "timm" in sys.modules or "torch._dynamo" in sys.modules:
        import timm

        return timm
    with _compiler_put_off():
        import timm

        return timm


@contextmanager
def _compiler_put_off() -> Iterator[None]:
    """Stand-ins, while timm is imported, that fetch the compiler when they are called."""
    utils = ModuleType(UTILS)
    utils.__dict__["is_compile_supported"] = _is_compile_supported
    disable = torch.compiler.disable
    sys.modules[UTILS] = utils
    torch.compiler.disable = _disable_later(disable)
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(UTILS) is utils:
            del sys.modules[UTILS]


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _disable_later(disable: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable` that takes effect once the compiler is there."""

    def decorate(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        if function is None:
            return lambda decorated: decorate(decorated, **options)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            return disable(function, **options)(*args, **kwargs)

        return call

    return decorate
