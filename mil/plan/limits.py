"""Limits of the jobs that run at a time, which job arrays do not go together with."""

from collections.abc import Collection

from mil.errors import ConfigError

NO_ARRAYS = ("", "none")
# Snakemake has no word for no limit of jobs in a span of time: so many are as good as none.
NO_RATE = 100_000


def check_limits(
    array_jobs: str | None, *, jobs: int | None, rate: int | None, resources: Collection[str]
) -> None:
    """Check that nothing keeps back some of the jobs that become one array.

    Snakemake's plug-in for Slurm submits none of them where it expects more: such a run
    would wait for ever.

    Args:
        array_jobs: Rules whose jobs are submitted as arrays.
        jobs: Largest number of jobs at a time; None: no limit.
        rate: Largest number of jobs in a span of time; None: no limit.
        resources: Names of the resources that all jobs share.

    Raises:
        ConfigError: There are arrays and a limit.
    """
    if array_jobs is None or array_jobs.strip().lower() in NO_ARRAYS:
        return
    limits = [
        *([f"--jobs {jobs}"] if jobs is not None else []),
        *([f"--max-jobs-per-timespan {rate}"] if rate is not None and rate < NO_RATE else []),
        *(f"--resources {name}" for name in resources),
    ]
    if limits:
        raise ConfigError(
            f"{', '.join(limits)}: a limit keeps jobs out of their job array, which then would "
            "never be submitted; leave limits to Slurm (--jobs unlimited, --max-jobs-per-timespan "
            f"{NO_RATE}/1s), or submit no arrays (--slurm-array-jobs none)"
        )
