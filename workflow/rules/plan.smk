# The checked plan of the run, and patterns of the wildcards.
import os
import re
from functools import cache
from pathlib import Path

from mil.config.slide_encoders import published_entry
from mil.plan import locks
from mil.plan.exits import (
    exit_on_error,
    require_container,
    require_slide_weights,
    require_stain_package,
    require_writable_folder,
)
from mil.plan.gpu import asks_for_gpu
from mil.plan.make import make_plan
from mil.plan.part_tables import refresh_part_tables
from mil.plan.plan import TILING
from mil.plan.unmade import slide_encoders_to_load, stain_to_normalise
from mil.versions import STAGE_VERSION

# Tells the jobs of a run whether it asks for GPUs.
GPU_VARIABLE = "MIL_USE_GPU"

# Jobs that Snakemake runs as processes of their own read these rules too.
if workflow.is_main_process:
    with exit_on_error():
        require_writable_folder(Path())
    locks.continue_after_kill(logger.warning, wait=not workflow.output_settings.dryrun)

with exit_on_error():
    PLAN = make_plan(config)

# Before the files are looked at: tables say what outputs there are.
if workflow.is_main_process:
    REFRESHED = refresh_part_tables(PLAN)
    for file in REFRESHED.damaged:
        logger.warning(
            f"{file}: was changed or damaged after it was written; it is made again"
        )

    for line in PLAN.damaged_heads:
        logger.warning(line)

CONFIG = PLAN.config
DATASET = PLAN.dataset
SLIDES = PLAN.slides


def announce_downloads():
    """Say how much will be downloaded, how long that takes and whether the disk holds it."""
    if not PLAN.downloads:
        return
    from mil.fetch.announce import Wanted, announce

    with exit_on_error():
        announce(
            [Wanted(*file) for file in PLAN.downloads],
            PLAN.slides_dir,
            slots=CONFIG.fetch.slots if PLAN.streaming else None,
            say=logger.info,
        )


@cache
def use_gpu():
    """Whether jobs ask for a GPU; not known before Snakemake has its executor."""
    # A job on a cluster is told what was asked for it: a node differs from the machine that submits.
    if not workflow.is_main_process and GPU_VARIABLE in os.environ:
        return os.environ[GPU_VARIABLE] == "1"
    executor = getattr(workflow.executor_plugin, "name", "local")
    asked = asks_for_gpu(CONFIG.device, executor)
    os.environ[GPU_VARIABLE] = "1" if asked else "0"
    return asked


def count_gpus(wildcards):
    """GPUs that a job asks for; None, for which Snakemake leaves the resource out."""
    if use_gpu():
        return 1
    # The submit command of a profile names the resource, which must then be there.
    executor = getattr(workflow.executor_plugin, "name", "local")
    return 0 if executor == "cluster-generic" else None


def count_gpus_to_embed(wildcards):
    """GPUs of a job that embeds: those of `count_gpus` by a published slide encoder, none by others."""
    gpus = count_gpus(wildcards)
    return gpus if published_entry(wildcards.slide_encoder) or gpus is None else 0


# Units of `runtime`.
MINUTE = 1
HOUR = 60


def grow(amount):
    """A resource that doubles with each attempt, for jobs that a scheduler killed; see `retries` of profiles."""
    return lambda wildcards, attempt: amount * 2 ** (attempt - 1)


def memory_to_embed(wildcards, attempt):
    """Memory (MB) of a job that embeds: models that compare tiles take more than heads and statistics."""
    amount = 16000 if published_entry(wildcards.slide_encoder) else 4000
    return grow(amount)(wildcards, attempt)


def runtime_to_embed(wildcards, attempt):
    """Time of a job that embeds: published slide encoders take longer than heads and statistics."""
    hours = 8 if published_entry(wildcards.slide_encoder) else 2
    return grow(hours * HOUR)(wildcards, attempt)


with exit_on_error():
    require_container(workflow.deployment_settings.deployment_method, CONFIG.container)
    if workflow.is_main_process:
        DEPLOYMENT = workflow.deployment_settings.deployment_method
        SHARED = workflow.storage_settings.shared_fs_usage
        require_stain_package(DEPLOYMENT, SHARED, stain_to_normalise(PLAN))
        require_slide_weights(DEPLOYMENT, SHARED, slide_encoders_to_load(PLAN))


# Used with `--sdm apptainer` alone.
container: CONFIG.container


# Encoders whose bags are made from slides, and joined ones, whose bags are made of those.
PLAIN_ENCODERS = "|".join(re.escape(name) for name in PLAN.encoders)
JOINED_ENCODERS = "|".join(re.escape(name) for name in PLAN.joined)


# Names of this run only: a mistyped target is refused at once, not by a job hours later.
wildcard_constraints:
    dataset=re.escape(CONFIG.dataset),
    tiling=TILING,
    encoder="|".join(re.escape(name) for name in {**PLAN.encoders, **PLAN.tilings}),
    head=r"[^/]+",
    slide_encoder=r"[^/]+",
    part=r"[0-9]+of[0-9]+",
    seed=r"\d+",
    fold=r"\d+",
    folds=r"\d+",
