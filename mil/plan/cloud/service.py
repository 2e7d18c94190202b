"""A service that runs jobs: what Snakemake asks of it, and its answers in Snakemake's words.

Jobs share one volume with the run. A job makes the files of many slides, of which Snakemake
knows only a table: a store that fetches and keeps the declared files alone would lose them.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mil.errors import ConfigError, MilError

# The words of `cluster-generic` for the state of a job.
State = Literal["running", "success", "failed"]


@dataclass(frozen=True)
class Request:
    """A job that Snakemake asks for.

    Attributes:
        script: File that runs the job; it lies on the shared volume.
        rule: Name of its rule.
        cores: Number of cores.
        memory_mb: Memory, megabytes.
        minutes: Longest run time, minutes.
        gpus: Number of GPUs; 0: none is asked for.
    """

    script: Path
    rule: str
    cores: int
    memory_mb: int
    minutes: int
    gpus: int


class Service(Protocol):
    """Something that runs jobs."""

    def submit(self, request: Request) -> str:
        """Start a job; its id."""

    def state(self, job: str) -> State:
        """State of a job; one that the service has forgotten has failed."""

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs."""


class NoAnswerError(MilError):
    """The service did not answer; it may the next time."""


def serve(
    connect: Callable[[Mapping[str, str]], Service], arguments: Sequence[str] | None = None
) -> None:
    """Do what Snakemake asks for: `submit`, `status` or `cancel`.

    Args:
        connect: Function from variables of the environment to the service.
        arguments: Words of the command; None: those of the process.

    Raises:
        SystemExit: The request cannot be served, in one line.
    """
    words = _parser().parse_args(arguments)
    try:
        service = connect(os.environ)
        if words.action == "submit":
            print(service.submit(_request(words)))
        elif words.action == "status":
            print(_state(service, words.job))
        else:
            service.cancel(words.jobs)
    except MilError as error:
        raise SystemExit(f"mil: {error}") from None


def check(connect: Callable[[Mapping[str, str]], Service]) -> None:
    """End the process with one line where the environment names no service.

    Args:
        connect: Function from variables of the environment to the service.

    Raises:
        SystemExit: A variable is missing. A profile's definitions turn any other error into
            Snakemake's own words.
    """
    try:
        connect(os.environ)
    except MilError as error:
        raise SystemExit(f"mil: {error}") from None


def _state(service: Service, job: str) -> State:
    """State of a job; without an answer, it runs: Snakemake would give up the whole run."""
    try:
        return service.state(job)
    except NoAnswerError as error:
        print(f"mil: {error}; asked again later", file=sys.stderr)
        return "running"


def _request(words: argparse.Namespace) -> Request:
    return Request(
        script=words.script.absolute(),
        rule=words.rule,
        cores=max(1, words.cores),
        memory_mb=words.memory_mb,
        minutes=words.minutes,
        gpus=words.gpus,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    submit = actions.add_parser("submit", help="start a job and print its id")
    submit.add_argument("--rule", required=True, help="name of the rule")
    for name, unit in (("cores", ""), ("memory-mb", ", MB"), ("minutes", ""), ("gpus", "")):
        submit.add_argument(f"--{name}", type=int, required=True, help=f"{name}{unit}")
    submit.add_argument("script", type=Path, help="file that runs the job")
    status = actions.add_parser("status", help="print running, success or failed")
    status.add_argument("job", help="id of a job")
    cancel = actions.add_parser("cancel", help="end jobs")
    cancel.add_argument("jobs", nargs="+", help="ids of jobs")
    return parser


def required(environment: Mapping[str, str], name: str, meaning: str) -> str:
    """Value of a variable of the environment.

    Args:
        environment: Variables.
        name: Name of the variable.
        meaning: Noun phrase for the message.

    Raises:
        ConfigError: It is not set.
    """
    value = environment.get(name, "").strip()
    if not value:
        raise ConfigError(f"{name} is not set; export {name}={meaning}")
    return value
