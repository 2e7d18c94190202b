"""What ends the reading of the workflow, and a profile, in one line."""

import os
import sys
from pathlib import Path

import pytest
import yaml
import yte
from snakemake_interface_executor_plugins.settings import DeploymentMethod, SharedFSUsage

from mil.config import Config
from mil.doctor.faults import package_faults
from mil.errors import ConfigError, DatasetError
from mil.plan.exits import (
    exit_on_error,
    require_container,
    require_stain_package,
    require_writable_folder,
)
from mil.plan.plugins import require_executor
from tests.messages import one_line

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DatasetError("a.csv: no rows"), "mil: a.csv: no rows"),
        (
            PermissionError(13, "Permission denied", "a.csv"),
            "mil: [Errno 13] Permission denied: 'a.csv'",
        ),
    ],
)
def test_an_error_that_a_user_can_mend_ends_the_process_with_its_line(error, line):
    with pytest.raises(SystemExit) as stopped, exit_on_error():
        raise error
    assert stopped.value.code == line


@pytest.mark.parametrize("error", [KeyError("ours"), OSError("without a path")])
def test_a_fault_of_ours_keeps_its_trace(error):
    with pytest.raises(type(error)), exit_on_error():
        raise error


@pytest.mark.parametrize("closed", ["", "results", ".snakemake"])
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch, closed):
    require_writable_folder(tmp_path)
    (tmp_path / closed).mkdir(exist_ok=True)
    # Of root, no folder is closed.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / closed)
    with one_line(ConfigError, match=f"{closed or '.snakemake'}: cannot be written to; a run"):
        require_writable_folder(tmp_path)


def test_a_run_in_containers_names_an_image_that_is_there(tmp_path):
    require_container(["conda"], str(tmp_path / "not_used.sif"))
    require_container([DeploymentMethod.APPTAINER], "docker://example/mil@sha256:0")
    image = tmp_path / "mil.sif"
    with one_line(ConfigError, match="mil.sif: no such file, which --sdm apptainer needs"):
        require_container([DeploymentMethod.APPTAINER], str(image))
    image.touch()
    require_container([DeploymentMethod.APPTAINER], str(image))


def test_a_profile_without_its_plug_in_says_how_to_get_it():
    line = "pip install snakemake-executor-plugin-no_such_cluster$"
    with pytest.raises(SystemExit, match=f"^mil: this profile needs .*: {line}"):
        require_executor("no_such_cluster")


@pytest.mark.parametrize("name", ["slurm", "kubernetes", "aws-batch"])
def test_a_profile_asks_for_its_plug_in(name):
    profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
    assert f'require_executor("{profile["executor"]}")' in profile["__definitions__"]


@pytest.mark.parametrize(
    ("profile", "own"),
    [("default", {}), ("workstation", {"cores": "all", "resources": ["gpu=2"]})],
)
def test_a_profile_sets_what_is_said_of_it(profile, own):
    """More would override the user's own `--profile`."""
    with (ROOT / f"profiles/{profile}/config.yaml").open() as file:
        settings = yte.process_yaml(file, require_use_yte=True)
    usual = {"rerun-incomplete": True, "keep-going": True, "scheduler": "greedy"}
    assert settings == {**usual, "logger": ["mil"], **own}


def test_the_profile_that_every_run_reads_does_without_mil(monkeypatch):
    """Then the Snakefile says that it is missing, without a page of usage."""
    monkeypatch.setitem(sys.modules, "mil.plan.plugins", None)
    with (ROOT / "profiles/default/config.yaml").open() as file:
        assert "logger" not in yte.process_yaml(file, require_use_yte=True)


def test_a_run_that_normalises_stains_needs_the_package_where_its_jobs_run(monkeypatch):
    monkeypatch.setattr("mil.config.stain.find_spec", lambda package: None)
    shared = SharedFSUsage.all()
    with one_line(ConfigError, match=r"config: features.stain_norm: macenko needs .*mil\[stain\]"):
        require_stain_package([], shared, "macenko")
    require_stain_package([], shared, "none")
    # Jobs in a container, and those of a cloud, have packages of their own.
    require_stain_package([DeploymentMethod.APPTAINER], shared, "macenko")
    require_stain_package([], shared - {SharedFSUsage.SOFTWARE_DEPLOYMENT}, "macenko")
    assert package_faults(Config(features={"stain_norm": "macenko"})) != []
    monkeypatch.setattr("mil.config.stain.find_spec", lambda package: package)
    require_stain_package([], shared, "macenko")
    assert package_faults(Config(features={"stain_norm": "macenko"})) == []
