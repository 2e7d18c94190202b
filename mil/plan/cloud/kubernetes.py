"""Jobs on Kubernetes, through `kubectl`: `python -m mil.plan.cloud.kubernetes`.

Variables: MIL_IMAGE, the image with mil in it; MIL_VOLUME, `CLAIM:/PATH`, a volume claim for
many readers and writers and the path where it is mounted in the jobs, as it is here.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mil.errors import ConfigError
from mil.plan.cloud.service import NoAnswerError, Request, State, required, serve

GPU = "nvidia.com/gpu"
# A finished job stays for a day, so that its log can be read.
KEPT_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Kubernetes:
    """A namespace of a cluster, that of kubectl's context.

    Attributes:
        image: Name of the image.
        claim: Name of the volume claim.
        mount: Path of the volume.
    """

    image: str
    claim: str
    mount: str

    def submit(self, request: Request) -> str:
        """Create a Job; its name.

        Raises:
            ConfigError: The script lies outside the volume, or the cluster refused the job.
        """
        if not request.script.is_relative_to(self.mount):
            raise ConfigError(
                f"{request.script}: lies outside {self.mount}, the path in MIL_VOLUME; start the "
                "run in a folder of the volume"
            )
        answer = _kubectl(["create", "-f", "-", "-o", "name"], json.dumps(self.manifest(request)))
        if answer.returncode:
            raise ConfigError(f"kubectl create: {_reason(answer)}")
        return answer.stdout.strip().rpartition("/")[2]

    def manifest(self, request: Request) -> dict[str, Any]:
        """The Job as Kubernetes takes it: one pod, never started again by the cluster."""
        limits = {"memory": f"{request.memory_mb}M"}
        if request.gpus:
            # Of a GPU, request and limit are the same thing.
            limits[GPU] = str(request.gpus)
        container = {
            "name": "mil",
            "image": self.image,
            "command": ["/bin/bash", str(request.script)],
            "workingDir": self.mount,
            "resources": {"requests": {"cpu": str(request.cores), **limits}, "limits": limits},
            "volumeMounts": [{"name": "study", "mountPath": self.mount}],
        }
        pod = {
            "restartPolicy": "Never",
            # Of the pod, not the Job, whose time runs while it waits for a node.
            "activeDeadlineSeconds": request.minutes * 60,
            # Files belong to the user of the run.
            "securityContext": {"runAsUser": os.getuid(), "runAsGroup": os.getgid()},
            "containers": [container],
            "volumes": [{"name": "study", "persistentVolumeClaim": {"claimName": self.claim}}],
        }
        if request.gpus:
            pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
        name = request.rule.replace("_", "-")
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"generateName": f"mil-{name}-", "labels": {"app": "mil"}},
            "spec": {
                # A job that failed is tried again by Snakemake, which counts.
                "backoffLimit": 0,
                "ttlSecondsAfterFinished": KEPT_SECONDS,
                "template": {"metadata": {"labels": {"app": "mil"}}, "spec": pod},
            },
        }

    def state(self, job: str) -> State:
        """State of a Job by its conditions; one that was deleted has failed.

        Raises:
            NoAnswerError: The cluster did not answer.
        """
        answer = _kubectl(["get", "job", job, "-o", "json"])
        if answer.returncode:
            if "NotFound" in answer.stderr:
                return "failed"
            raise NoAnswerError(f"kubectl get job {job}: {_reason(answer)}")
        try:
            status = json.loads(answer.stdout).get("status", {})
        except (ValueError, AttributeError):
            raise NoAnswerError(f"kubectl get job {job}: no JSON") from None
        if status.get("succeeded"):
            return "success"
        failed = any(
            condition.get("type") == "Failed" and condition.get("status") == "True"
            for condition in status.get("conditions") or []
        )
        return "failed" if failed or status.get("failed") else "running"

    def cancel(self, jobs: Sequence[str]) -> None:
        """Delete Jobs with their pods."""
        _kubectl(["delete", "job", "--ignore-not-found", "--wait=false", *jobs])


def _kubectl(words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["kubectl", *words], input=text, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ConfigError(
            "kubectl: no such command; install the client of Kubernetes where the run is started"
        ) from None


def _reason(answer: subprocess.CompletedProcess[str]) -> str:
    return " ".join(answer.stderr.split()) or f"exit status {answer.returncode}"


def connect(environment: Mapping[str, str]) -> Kubernetes:
    """The service by the variables of the environment.

    Raises:
        ConfigError: A variable is not set, or MIL_VOLUME is not `CLAIM:/PATH`.
    """
    image = required(environment, "MIL_IMAGE", "IMAGE, the image with mil in it")
    volume = required(environment, "MIL_VOLUME", "CLAIM:/PATH, the volume of the study")
    claim, _, mount = volume.partition(":")
    if not claim or not mount.startswith("/"):
        raise ConfigError(f"MIL_VOLUME={volume}: is not CLAIM:/PATH, such as study:/study")
    return Kubernetes(image, claim, mount)


if __name__ == "__main__":
    serve(connect)
