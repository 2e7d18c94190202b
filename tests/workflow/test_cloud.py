"""Runs through `cluster-generic` on a stand-in for each service that runs the jobs here."""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

# Runs a job as the cluster would, but ends the first one of `features` before it begins.
KUBECTL = """#!/usr/bin/env python3
import json, os, subprocess, sys
from pathlib import Path

folder = Path(__file__).parent
action = sys.argv[1]
if action == "create":
    job = json.load(sys.stdin)
    name = job["metadata"]["generateName"] + str(len(list(folder.glob("mil-*.json"))))
    (folder / f"{name}.json").write_text(json.dumps(job))
    container = job["spec"]["template"]["spec"]["containers"][0]
    lost = name.startswith("mil-features") and not (folder / "lost").exists()
    if lost:
        (folder / "lost").touch()
    command = ["false"] if lost else container["command"]
    # A pod has the environment of its image.
    env = {key: value for key, value in os.environ.items() if not key.startswith("MIL_")}
    ended = subprocess.run(command, cwd=container["workingDir"], env=env, capture_output=True)
    (folder / f"{name}.log").write_bytes(ended.stdout + ended.stderr)
    (folder / f"{name}.rc").write_text(str(ended.returncode))
    print(f"job.batch/{name}")
elif action == "get":
    done = (folder / f"{sys.argv[3]}.rc").read_text() == "0"
    print(json.dumps({"status": {"succeeded": 1} if done else {"failed": 1}}))
"""


def run_until_features(study, profile):
    return study.snakemake(
        *("--workflow-profile", profile, "--until", "features"),
        *("--seconds-between-status-checks", "1", "--max-status-checks-per-second", "10"),
        *("--config", "dataset=toy", "slides_per_job={tile: 9, features: 9}"),
    )


@pytest.mark.slow
def test_a_run_on_kubernetes_makes_its_files_and_tries_a_lost_job_again(study, monkeypatch):
    kubectl = study.folder / "bin/kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    monkeypatch.setenv("MIL_IMAGE", "example/mil@sha256:0")
    monkeypatch.setenv("MIL_VOLUME", f"claim:{study.folder}")
    done = run_until_features(study, "kubernetes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(study.folder.glob("results/toy/features/*/*/?.h5"))) == 3
    jobs = sorted(path.stem for path in kubectl.parent.glob("mil-*.json"))
    assert [name.rpartition("-")[0] for name in jobs] == [
        "mil-features",
        "mil-features",
        "mil-tile",
    ]
    pods = [
        json.loads((kubectl.parent / f"{name}.json").read_text())["spec"]["template"]["spec"]
        for name in jobs
    ]
    needs = [pod["containers"][0]["resources"] for pod in pods]
    assert needs[0]["requests"]["cpu"] == "2"
    assert needs[2]["limits"] == {"memory": "2000M"}


class Batch(BaseHTTPRequestHandler):
    """The two calls of AWS Batch that a run makes; a submitted job is run at once."""

    jobs: ClassVar[dict[str, int]] = {}

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/submitjob"):
            name = f"{asked['jobName']}-{len(self.jobs)}"
            command = asked["containerOverrides"]["command"]
            # A container has the environment of its image.
            env = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
            done = subprocess.run(command, env=env, capture_output=True, check=False)
            self.jobs[name] = done.returncode
            answer = {"jobName": name, "jobId": name}
        else:
            states = ["FAILED" if self.jobs[name] else "SUCCEEDED" for name in asked["jobs"]]
            answer = {"jobs": [{"status": state} for state in states]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_a_run_on_aws_batch_makes_its_files(study, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Batch)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PATH", study.path)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "MIL_JOB_QUEUE": "queue",
        "MIL_JOB_DEFINITION": "mil",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        done = run_until_features(study, "aws-batch")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(study.folder.glob("results/toy/features/*/*/?.h5"))) == 3
    assert list(Batch.jobs) == ["mil-tile-0", "mil-features-1"]
