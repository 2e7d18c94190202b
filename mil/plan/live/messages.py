"""Messages of Snakemake that a run does not show; its log file has them all."""

import re
from logging import ERROR, WARNING, LogRecord

# Said of every run, and of nothing that a user can act on.
CHATTER = re.compile(
    "|".join(
        (
            r"Assuming unrestricted shared filesystem",
            r"Building DAG of jobs",
            r"Using shell: ",
            r"Provided (cores|resources|remote nodes): ",
            r"Rules claiming more threads",
            r"(Group jobs|Conda environments|Singularity containers): ",
            r"Select jobs to execute",
            r"Execute \d+ jobs",
            r"Waiting for more resources",
            r"host: ",
            # By Slurm's plug-in, a line a job or an array.
            r"Job \d+ has been submitted",
            r"Submitted array job with",
            r"Cleaning up SLURM log files",
            r"Config file .* is extended by",
            r"Shutting down, this might take",
            r"Elapsed time: ",
            # Of a dry run, about the jobs that it does not list here.
            r"Reasons:\n",
            r"Some jobs were triggered by provenance",
            r"Rules with provenance triggered",
            r"\d+ jobs have (missing|outdated) provenance",
        )
    )
)
# A warning of Slurm's plug-in, a line an array.
WARNED_CHATTER = re.compile(r"Array job submission does not allow for multiple different wildcard")
# Follow the error of a job, which is shown by itself.
AFTERMATH = re.compile(
    r"Exiting because a job execution failed"
    r"|.*At least one job did not complete successfully"
    r"|.*returned non-zero exit status"
    r"|.*died with <Signals",
    re.DOTALL,
)
# Of Snakemake when the user presses Ctrl-C, and of a job that ends by it before that.
BY_USER = re.compile(
    r"Terminating processes on user request|.*(exit status 130\b|SIGINT)", re.DOTALL
)
DRY_RUN = "This was a dry-run"


def is_chatter(record: LogRecord) -> bool:
    """Whether a message of Snakemake is of no use to who runs a study."""
    pattern = CHATTER if record.levelno < WARNING else WARNED_CHATTER
    return pattern.match(str(record.msg)) is not None


def is_aftermath(record: LogRecord) -> bool:
    """Whether an error only follows from that of a job."""
    return record.levelno >= ERROR and AFTERMATH.match(str(record.msg)) is not None
