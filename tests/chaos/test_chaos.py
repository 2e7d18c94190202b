"""The chaos test itself: each of its checks fails where its subject is broken."""

import os
import sys
from pathlib import Path
from random import Random

import pytest

from tests.chaos import choice, rounds
from tests.chaos.faults import Chain, Fault, Struck, advised, cut, flip, silently
from tests.chaos.moments import STAGES
from tests.chaos.results import files_of
from tests.chaos.rounds import Outcome
from tests.chaos.shown import faults_of_output
from tests.chaos.study import Study, jobs_of, kill_group
from tests.chaos.undisturbed import Undisturbed

BAG = "results/demo_mini/features/a/mini_01.h5"
REPORT = "results/demo_mini/report.html"
TRACEBACK = "Traceback (most recent call last):"


class FakeStudy(Study):
    """A study whose run writes two files in no time, where they are not there."""

    def run(self, *arguments):
        if "-n" in arguments:
            return 0, rounds.NOTHING_TO_DO
        for name in (BAG, REPORT):
            path = self.folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"content of {name}")
        return 0, "8 in, 8 out"


@pytest.fixture
def study(tmp_path) -> FakeStudy:
    (tmp_path / "run").mkdir()
    return FakeStudy(tmp_path / "run")


@pytest.fixture
def expected(study, tmp_path):
    whole = FakeStudy(tmp_path / "whole")
    whole.run()
    return files_of(whole)


def wrongs(study, expected, strike, **options) -> list[str]:
    """What a chain of one fault finds wrong."""
    outcome = Outcome()
    fault = Fault("kill", "fault", strike, **options)
    rounds._play(Chain("one", (fault,)), study, expected, outcome)
    return [line for _, line in outcome.wrong]


def killed(study) -> Struck:
    return Struck(None, "")


def test_a_run_that_continues_is_right(study, expected):
    def strike(study):
        study.run()
        (study.folder / REPORT).unlink()
        (study.folder / BAG).with_name(".partial-x").touch()
        return killed(study)

    # The scratch file is the next run's to remove.
    remove = lambda study: (study.folder / BAG).with_name(".partial-x").unlink()  # noqa: E731
    assert wrongs(study, expected, strike, mend=remove) == []
    assert wrongs(study, expected, strike) == [f"left behind: {Path(BAG).parent}/.partial-x"] * 2


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (BAG, "half", [f"half-written, differs: {BAG}", f"differs: {BAG}"]),
        ("results/x.csv", "", ["unknown: results/x.csv", "left behind: results/x.csv"]),
        (".snakemake/locks/0.lock", "", ["left behind: .snakemake/locks/0.lock"]),
        ("temporary/x", "", ["left behind: temporary/x"]),
    ],
)
def test_what_a_fault_leaves_is_found(study, expected, name, content, found):
    def strike(study):
        (study.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (study.folder / name).write_text(content)
        return killed(study)

    assert wrongs(study, expected, strike) == found


def test_a_lost_result_is_found(study, expected):
    wanted = {**expected, "results/lost.csv": expected[BAG]}
    assert wrongs(study, wanted, killed) == ["lost: results/lost.csv"]


def test_a_whole_file_that_is_made_again_is_found(study, expected):
    class Writer(FakeStudy):
        def run(self, *arguments):
            if not arguments:
                (self.folder / BAG).unlink()
            return super().run(*arguments)

    study.run()
    assert wrongs(Writer(study.folder), expected, killed) == [f"made again: {BAG}"]
    assert wrongs(Writer(study.folder), expected, killed, exempt=("/features/",)) == []


def test_a_command_that_would_go_on_for_ever_is_found(study, expected):
    class Restless(FakeStudy):
        def run(self, *arguments):
            return 0, super().run(*arguments)[1].replace(rounds.NOTHING_TO_DO, "1 job")

    assert wrongs(Restless(study.folder), expected, killed) == [
        "the command after that would do something"
    ]


@pytest.mark.parametrize(
    ("shown", "code", "number"),
    [
        ("features 1of1 failed: mil: 1 of 2 slides failed: a.h5: cut; delete it", 1, 0),
        ("features 1of1 failed: killed by SIGKILL: run again, delete it", 1, 0),
        ("features 1of1 failed: features a: ok; delete it", 1, 1),
        (f"features 1of1 failed: mil: delete it\n{TRACEBACK}", 1, 1),
        ("Error in rule tile: delete it", 1, 1),
        ("features 1of1 failed: mil: a.h5: cut short", 1, 1),
        ("mil: delete it", 0, 1),
    ],
)
def test_what_a_user_is_shown(shown, code, number):
    assert len(faults_of_output(shown, ("delete it",), code=code)) == number


def test_a_file_that_is_damaged_must_be_named(study, expected):
    def strike(study):
        return Struck(0, "all is well", damaged=(BAG,))

    assert wrongs(study, expected, strike, may_pass=True) == [f"not named: {BAG}"]


def test_advice_is_followed_to_the_letter():
    shown = (
        "train failed: mil: 1 of 8 slides failed: results/a/x.h5: cut (eof: 8); delete it\n"
        "train failed: mil: data/b.tif: no such file; put it back\n"
    )
    assert advised(shown) == ["results/a/x.h5"]


def test_damage_changes_a_file_and_may_keep_its_time(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(3000))
    os.utime(path, ns=(5, 7))
    silently(flip)(path)
    assert sum(map(bool, path.read_bytes())) == 3
    assert path.stat().st_mtime_ns == 7
    cut(path)
    assert path.stat().st_size == 2000
    assert path.stat().st_mtime_ns != 7


def test_kills_are_spread_over_all_stages_and_repeat(study):
    undisturbed = Undisturbed(study, study, {}, dict.fromkeys(STAGES, 5), 100)
    chains = choice.kill_chains(undisturbed, Random(1), 20)
    names = [fault.name for chain in chains for fault in chain.faults]
    assert len(names) == 20
    for stage in STAGES:
        assert sum(f"at {stage}, file" in name for name in names) == 20 // len(STAGES)
    again = choice.kill_chains(undisturbed, Random(1), 20)
    assert [fault.name for chain in again for fault in chain.faults] == names
    assert sum(name.startswith("Snakemake alone") for name in names) == 4


def test_a_group_is_dead_when_it_was_killed(tmp_path):
    import subprocess

    script = tmp_path / "mil"
    script.write_text("print(flush=True); input()")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    assert jobs_of(process.pid) == [process.pid]
    kill_group(process.pid)
    assert jobs_of(process.pid) == []
    process.communicate()
