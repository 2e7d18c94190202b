"""Plug-ins of Snakemake that a profile needs, asked for before Snakemake starts."""

from importlib.util import find_spec


def require_executor(name: str) -> None:
    """End the process with one line where Snakemake has no executor of that name.

    Args:
        name: Name of the executor, such as `slurm`.

    Raises:
        SystemExit: Its plug-in is not installed. A profile's definitions turn any other
            error into Snakemake's own words.
    """
    if find_spec(f"snakemake_executor_plugin_{name}") is None:
        raise SystemExit(
            f"mil: this profile needs Snakemake's plug-in for {name}, which is not installed: "
            f"pip install snakemake-executor-plugin-{name}"
        )
