"""Slides of a job on all visible GPUs, which pull them from one list.

Each GPU has a process of its own, which loads the weights once. Threads would not do: the
Python around the reading of tiles holds a lock of the process, and readers for several GPUs
would wait for each other.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

from mil.device import choose_device, visible_gpus
from mil.features.part import FeatureJob, FeatureSettings, encode_slide
from mil.io.part_jobs import Output, SlideResult, pull_jobs, run_jobs
from mil.io.workers import WorkerProcess


def encode_slides(
    jobs: Sequence[FeatureJob], settings: FeatureSettings, num_gpus: int | None = None
) -> Iterator[SlideResult]:
    """Make the bags that are missing or not current.

    One device works in this process, slide after slide. Of several GPUs each takes the
    next slide as soon as it is free, and features are the same.

    Args:
        jobs: Jobs, one for each slide.
        settings: Settings that all slides share.
        num_gpus: Number of GPUs; None: all that are visible.

    Yields:
        A result for each slide, as soon as its bags are there.

    Raises:
        ConfigError: There is no GPU, or fewer than asked for.
    """
    on_gpu = choose_device(settings.device).type == "cuda"
    gpus = visible_gpus(num_gpus) if on_gpu or num_gpus else []
    if min(len(gpus), len(jobs)) <= 1:
        yield from run_jobs("features", jobs, encode_slide)
        return
    environments = {f"GPU {gpu}": {"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[: len(jobs)]}
    yield from encode_in_processes(jobs, settings, environments)


def encode_in_processes(
    jobs: Sequence[FeatureJob],
    settings: FeatureSettings,
    environments: dict[str, dict[str, str]],
) -> Iterator[SlideResult]:
    """Make bags in several processes, which share the threads of the job.

    Args:
        jobs: Jobs, one for each slide.
        settings: Settings that all slides share; `device` is that of each process.
        environments: Environment variables of each process, by its name in messages.

    Yields:
        A result for each slide, as soon as its bags are there.
    """
    threads = max(1, settings.threads // len(environments))
    make = partial(_encode, FeatureSettings(settings.config, threads, settings.device))
    with ExitStack() as stack:
        workers = [
            stack.enter_context(closing(WorkerProcess(name, make, environment)))
            for name, environment in environments.items()
        ]
        yield from pull_jobs("features", jobs, workers)


def _encode(settings: FeatureSettings, job: FeatureJob, stale: Sequence[Output]) -> str:
    # The process's settings keep the encoders that it has built; those of a job came alone.
    return encode_slide(replace(job, settings=settings), stale)
