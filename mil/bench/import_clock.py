"""Processor time of a `mil` command, and the share of it that imports take.

The program of a process of its own; it imports nothing itself that a command would import.
"""

import builtins
import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any


class ImportClock:
    """Processor seconds of imports, those within another import counted once.

    Attributes:
        seconds: Processor seconds so far.
    """

    def __init__(self) -> None:
        # The interpreter has started, and imported what it needs itself.
        self.seconds = process_time()
        self._depth = 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose outermost calls are counted."""

        def counted(*arguments: Any, **options: Any) -> Any:
            began = process_time()
            self._depth += 1
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += process_time() - began

        return counted


def main() -> None:
    """Run the `mil` command of the arguments after the first, a JSON file to write.

    The file gets processor seconds of the process, of all and of imports. Of `features`
    they end with the first batch of the encoder.
    """
    out, *arguments = sys.argv[1:]
    clock = ImportClock()

    def write() -> None:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = process_time() + children.ru_utime + children.ru_stime
        seconds = {"imports_s": clock.seconds, "all_s": used}
        Path(out).write_text(json.dumps(seconds), encoding="utf-8")

    builtins.__import__ = clock.wrap(builtins.__import__)
    importlib.import_module = clock.wrap(importlib.import_module)
    if arguments[0] == "features":
        _end_with_first_batch(write)
    sys.argv = ["mil", *arguments]
    # The command line is above all benchmarks; here it is a program like any other.
    command_line = importlib.import_module("mil.cli")
    try:
        command_line.main()
    finally:
        write()


def _end_with_first_batch(write: Callable[[], None]) -> None:
    # The command imports it in any case.
    from mil.encoders.runner import Encoder

    encode = Encoder.__call__

    def encode_and_end(encoder: Encoder, pixels: Any) -> None:
        encode(encoder, pixels)
        write()
        # Nothing after the batch is to be measured, nor written.
        os._exit(0)

    Encoder.__call__ = encode_and_end  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()
