"""Chaos test of the small demo: `python -m tests.chaos --kills 20 --seed 1`.

Faults are brought about in runs, the same command is given again after each, and all
results are compared with those of an undisturbed run. Exit code 1 if anything is wrong.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.chaos import mounts
from tests.chaos.choice import all_chains, quick_chains
from tests.chaos.faults import Chain
from tests.chaos.rounds import Outcome, play
from tests.chaos.undisturbed import Undisturbed, run_undisturbed
from tests.chaos.warm import warm_mil


def main() -> int:
    options = _options()
    mounts.enter_own_mounts()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos_"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with ExitStack() as stack:
        if options.warm or options.quick:
            bin_dir = stack.enter_context(warm_mil())
            os.environ["PATH"] = f"{bin_dir}:{os.environ['PATH']}"
        outcomes = _outcomes(options, folder)
    _summarise(outcomes, time.monotonic() - began)
    failed = any(outcome.wrong for outcome in outcomes)
    if not failed and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def _outcomes(options: argparse.Namespace, folder: Path) -> list[Outcome]:
    began = time.monotonic()
    undisturbed = run_undisturbed(folder)
    print(f"undisturbed: {len(undisturbed.files)} files, {time.monotonic() - began:.0f} s")
    chains = quick_chains(undisturbed, options.seed)
    if not options.quick:
        chains = all_chains(undisturbed, options.seed, options.kills)
    by_name = {chain.name: chain for chain in chains}
    names = options.only or list(by_name)
    return [_play(by_name[name], undisturbed, folder / name) for name in names]


def _play(chain: Chain, undisturbed: Undisturbed, folder: Path) -> Outcome:
    print(f"{chain.name}:", flush=True)
    if reason := chain.needs_mounts and mounts.no_mounts():
        print(f"  left out: {reason}")
        return Outcome()
    began = time.monotonic()
    outcome = play(chain, undisturbed, folder)
    for name, line in outcome.wrong:
        if name == "to the end":
            print(f"      {line}")
    result = f"{len(outcome.wrong)} wrong; kept in {folder}" if outcome.wrong else "right"
    print(f"  to the end: {result}, {time.monotonic() - began:.0f} s in all", flush=True)
    if outcome.wrong:
        folder.with_name(f"{folder.name}.log").write_text("\n".join(outcome.shown))
    return outcome


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="number of runs that are killed")
    parser.add_argument("--seed", type=int, default=1, help="seed of all moments")
    parser.add_argument("--quick", action="store_true", help="the form that every change passes")
    parser.add_argument("--warm", action="store_true", help="jobs are forked, not started")
    parser.add_argument("--only", nargs="+", help="chains of these names alone")
    parser.add_argument("--keep", type=Path, help="folder of runs that stay, for another time")
    return parser.parse_args()


def _summarise(outcomes: Sequence[Outcome], seconds: float) -> None:
    kinds: Counter[str] = Counter()
    for outcome in outcomes:
        kinds += outcome.hits
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    differ = sum(outcome.counted("differs") for outcome in outcomes)
    lost = sum(outcome.counted("lost") for outcome in outcomes)
    left = sum(outcome.counted("left behind", "half-written", "unknown") for outcome in outcomes)
    again = sum(outcome.counted("made again") for outcome in outcomes)
    others = sum(len(outcome.wrong) for outcome in outcomes) - differ - lost - left - again
    missed = sum(len(outcome.missed) for outcome in outcomes)
    print(f"{counts} in {seconds:.0f} s; {missed} more came after the end of their run")
    print(
        f"{differ} results differ, {lost} files lost, {left} left behind or half-written, "
        f"{again} whole files made again, {others} other faults"
    )


if __name__ == "__main__":
    sys.exit(main())
