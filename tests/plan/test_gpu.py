"""Whether jobs ask for a GPU."""

from pathlib import Path

import pytest

from mil.config import load_config
from mil.device import choose_device
from mil.errors import ConfigError
from mil.plan.flags import device_flags
from mil.plan.gpu import asks_for_gpu


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of Slurm's, which is the only one there is."""
    file = tmp_path / "bin/sinfo"
    file.parent.mkdir()
    monkeypatch.setenv("PATH", str(file.parent))
    return file


def answer(sinfo: Path, lines: str) -> None:
    sinfo.write_text(f"#!/bin/sh\necho '{lines}'\n")
    sinfo.chmod(0o755)


@pytest.mark.parametrize(("device", "asked"), [("cpu", False), ("gpu", True)])
@pytest.mark.parametrize("executor", ["local", "slurm", "kubernetes"])
def test_a_setting_decides(tmp_path, device, asked, executor):
    assert asks_for_gpu(device, executor, tmp_path) is asked


@pytest.mark.parametrize(
    ("file", "visible", "asked"),
    [
        ("nvidia0", None, True),
        ("nvidia0", "0,1", True),
        ("nvidia0", "", False),
        ("nvidia0", "-1", False),
        ("nvidiactl", None, False),
        ("kfd", None, True),
        ("null", None, False),
    ],
)
@pytest.mark.parametrize("executor", ["local", "kubernetes"])
def test_else_a_gpu_of_this_machine(tmp_path, monkeypatch, file, visible, asked, executor):
    (tmp_path / file).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert asks_for_gpu("auto", executor, tmp_path) is asked


@pytest.mark.parametrize(
    ("resources", "asked"),
    [("(null)", False), ("(null)\ngpu:a100:4(S:0-1)", True), ("gpu:2", True), ("mygpus:1", False)],
)
def test_on_slurm_a_gpu_of_any_node(tmp_path, sinfo, resources, asked):
    # That of the login node does not count.
    (tmp_path / "nvidia0").touch()
    answer(sinfo, resources)
    assert asks_for_gpu("auto", "slurm", tmp_path) is asked


def test_a_slurm_that_does_not_answer_has_none(sinfo):
    assert not asks_for_gpu("auto", "slurm")
    sinfo.write_text("no program")
    assert not asks_for_gpu("auto", "slurm")


def test_commands_compute_where_the_run_says():
    flags = {device: device_flags(load_config({"device": device})) for device in ("cpu", "gpu")}
    assert flags == {"cpu": ["--device", "cpu"], "gpu": ["--device", "cuda"]}
    assert device_flags(load_config({})) == []


def test_a_machine_without_a_gpu_says_what_to_do(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"--device cpu, or in a run with device=cpu$"):
        choose_device("cuda")
