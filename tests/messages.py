"""Errors that a user can mend are one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def one_line(
    error: type[BaseException], match: str | None = None
) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """Like `pytest.raises`, and the message must be one line.

    Args:
        error: Expected class of the error.
        match: Regular expression that the message contains; None: any message.
    """
    with pytest.raises(error, match=match) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message, message
