"""What a service of a cloud is asked for, and what its answers mean."""

import json
import subprocess
from pathlib import Path

import pytest
from botocore.session import get_session
from botocore.validate import validate_parameters

from mil.errors import ConfigError
from mil.plan.cloud import aws_batch, kubernetes
from mil.plan.cloud.service import NoAnswerError, Request, serve
from tests.messages import one_line

ON_GPU = Request(Path("/study/job.sh"), "features_shared", 8, 10_000, 480, 1)
ON_CPU = Request(Path("/study/job.sh"), "tile", 1, 2000, 120, 0)
CLUSTER = kubernetes.Kubernetes("example/mil", "claim", "/study")
QUEUES = aws_batch.AwsBatch("plain", "with_gpu", "mil")


def test_a_pod_asks_for_what_its_rule_states():
    job = CLUSTER.manifest(ON_GPU)
    # Names of Kubernetes have no underscore.
    assert job["metadata"]["generateName"] == "mil-features-shared-"
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    assert pod["activeDeadlineSeconds"] == 480 * 60
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    needs = pod["containers"][0]["resources"]
    assert needs["requests"] == {"cpu": "8", "memory": "10000M", "nvidia.com/gpu": "1"}
    assert needs["limits"] == {"memory": "10000M", "nvidia.com/gpu": "1"}
    without = CLUSTER.manifest(ON_CPU)["spec"]["template"]["spec"]
    assert "gpu" not in json.dumps(without)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "running"),
        ({"active": 1}, "running"),
        ({"succeeded": 1}, "success"),
        ({"failed": 1}, "failed"),
        # A pod whose time ran out, or whose node was taken away.
        ({"conditions": [{"type": "Failed", "status": "True"}]}, "failed"),
    ],
)
def test_the_status_of_a_job_of_kubernetes(monkeypatch, status, state):
    answer(monkeypatch, stdout=json.dumps({"status": status}))
    assert CLUSTER.state("mil-tile-x") == state


def answer(monkeypatch, code=0, stdout="", stderr=""):
    done = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(kubernetes, "_kubectl", lambda *_: done)


def test_a_cluster_that_does_not_answer_ends_no_job(monkeypatch, capsys):
    answer(monkeypatch, 1, stderr='Error (NotFound): jobs.batch "x" not found')
    assert CLUSTER.state("x") == "failed"
    answer(monkeypatch, 1, stderr="connection refused")
    with one_line(NoAnswerError, "kubectl get job x: connection refused"):
        CLUSTER.state("x")
    serve(lambda _: CLUSTER, ["status", "x"])
    printed = capsys.readouterr()
    assert printed.out == "running\n"
    assert "asked again later" in printed.err


def test_a_job_outside_the_volume_is_refused():
    with one_line(ConfigError, "lies outside /study, the path in MIL_VOLUME"):
        CLUSTER.submit(Request(Path("/home/me/job.sh"), "tile", 1, 2000, 120, 0))


def test_a_job_of_aws_batch_is_one_that_its_model_knows():
    model = get_session().get_service_model("batch").operation_model("SubmitJob").input_shape
    for request in (ON_GPU, ON_CPU):
        parameters = QUEUES.parameters(request)
        validate_parameters(parameters, model)
    assert parameters["jobQueue"] == "plain"
    needs = QUEUES.parameters(ON_GPU)["containerOverrides"]["resourceRequirements"]
    assert needs[-1] == {"type": "GPU", "value": "1"}
    assert QUEUES.parameters(ON_GPU)["jobQueue"] == "with_gpu"


def test_the_status_of_a_job_of_aws_batch():
    class Client:
        def describe_jobs(self, jobs):
            return {"jobs": [{"status": jobs[0]}] if jobs[0] else []}

    queues = aws_batch.AwsBatch("plain", "plain", "mil")
    queues.__dict__["client"] = Client()
    states = {job: queues.state(job) for job in ("RUNNABLE", "SUCCEEDED", "FAILED", "")}
    assert list(states.values()) == ["running", "success", "failed", "failed"]


@pytest.mark.parametrize(
    ("connect", "environment", "message"),
    [
        (kubernetes.connect, {}, "MIL_IMAGE is not set; export MIL_IMAGE="),
        (kubernetes.connect, {"MIL_IMAGE": "x"}, "MIL_VOLUME is not set; export MIL_VOLUME=CLAIM"),
        (kubernetes.connect, {"MIL_IMAGE": "x", "MIL_VOLUME": "x:y"}, "is not CLAIM:/PATH"),
        (aws_batch.connect, {}, "MIL_JOB_QUEUE is not set"),
    ],
)
def test_a_missing_variable_is_one_line(connect, environment, message):
    with one_line(ConfigError, message):
        connect(environment)
