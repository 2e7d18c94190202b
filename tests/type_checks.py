"""Types and shapes of `mil`'s functions, checked once at each call.

pytest's option `--jaxtyping-packages` decorates every function of its packages with
`jaxtyping.jaxtyped(typechecker=beartype.beartype)`. That checks the arguments of a call twice and
binds them to the signature once more, for its messages: a third of a training's time. It also
compiles checks for a function inside another one anew at each call of the outer one, which takes
milliseconds, and a lock: a process that is forked meanwhile waits for that lock for ever. What
stands here in its place checks the same, arguments and result once each.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype.door import die_if_unbearable

FULL = jaxtyping.jaxtyped


def jaxtyped(function: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Decorator in place of `jaxtyping.jaxtyped`."""
    if function is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if not inspect.isfunction(function):
        return FULL(function, typechecker=typechecker)
    if not function.__annotations__:
        return function
    if "<locals>" in function.__qualname__:
        return _uncompiled(function)
    if inspect.isgeneratorfunction(function) or _names_what_is_not_imported(function):
        return FULL(function, typechecker=typechecker)
    return _in_its_own_scope(function, typechecker(function))


def _names_what_is_not_imported(function: Callable[..., Any]) -> bool:
    """Whether an annotation names a type that only type checkers import."""
    texts = [hint for hint in function.__annotations__.values() if isinstance(hint, str)]
    return any(hint not in function.__globals__ for hint in texts)


def _in_its_own_scope(function: Callable[..., Any], checked: Callable[..., Any]) -> Any:
    """Names of axes mean the same within a call, and nothing outside it."""

    @functools.wraps(function)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with FULL("context"):
            return checked(*args, **kwargs)

    return scoped


def _uncompiled(function: Callable[..., Any]) -> Any:
    """A function inside another one, checked by annotations whose checks are kept."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]

    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in [*zip(names, args, strict=False), *kwargs.items()]:
            _check(function, name, value)
        result = function(*args, **kwargs)
        _check(function, "return", result)
        return result

    return _in_its_own_scope(function, checked)


def _check(function: Callable[..., Any], name: str, value: Any) -> None:
    if name in function.__annotations__:
        die_if_unbearable(value, function.__annotations__[name])


def install() -> None:
    """Let modules of `mil` that are imported from now on be checked by `jaxtyped` above."""
    jaxtyping.jaxtyped = jaxtyped
