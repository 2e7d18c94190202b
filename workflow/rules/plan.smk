# The checked plan of the run, and patterns of the wildcards.
import re
from pathlib import Path

from mil.plan import locks
from mil.plan.exits import exit_on_error, require_writable_folder
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
    REFRESHED = PLAN.refresh_tables()
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


# Only for `--sdm apptainer`: put an image here in which this package is installed.
container: "docker://python:3.12-slim"


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
