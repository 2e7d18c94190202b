"""A Slurm of one node on the loopback interface, in a folder of its own.

No systemd, database or cgroup: the daemons are children of this process, and end with it.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from getpass import getuser
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue", "srun")
# Where Debian has its daemons, which the path of a user may lack.
DAEMON_FOLDERS = "/usr/sbin:/sbin"
LONGEST_START_SECONDS = 120
LONGEST_STOP_SECONDS = 20

# `config_overrides`: CPUs and memory are those of this file, whatever the machine has.
# `OverMemoryKill`: once a second the memory of each job is measured, and one over its own ends.
# `MinJobAge`: ended jobs stay on record, for there is no accounting.
CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MinJobAge=86400
KillWait=5
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=32000 State=UNKNOWN
PartitionName=all Nodes=node Default=YES MaxTime=INFINITE State=UP
"""
# Snakemake's plug-in starts srun without the variable that names the configuration.
SRUN = """\
#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


class SlurmJob(NamedTuple):
    """A job that Slurm knows."""

    number: str  # of an array's task, with its own after a `_`
    state: str  # such as COMPLETED, FAILED or PENDING
    memory: str  # that it asked for, such as 2000M
    comment: str  # `rule_NAME`, or `rule_NAME_wildcards_...`

    @property
    def megabytes(self) -> float:
        """Memory that it asked for."""
        return float(self.memory[:-1]) * {"M": 1, "G": 1024}[self.memory[-1]]


class Slurm(NamedTuple):
    """A running Slurm."""

    environment: dict[str, str]

    def jobs(self) -> list[SlurmJob]:
        """All jobs since it began."""
        command = ["squeue", "--states=all", "--noheader", "--array", "--format=%i|%T|%m|%k"]
        lines = _output(command, self.environment).splitlines()
        return [SlurmJob(*line.split("|", 3)) for line in lines]


def missing_programs() -> list[str]:
    """Programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]


@contextlib.contextmanager
def loopback(folder: Path) -> Iterator[Slurm]:
    """Run a Slurm whose files, sockets and logs are all in a folder.

    Args:
        folder: Empty folder.
    """
    _write_files(folder)
    path = f"{folder / 'bin'}:{_search_path()}"
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    with contextlib.ExitStack() as daemons:
        for command in _daemons(folder):
            daemons.enter_context(_running(command, folder, environment))
            if command[0] == "munged":
                _wait_for(lambda: (folder / "munge.socket").exists(), "munged")
        _wait_for(lambda: "idle" in _output(["sinfo", "-h", "-o", "%T"], environment), "the node")
        slurm = Slurm(environment)
        try:
            yield slurm
        finally:
            _output(["scancel", "--user", getuser()], environment)


def _write_files(folder: Path) -> None:
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    controller_port, node_port = _free_ports()
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        user=getuser(),
        folder=folder,
        controller_port=controller_port,
        node_port=node_port,
    )
    (folder / "slurm.conf").write_text(text)
    srun = folder / "bin/srun"
    srun.write_text(SRUN.format(folder=folder, srun=shutil.which("srun")))
    srun.chmod(0o755)


def _daemons(folder: Path) -> list[list[str]]:
    """Commands of the daemons, in the order of their start."""
    files = {"key": "key", "socket": "socket", "pid": "pid", "log": "log", "seed": "seed"}
    options = [
        f"--{name}{'' if name == 'socket' else '-file'}={folder}/munge.{suffix}"
        for name, suffix in files.items()
    ]
    return [
        ["munged", "--foreground", "--num-threads=4", *options],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "node"],
    ]


@contextlib.contextmanager
def _running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("w") as log:
        # A session of its own: Ctrl-C ends the run first, then these.
        daemon = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            daemon.terminate()
            try:
                daemon.wait(LONGEST_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _wait_for(is_there: Callable[[], bool], name: str) -> None:
    end = time.monotonic() + LONGEST_START_SECONDS
    while not is_there():
        if time.monotonic() > end:
            raise SystemExit(f"{name} did not start in {LONGEST_START_SECONDS} s")
        time.sleep(0.2)


def _output(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _search_path() -> str:
    return f"{os.environ['PATH']}:{DAEMON_FOLDERS}"
