# Everything the rules share: the checked plan of the run, and patterns of the wildcards.
import hashlib
import re
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mil.config import recipe_path
from mil.errors import MilError
from mil.plan import TILING, make_plan, size_flags
from mil.versions import STAGE_VERSION

try:
    PLAN = make_plan(config)
except MilError as error:
    raise WorkflowError(str(error)) from None

CONFIG = PLAN.config
DATASET = PLAN.dataset
SLIDES = PLAN.slides
SLIDES_DIR = PLAN.slides_dir
ENCODERS = PLAN.encoders
FETCHABLE = PLAN.fetchable
SUMMARY = f"mil summary --dataset {CONFIG.dataset} {PLAN.states}"


# Only for `--sdm apptainer`: put an image here in which this package is installed.
container: "docker://python:3.12-slim"


wildcard_constraints:
    dataset=re.escape(CONFIG.dataset),
    tiling=TILING,
    encoder="|".join(re.escape(name) for name in {**ENCODERS, **PLAN.tilings}),
    head=r"[^/]+",
    slide="|".join(re.escape(name) for name in SLIDES),
    seed=r"\d+",
    fold=r"\d+",
    folds=r"\d+",


# The functions of the rules, by theme.
include: "inputs.smk"
