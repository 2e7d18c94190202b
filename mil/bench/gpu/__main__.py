"""`python -m mil.bench.gpu`: the benchmark from a checkout, without the command line of mil."""

import argparse
from pathlib import Path

from mil.bench.gpu.run import MINUTES, run


def main() -> None:
    """Run the parts; the exit status is 1 if a check failed or a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m mil.bench.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for all parts")
    parser.add_argument("--json", type=Path, help="file of the rows, written as they come")
    parser.add_argument("--tuned", type=Path, help="file of block sizes to write")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on a CPU, interpreted")
    arguments = parser.parse_args()
    raise SystemExit(
        run(
            minutes=arguments.minutes, json=arguments.json, tuned=arguments.tuned, dry=arguments.dry
        )
    )


if __name__ == "__main__":
    main()
