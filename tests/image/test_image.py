"""The image's files fit the package; building and running it is a command of its own."""

import re
import tomllib
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

from tests.image.clean_root import Root, instructions

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def test_the_lock_file_holds_what_the_package_needs():
    text = (ROOT / "requirements.lock").read_text()
    pins = {name: version for name, version, _ in PIN.findall(text)}
    assert len(pins) == len(re.findall(r"^[^#\s]", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["cloud"]]
    environment = {**default_environment(), "sys_platform": "linux"}
    for need in map(Requirement, needs):
        if need.marker is None or need.marker.evaluate(environment):
            assert need.specifier.contains(pins[need.name]), need
    # `pip install -e` without isolation builds with it.
    [build] = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert Requirement(build).specifier.contains(pins["setuptools"])


def test_the_base_is_pinned_and_what_is_copied_is_there_and_not_ignored():
    steps = list(instructions(DOCKERFILE))
    assert re.fullmatch(r"BASE=\S+@sha256:[0-9a-f]{64}", dict(steps[:1])["ARG"])
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [
        source.removeprefix("./")
        for name, words in steps
        if name == "COPY"
        for source in words.split()[:-1]
    ]
    assert all((ROOT / source).exists() and f"!{source}" in kept for source in sources)
    assert {"mil", "configs", "workflow", "profiles", "Snakefile"} <= set(sources)


def test_steps_apply_in_a_root(tmp_path):
    root = Root(tmp_path)
    text = 'ARG A="x"\nENV P=/v:$PATH \\\n    Q=1\n# a comment\n'
    text += "WORKDIR /opt/mil\nCOPY LICENSE configs ./c\nUSER mil"
    (tmp_path / "opt/mil/c").mkdir(parents=True)
    for name, words in instructions(text):
        root.apply(name, words)
    assert root.env["A"] == "x"
    assert root.env["P"] == f"/v:{root.env['PATH']}"
    assert root.env["Q"] == "1"
    assert (root.user, root.workdir) == ("mil", "/opt/mil")
    assert (tmp_path / "opt/mil/c/LICENSE").is_file()
    assert (tmp_path / "opt/mil/c/config.yaml").is_file()
