"""A chain of faults: a run, a fault, the same command again, and what must then be true."""

import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import mounts
from tests.chaos.faults import Chain, Fault, Struck, files_named
from tests.chaos.results import File, differences, files_of, half_written, left_behind, made_again
from tests.chaos.shown import faults_of_output
from tests.chaos.study import Study
from tests.chaos.undisturbed import Undisturbed

# Output of a slide that states that all files of the slide are there, by its stage.
WHOLE_SLIDE = {"tile": ".h5", "features": ".h5", "score": ".h5", "heatmap": ".png"}
OF_SLIDE = re.compile(r"(?P<folder>results/\w+/(?P<stage>\w+)/.*/)(?P<slide>mini_\d+)\.\w+$")
# Times that a fault which came too late is tried again.
RETRIES = 2
NOTHING_TO_DO = "Nothing to be done"


@dataclass
class Outcome:
    """What a chain found.

    Attributes:
        hits: Number of faults by kind that came before the end of the run.
        missed: Names of those that did not.
        wrong: All that is wrong, a line each, by the name of the fault that it followed.
        shown: What the user was shown, run by run.
    """

    hits: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def add(self, name: str, lines: Sequence[str]) -> None:
        self.wrong += [(name, line) for line in lines]

    def counted(self, *beginnings: str) -> int:
        """Number of wrongs that begin with one of these."""
        return sum(line.startswith(beginnings) for _, line in self.wrong)


def play(chain: Chain, undisturbed: Undisturbed, folder: Path) -> Outcome:
    """Play a chain in a new folder, which is removed if nothing was wrong."""
    outcome = Outcome()
    with ExitStack() as stack:
        if chain.disk:
            stack.enter_context(mounts.small_disk(folder, chain.disk))
        start = undisturbed.end if chain.is_finished else undisturbed.slides
        study = start.copied(folder)
        if chain.is_remote:
            # Here, since the store's server is slow to import.
            from tests.chaos.store import remote_slides

            study = stack.enter_context(remote_slides(study))
        _play(chain, study, undisturbed.files, outcome, start)
    if not outcome.wrong:
        shutil.rmtree(folder, ignore_errors=True)
        for file in (study.output, study.began):
            file.unlink(missing_ok=True)
    return outcome


def _play(
    chain: Chain,
    study: Study,
    expected: Mapping[str, File],
    outcome: Outcome,
    start: Study | None = None,
) -> None:
    whole: dict[str, File] = {}
    for fault in chain.faults:
        began = time.monotonic()
        struck = fault.strike(study)
        for _ in range(0 if start is None or chain.is_remote else RETRIES):
            if struck.hit:
                break
            # The run came to its end before: from its beginning again.
            _put_back(study, start)
            whole = {}
            struck = fault.strike(study)
        files = files_of(study)
        outcome.shown.append(f"{fault.name}:\n{struck.shown}")
        if struck.hit:
            outcome.hits[fault.kind] += 1
        else:
            outcome.missed.append(fault.name)
        # A run that ended before the fault met none.
        wrong = _of_output(fault, struck) if struck.hit else []
        if struck.code != 0:
            wrong += half_written(expected, files, struck.damaged)
        hurt = set(struck.damaged)
        kept = {name: file for name, file in whole.items() if name not in hurt}
        wrong += made_again(kept, files, fault.exempt)
        outcome.add(fault.name, wrong)
        fault.mend(study)
        whole = _whole(files_of(study), expected, chain)
        print(f"  {fault.name}: {_summary(struck, wrong)}, {time.monotonic() - began:.0f} s")
        for line in wrong[:9]:
            print(f"      {line}")
        sys.stdout.flush()
    last = chain.faults[-1]
    code, shown = study.run()
    outcome.shown.append(f"to the end:\n{shown}")
    files = files_of(study)
    wrong = faults_of_output(shown, (), code=code)
    wrong += [f"the run to the end ends with {code}"] if code else []
    wrong += differences(expected, files) + left_behind(study)
    wrong += made_again(whole, files, last.exempt)
    _, shown = study.run("-n")
    if NOTHING_TO_DO not in shown:
        wrong.append("the command after that would do something")
    outcome.add("to the end", wrong)


def _put_back(study: Study, start: Study) -> None:
    """Make the study's folder what it was at the chain's begin."""
    for path in study.folder.iterdir():
        shutil.rmtree(path)
    start.copied(study.folder)


def _summary(struck: Struck, wrong: Sequence[str]) -> str:
    hit = "" if struck.hit else "after the run's end, "
    return hit + (f"{len(wrong)} wrong" if wrong else "right")


def _of_output(fault: Fault, struck: Struck) -> list[str]:
    code, shown = struck.code, struck.shown
    if code is None:
        return faults_of_output(shown, (), code=1)
    expected = () if code == 0 and fault.may_pass else fault.expected
    # What was damaged is named, whether the run mends it or says how.
    not_named = [f"not named: {name}" for name in files_named(shown, struck.damaged)]
    return faults_of_output(shown, expected, code=code) + not_named


def _whole(
    files: Mapping[str, File], expected: Mapping[str, File], chain: Chain
) -> dict[str, File]:
    """Files that need not be made again: slides, and those of slides that a stage has done.

    In a finished study that is all.
    """
    unhurt = {
        name: file
        for name, file in files.items()
        if name in expected and file.digest == expected[name].digest
    }
    return {
        name: file
        for name, file in unhurt.items()
        if chain.is_finished or name.startswith("data/") or _is_done(name, unhurt)
    }


def _is_done(name: str, unhurt: Mapping[str, File]) -> bool:
    """Whether the last file of the slide that a file is of is there."""
    match = OF_SLIDE.match(name)
    if match is None or match["stage"] not in WHOLE_SLIDE:
        return False
    last = f"{match['folder'].removesuffix('grid/')}{match['slide']}{WHOLE_SLIDE[match['stage']]}"
    return last in unhurt
