# The checked plan of the run, and patterns of the wildcards.
import re
from pathlib import Path

from mil.plan import locks
from mil.plan.exits import (
    exit_on_error,
    require_container,
    require_writable_folder,
)
from mil.plan.plan import TILING, make_plan
from mil.versions import STAGE_VERSION

# Jobs that Snakemake runs as processes of their own read these rules too.
if workflow.is_main_process:
    with exit_on_error():
        require_writable_folder(Path())
    locks.continue_after_kill(logger.warning, wait=not workflow.output_settings.dryrun)

with exit_on_error():
    PLAN = make_plan(config)

# Before the files are looked at: tables say what outputs there are.
if workflow.is_main_process:
    PLAN.refresh_tables()

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


with exit_on_error():
    require_container(workflow.deployment_settings.deployment_method, CONFIG.container)


# Used with `--sdm apptainer` alone.
container: CONFIG.container


# Names of this run only: a mistyped target is refused at once, not by a job hours later.
wildcard_constraints:
    dataset=re.escape(CONFIG.dataset),
    tiling=TILING,
    encoder="|".join(re.escape(name) for name in {**PLAN.encoders, **PLAN.tilings}),
    head=r"[^/]+",
    part=r"[0-9]+of[0-9]+",
    seed=r"\d+",
    fold=r"\d+",
    folds=r"\d+",
