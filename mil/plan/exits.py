"""Errors while the workflow is read: one line, without the workflow's own trace."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mil.config.slide_encoders import load_slide_encoder
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
        stain_norm: Method of the bags that are still to be made, or `none`.

    Raises:
        ConfigError: It is not installed.
    """
    is_here = _jobs_run_here(deployment, shared)
    missing = missing_stain_package(stain_norm) if is_here else ""
    if missing:
        raise ConfigError(f"config: features.{missing}")


def require_slide_weights(
    deployment: Iterable[object], shared: Iterable[object], names: Sequence[str]
) -> None:
    """Check that weights of slide encoders can be had, before hours of features.

    The hub is asked for weights that are not on this disk.

    Args:
        deployment: Snakemake's methods of deployment for this run, as above.
        shared: What this machine shares with those of the jobs, as above.
        names: Published slide encoders of which vectors are still to be made.

    Raises:
        ConfigError: The weights of one cannot be had.
    """
    if not names or not _jobs_run_here(deployment, shared):
        return
    # Here, because most runs have none.
    from mil.slide_encoders.availability import slide_weights_status

    for name in names:
        status = slide_weights_status(name, load_slide_encoder(name), in_run=True)
        if not status.available:
            raise ConfigError(
                f"config: slide_encoder: {name}: its weights are not available: {status.message}"
            )


def _jobs_run_here(deployment: Iterable[object], shared: Iterable[object]) -> bool:
    """Whether jobs have the packages and files of this machine."""
    return "software-deployment" in map(str, shared) and "apptainer" not in map(str, deployment)


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
