"""Results in JSON: a file is checked when it is read, and refused in one line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from mil.config import Section
from mil.errors import FormatError, MilError, brief

Model = TypeVar("Model", bound=Section)


def read_as(content: str, path: Path, model: type[Model]) -> Model:
    """Read a JSON file, or refuse it in one line that names the content expected."""
    try:
        return read_checked(path, model)
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path}: no {content} ({reason(error)}); run it again") from None


def read_checked(path: Path, model: type[Model]) -> Model:
    """Read a JSON file as a model.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, has numbers that are not finite, or does not fit the model.
        RecursionError: It is nested too deeply.
    """
    text = path.read_text(encoding="utf-8")
    # JSON has no infinite numbers and no halves of characters, but Python's reader takes both.
    content = json.loads(text, parse_float=finite, parse_constant=finite)
    json.dumps(content, ensure_ascii=False).encode()
    return model.model_validate(content)


def finite(text: str) -> float:
    """Number of a text; a ValueError for one that is infinite or none."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:20]!r} is not a finite number")
    return number


def reason(error: Exception) -> str:
    """One line about why a file cannot be used; of several faults the first."""
    if not isinstance(error, ValidationError):
        return brief(error)
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{place!r} is missing"
    return f"{place}: {fault['msg']}"


@contextmanager
def using_results(*paths: Path) -> Iterator[None]:
    """One line for results that pass every check of their own and still contradict another.

    Such files were edited, or are of different runs: a class that predictions lack, a metric
    of another kind. The error that they caused stays as the cause.

    Args:
        paths: Files or folders that the block computes with.

    Raises:
        FormatError: The block raised an error that names no fault of its own.
    """
    try:
        yield
    except (MilError, OSError):
        raise
    except Exception as error:
        files = ", ".join(map(str, dict.fromkeys(paths)))
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise FormatError(
            f"{files}: cannot be used together ({fault}); if one was edited or is of another run, "
            "run `mil evaluate` and `mil compare` again, else this is a fault of mil: please "
            "report it"
        ) from error
