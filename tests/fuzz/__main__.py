"""Fuzz all readers: `python -m tests.fuzz --inputs 100000`.

Exit code 1 if a reader is at fault; each fault is printed with the command that repeats it.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.doors import BY_NAME, DOORS, Door
from tests.fuzz.hostile import SLOW, Generator
from tests.fuzz.inputs import input_of, write
from tests.fuzz.pool import SECONDS, Finding, Job, Pool

QUICK_SECONDS = 5.0


def main() -> int:
    options = _options()
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.repeat:
        name, number = options.repeat
        return _repeat(BY_NAME[name], int(number), options.keep)
    chosen = [BY_NAME[name] for name in options.door] if options.door else list(DOORS)
    began = time.monotonic()
    _open_all(chosen, all_seeds=not options.quick)
    warm = time.monotonic() - began
    pool = Pool(options.workers, QUICK_SECONDS if options.quick else options.seconds)
    jobs = _quick_jobs(chosen) if options.quick else _jobs(chosen, options.inputs, options.first)
    findings = []
    for finding in pool.run(jobs):
        if not any(_alike(finding, other) for other in findings):
            print(f"{finding.door}: {finding.kind} at {finding.place}: {finding.message}")
            print(f"    {finding.repeat}", flush=True)
        findings.append(finding)
    _summarise(pool, findings, len(jobs), warm, time.monotonic() - began - warm)
    if options.findings:
        with options.findings.open("a") as file:
            file.writelines(f"{json.dumps(asdict(finding))}\n" for finding in findings)
    return 1 if findings else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="number of inputs")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for an input")
    parser.add_argument("--door", action="append", choices=BY_NAME, help="only this door")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--quick", action="store_true", help="the form that every change passes")
    parser.add_argument("--findings", type=Path, help="file that findings are added to, JSON lines")
    parser.add_argument("--repeat", nargs=2, metavar=("DOOR", "NUMBER"), help="one input again")
    parser.add_argument("--keep", type=Path, help="with --repeat: folder for the input's files")
    return parser.parse_args()


def _open_all(doors: Sequence[Door], *, all_seeds: bool) -> None:
    """Enter each door with its valid seeds: imports happen once, before workers are forked."""
    for door in doors:
        for number in range(len(door.seeds) if all_seeds else 1):
            with TemporaryDirectory() as name:
                inside, out = Path(name) / "in", Path(name) / "out"
                inside.mkdir()
                out.mkdir()
                write(door.seed(number), inside)
                list(door.enter(inside, out) or ())


def _jobs(doors: Sequence[Door], inputs: int, first: int) -> list[Job]:
    """Inputs by weight, all doors mixed; the hostile ones are always among them."""
    total = sum(door.weight for door in doors)
    jobs: list[tuple[float, Job]] = []
    for door in doors:
        share = max(round(inputs * door.weight / total), 1 if first else len(door.hostile) + 3)
        # Spread evenly over the whole run.
        jobs += [((place + 0.5) / share, (door.name, first + place)) for place in range(share)]
    return [job for _, job in sorted(jobs)]


def _quick_jobs(doors: Sequence[Door]) -> list[Job]:
    """Each known hostile kind at one door of those that it is for, in turn, and one mutation."""
    places: dict[Generator, list[Job]] = {}
    for door in doors:
        for number, generator in enumerate(door.hostile):
            if generator not in SLOW:
                places.setdefault(generator, []).append((door.name, number))
    jobs = [alike[turn % len(alike)] for turn, alike in enumerate(places.values())]
    return jobs + [(door.name, len(door.hostile)) for door in doors]


def _alike(one: Finding, other: Finding) -> bool:
    return (one.door, one.kind, one.place) == (other.door, other.kind, other.place)


def _summarise(
    pool: Pool, findings: Sequence[Finding], inputs: int, warm: float, seconds: float
) -> None:
    print(f"\n{'door':<18} inputs refused findings ms/input slowest s (number)")
    for name, total in sorted(pool.totals.items()):
        number = sum(finding.door == name for finding in findings)
        each = 1e3 * total.seconds / max(total.inputs, 1)
        print(
            f"{name:<18} {total.inputs:6} {total.refused:7} {number:8} {each:8.1f} "
            f"{total.slowest:.2f} ({total.slowest_number})"
        )
    kinds = defaultdict(list)
    for finding in findings:
        kinds[(finding.door, finding.kind, finding.place)].append(finding)
    for (door, kind, place), alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
        example = min(alike, key=lambda finding: finding.number)
        print(f"{len(alike):6} x {door}: {kind} at {place}: {example.message[:160]}")
        print(f"         {example.repeat}")
    print(
        f"{inputs} inputs in {seconds:.0f} s ({inputs / max(seconds, 1e-3):.0f} a second; "
        f"{warm:.0f} s for the seeds), {len(findings)} findings of {len(kinds)} kinds"
    )


def _repeat(door: Door, number: int, keep: Path | None) -> int:
    """One input in this process, without limits: the whole traceback is shown."""
    with TemporaryDirectory() as name:
        inside = keep or Path(name) / "in"
        out = Path(name) / "out"
        inside.mkdir(exist_ok=True)
        out.mkdir()
        write(input_of(door, number), inside)
        began = time.process_time()
        try:
            for line in door.enter(inside, out) or ():
                if line:
                    print(line)
        except BaseException:  # noqa: BLE001  shown as it is
            traceback.print_exc()
        print(f"{time.process_time() - began:.2f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
