"""Errors while the workflow is read: one line, without the workflow's own trace."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mil.config.stain import missing_stain_package
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


def require_stain_package(
    deployment: Iterable[object], shared: Iterable[object], stain_norm: str
) -> None:
    """Check that the package of a stain normalisation is here, before hours of work.

    Args:
        deployment: Snakemake's methods of deployment for this run. Jobs in a container, by
            `apptainer`, have packages of their own.
        shared: What this machine shares with those of the jobs, by Snakemake's names; jobs
            of a cloud, in images, do not share its software.
        stain_norm: Method, or `none`.

    Raises:
        ConfigError: It is not installed.
    """
    is_here = "software-deployment" in map(str, shared) and "apptainer" not in map(str, deployment)
    missing = missing_stain_package(stain_norm) if is_here else ""
    if missing:
        raise ConfigError(f"config: features.{missing}")


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
