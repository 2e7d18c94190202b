"""The steps of the Dockerfile in a clean root, for machines that cannot build an image.

A root is a folder with Debian and its Python in it, such as `debootstrap` makes. Steps run by
`chroot`, so that this needs the superuser:

    debootstrap --variant=minbase --include=ca-certificates,python3-venv bookworm /tmp/root
    python tests/image/clean_root.py --bind /etc/resolv.conf build /tmp/root
    python tests/image/clean_root.py --bind /etc/resolv.conf \\
        --file tests/image/Dockerfile build /tmp/root
    python tests/image/clean_root.py run /tmp/root tests/image/inside

`run` has no network but the loopback interface. `--bind PATH` shows a file or folder of this
machine in the root at the same path while the steps run, such as settings of pip.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# What the image is: environment, user and working directory, written by `build`.
STATE = "etc/mil-image.json"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Instructions of a Dockerfile with their words; comments and continued lines are joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, words = line.strip().partition(" ")
            yield name, words.strip()


class Root:
    """A root in which steps run.

    Attributes:
        folder: The root.
        env: Variables of the environment.
        user: User of the steps.
        workdir: Working directory of the steps.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"PATH": SYSTEM_PATH}
        self.user = "root"
        self.workdir = "/"
        # Of an image that the next Dockerfile begins from.
        state = folder / STATE
        if state.exists():
            vars(self).update(json.loads(state.read_text(encoding="utf-8")))

    def apply(self, name: str, words: str) -> None:
        """Do what an instruction says."""
        match name:
            case "FROM" | "CMD":
                pass
            case "ARG":
                variable, _, value = words.partition("=")
                self.env.setdefault(variable, value.strip('"'))
            case "ENV":
                pairs = [word.partition("=") for word in shlex.split(words)]
                for variable, _, value in pairs:
                    self.env[variable] = value.replace("$PATH", self.env["PATH"])
            case "USER":
                self.user = words
            case "WORKDIR":
                self.workdir = words
                self.inside(words).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self.copy(*words.split())
            case "RUN":
                if self.run(["/bin/sh", "-c", words]):
                    raise SystemExit(f"failed: RUN {words}")
            case _:
                raise SystemExit(f"{name}: an instruction that is not known here")

    def inside(self, path: str) -> Path:
        """A path of the root, here."""
        return self.folder / path.lstrip("/")

    def copy(self, *words: str) -> None:
        """Copy files and folders of the repository into the working directory."""
        *sources, target = words
        place = self.inside(self.workdir) / target
        for source in sources:
            file = REPOSITORY / source
            if file.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(file, place, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(file, place)

    def run(self, command: Sequence[str]) -> int:
        """Run a command in the root; its exit status."""
        inner = f"cd {shlex.quote(self.workdir)} && exec {shlex.join(command)}"
        words = ["chroot", f"--userspec={self.user}", str(self.folder), "/bin/sh", "-c", inner]
        return subprocess.run(words, env=self.env, check=False).returncode


@contextmanager
def mounted(folder: Path, paths: Sequence[str]) -> Iterator[None]:
    """Show paths of this machine in the root, and its own /proc, /dev and /tmp."""
    with ExitStack() as stack:
        for path in ("/proc", "/dev", *paths):
            place = folder / path.lstrip("/")
            if Path(path).is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            subprocess.run(["mount", "--bind", path, str(place)], check=True)
            stack.callback(subprocess.run, ["umount", str(place)], check=False)
        # Semaphores of processes lie there.
        shared = str(folder / "dev/shm")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", shared], check=True)
        stack.callback(subprocess.run, ["umount", shared], check=False)
        yield


def build(folder: Path, file: Path, binds: Sequence[str], arguments: Sequence[str]) -> None:
    """All steps of a Dockerfile."""
    root = Root(folder)
    root.env |= dict(argument.split("=", 1) for argument in arguments)
    with mounted(folder, binds):
        for name, words in instructions(file.read_text(encoding="utf-8")):
            print(f"{name} {words[:100]}", flush=True)
            root.apply(name, words)
    state = {"env": root.env, "user": root.user, "workdir": root.workdir}
    (folder / STATE).write_text(json.dumps(state), encoding="utf-8")


def run(folder: Path, binds: Sequence[str], command: Sequence[str]) -> int:
    """A command in the root as in a container without a network; its exit status."""
    root = Root(folder)
    with mounted(folder, binds):
        return root.run(command)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["build", "run"])
    parser.add_argument("root", type=Path)
    parser.add_argument("--bind", action="append", default=[], metavar="PATH")
    parser.add_argument("--file", type=Path, default=REPOSITORY / "Dockerfile")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    words = parser.parse_args()
    if words.action == "build":
        build(words.root, words.file, words.bind, words.build_arg)
        return 0
    if "MIL_UNSHARED" not in os.environ:
        # Again, in namespaces of its own: no network but loopback, and mounts end with it.
        inner = f"ip link set lo up; exec {shlex.join([sys.executable, *sys.argv])}"
        os.environ["MIL_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", "/bin/sh", "-c", inner])
    return run(words.root, words.bind, words.command)


if __name__ == "__main__":
    sys.exit(main())
