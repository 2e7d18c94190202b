"""Jobs on AWS Batch: `python -m mil.plan.cloud.aws_batch`.

Variables: MIL_JOB_QUEUE, name of the queue; MIL_GPU_QUEUE, another for jobs that ask for a
GPU; MIL_JOB_DEFINITION, a job definition with the image and the shared volume. Region and
credentials are those of every client of AWS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mil.errors import ConfigError
from mil.plan.cloud.service import NoAnswerError, Request, State, required, serve

STATES: dict[str, State] = {"SUCCEEDED": "success", "FAILED": "failed"}


@dataclass(frozen=True)
class AwsBatch:
    """Queues of a region.

    Attributes:
        queue: Queue of the jobs.
        gpu_queue: Queue of the jobs that ask for a GPU.
        definition: Job definition: image, volume, roles.
    """

    queue: str
    gpu_queue: str
    definition: str

    @cached_property
    def client(self) -> Any:
        """Client of the service.

        Raises:
            ConfigError: No region is set.
        """
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        try:
            return get_session().create_client("batch")
        except BotoCoreError as error:
            raise ConfigError(f"AWS Batch: {_one_line(error)}") from None

    def submit(self, request: Request) -> str:
        """Submit a job; its id.

        Raises:
            ConfigError: The service refused it.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self.client.submit_job(**self.parameters(request))
        except (BotoCoreError, ClientError) as error:
            raise ConfigError(f"AWS Batch: {_one_line(error)}") from None
        return str(answer["jobId"])

    def parameters(self, request: Request) -> dict[str, Any]:
        """The job as SubmitJob takes it."""
        asked = {"VCPU": request.cores, "MEMORY": request.memory_mb, "GPU": request.gpus}
        needs = [{"type": name, "value": str(value)} for name, value in asked.items() if value]
        return {
            "jobName": f"mil-{request.rule}",
            "jobQueue": self.gpu_queue if request.gpus else self.queue,
            "jobDefinition": self.definition,
            "containerOverrides": {
                "command": ["/bin/bash", str(request.script)],
                "resourceRequirements": needs,
            },
            "timeout": {"attemptDurationSeconds": request.minutes * 60},
            # A job that failed is tried again by Snakemake, which counts.
            "retryStrategy": {"attempts": 1},
        }

    def state(self, job: str) -> State:
        """State of a job; one that the service has forgotten has failed.

        Raises:
            NoAnswerError: The service did not answer.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            jobs = self.client.describe_jobs(jobs=[job])["jobs"]
        except (BotoCoreError, ClientError) as error:
            raise NoAnswerError(f"AWS Batch: {_one_line(error)}") from None
        return STATES.get(jobs[0]["status"], "running") if jobs else "failed"

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs, those that wait too.

        Raises:
            ConfigError: The service refused it.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            for job in jobs:
                self.client.terminate_job(jobId=job, reason="ended by Snakemake")
        except (BotoCoreError, ClientError) as error:
            raise ConfigError(f"AWS Batch: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def connect(environment: Mapping[str, str]) -> AwsBatch:
    """The service by the variables of the environment.

    Raises:
        ConfigError: A variable is not set.
    """
    queue = required(environment, "MIL_JOB_QUEUE", "QUEUE, a job queue of AWS Batch")
    definition = required(
        environment, "MIL_JOB_DEFINITION", "NAME, a job definition with image and volume"
    )
    return AwsBatch(queue, environment.get("MIL_GPU_QUEUE") or queue, definition)


if __name__ == "__main__":
    serve(connect)
