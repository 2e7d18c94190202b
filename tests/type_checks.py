"""Types and shapes of `mil`'s functions, checked once at each call.

pytest's option `--jaxtyping-packages` decorates every function of its packages with
`jaxtyping.jaxtyped(typechecker=beartype.beartype)`. That checks the arguments of a call twice and
binds them to the signature once more, for its messages: a third of a training's time. What
stands here in its place checks arguments and result once each, in a scope of their own for the
names of axes.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping

FULL = jaxtyping.jaxtyped


def jaxtyped(function: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Decorator in place of `jaxtyping.jaxtyped`, for functions that are not generators."""
    if function is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if not inspect.isfunction(function) or inspect.isgeneratorfunction(function):
        return FULL(function, typechecker=typechecker)
    checked = typechecker(function)
    if checked is function:  # nothing is annotated
        return function

    @functools.wraps(function)
    def in_its_own_scope(*args: Any, **kwargs: Any) -> Any:
        with FULL("context"):
            return checked(*args, **kwargs)

    return in_its_own_scope


def install() -> None:
    """Let modules of `mil` that are imported from now on be checked by `jaxtyped` above."""
    jaxtyping.jaxtyped = jaxtyped
