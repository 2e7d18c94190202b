"""The demo on a Slurm of one node, compared with a local run: `python -m tests.cluster`.

Exit code 1 if a check failed.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cluster.checks import (
    ENOUGH_MB,
    KILLED_RULE,
    TOO_LITTLE_MB,
    check_arrays,
    check_ends,
    check_memory,
    check_results,
    check_states,
    describe,
)
from tests.cluster.loopback import PACKAGES, Slurm, loopback, missing_programs

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
# Two heads and several lists of slides: `tile`, `features`, `train`, `score` have several jobs.
SLIDES_PER_JOB = {"demo_mini": "{tile: 4, features: 4}", "demo": "{tile: 16, features: 8}"}
ON_SLURM = [
    *["--workflow-profile", "slurm"],
    # There is no accounting here.
    *["--slurm-status-command", "squeue"],
    *["--slurm-init-seconds-before-status-checks", "2"],
    # The node has two processors, and results depend on the threads.
    *["--set-threads", "features=1", "stream=1", "train=1"],
    *[
        "--set-resources",
        f"{KILLED_RULE}:mem_mb={TOO_LITTLE_MB} if attempt == 1 else {ENOUGH_MB}",
    ],
]


def main() -> int:
    options = _options()
    if missing := missing_programs():
        sys.exit(
            f"not installed: {', '.join(missing)}; on Debian or Ubuntu: apt-get install -y "
            f"--no-install-recommends {' '.join(PACKAGES)}"
        )
    with _work_folder(options.keep) as work, loopback(work / "slurm") as slurm:
        (work / "local").mkdir(exist_ok=True)
        local = _run(work / "local", options, ["--cores", "2"], None)
        # Slides are made once.
        shutil.copytree(work / "local/data", work / "cluster/data")
        ended = _run(work / "cluster", options, [*ON_SLURM, *options.further], slurm)
        jobs = slurm.jobs()
        failures = [
            *check_ends({"the local run": local, "the run on Slurm": ended}),
            *check_arrays(jobs),
            *check_memory(jobs),
            *check_states(jobs),
            *check_results(work / "local/results", work / "cluster/results"),
        ]
    print("\n".join(["", *describe(jobs)]))
    for failure in failures:
        print(f"FAILED: {failure}")
    if not failures:
        print("all checks passed")
    return 1 if failures else 0


def _run(
    folder: Path, options: argparse.Namespace, arguments: list[str], slurm: Slurm | None
) -> int:
    """Run the demo in a folder; returns its exit code."""
    device = "auto" if slurm is None else options.device
    config = [
        f"dataset={options.dataset}",
        f"head={options.head}",
        f"slides_per_job={SLIDES_PER_JOB[options.dataset]}",
        f"device={device}",
    ]
    command = [*SNAKEMAKE, *arguments, "--config", *config]
    print(f"\n$ {' '.join(command[2:])}", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=None if slurm is None else slurm.environment, check=False
    )
    print(f"exit code {done.returncode} after {time.monotonic() - began:.0f} s", flush=True)
    return done.returncode


@contextlib.contextmanager
def _work_folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        # The local run of an earlier call is continued, which is soon done.
        for name in ("slurm", "cluster"):
            shutil.rmtree(kept / name, ignore_errors=True)
        yield kept.resolve()
        return
    # Short: a socket's path has at most 107 characters.
    with TemporaryDirectory(prefix="mil-cluster-", dir="/tmp") as folder:
        yield Path(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--dataset", choices=SLIDES_PER_JOB, default="demo_mini")
    parser.add_argument("--head", default="[abmil,acmil]", help="Recipes, as in --config head=.")
    parser.add_argument("--device", default="auto", help="Setting device of the run on Slurm.")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="Folder where all files stay.")
    parser.add_argument(
        "further", nargs="*", help="Further arguments of the run on Slurm, after --."
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
