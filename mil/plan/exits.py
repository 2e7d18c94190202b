"""Errors while the workflow is read: one line, without the workflow's own trace."""

from collections.abc import Iterator
from contextlib import contextmanager

from mil.errors import MilError


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with one line for an error that a user can mend, as the commands do.

    Snakemake would print the rules' file and line around any other exception.

    Raises:
        SystemExit: The block raised a `MilError`, or the system refused a path.
    """
    try:
        yield
    except MilError as error:
        raise SystemExit(f"mil: {error}") from None
    except OSError as error:
        if error.filename is None:
            raise
        raise SystemExit(f"mil: {' '.join(str(error).split())}") from None
