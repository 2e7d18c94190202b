"""Errors while the workflow is read: one line, without the workflow's own trace."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mil.errors import ConfigError, MilError


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


def require_writable_folder(folder: Path) -> None:
    """Check that a run can write into the folder that it is started in.

    Args:
        folder: Folder of the run.

    Raises:
        ConfigError: It cannot. Snakemake would end in a traceback.
    """
    for name in (".snakemake", "results", "logs"):
        path = folder / name
        # A folder that does not exist yet is made in this one.
        if not os.access(path if path.exists() else folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{path.absolute()}: cannot be written to; a run writes results, logs and records "
                "into the folder that it is started in: start it elsewhere, with -s PATH/Snakefile"
            )


def require_container(deployment: Iterable[object], image: str) -> None:
    """Check that the image of a run in containers is there.

    Args:
        deployment: Snakemake's methods of deployment for this run; `apptainer` needs an image.
        image: File or address of an image.

    Raises:
        ConfigError: The file does not exist.
    """
    if "apptainer" in map(str, deployment) and "://" not in image and not Path(image).is_file():
        raise ConfigError(
            f"container={image}: no such file, which --sdm apptainer needs; no image of mil is "
            "published: build one (docs/how-to/cluster.md#container), then --config container=FILE"
        )
