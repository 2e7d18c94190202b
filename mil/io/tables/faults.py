"""Faults of a table, all in one answer: each is said once, with the rows that have it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mil.errors import SHOWN, DatasetError, some

# Kinds of faults that one message lists.
MOST_KINDS = 20


class Faults:
    """Faults of one table as they are found, and options of the command that would mend them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.options: dict[str, list[str]] = {}
        self._places: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, text: str, place: str = "") -> None:
        """Add a fault.

        Args:
            text: Fault and remedy, as they follow the place.
            place: Row that has it, such as `line 3: slide a`; empty: the table.
        """
        self._places.setdefault(text, []).append(place)

    def propose(self, option: str, *values: str) -> None:
        """Add an option, such as `--label-column`, that mends a fault."""
        known = self.options.setdefault(option, [])
        known += [value for value in values if value not in known]

    def check(self, command: Sequence[str] = ()) -> None:
        """Refuse the table if it has a fault: one line for one, else a list.

        Args:
            command: Command of the user, to be proposed with the options that were found.

        Raises:
            DatasetError: There are faults.
        """
        if not self._places:
            return
        lines = [_line(text, places) for text, places in self._places.items()]
        proposal = self._command(command)
        if len(lines) == 1:
            end = f"; try: {proposal}" if proposal else ""
            raise DatasetError(f"{self.path}: {lines[0]}{end}")
        listed = [f"  - {line}" for line in lines[:MOST_KINDS]]
        if len(lines) > MOST_KINDS:
            listed.append(f"  - and {len(lines) - MOST_KINDS} more kinds of faults")
        if proposal:
            listed.append(f"try: {proposal}")
        raise DatasetError("\n".join([f"{self.path}: {len(lines)} faults:", *listed]))

    def _command(self, command: Sequence[str]) -> str:
        if not command or not self.options:
            return ""
        words = list(command)
        for option, values in self.options.items():
            for value in values:
                words += [option, value]
        return " ".join(word if word == "…" else shlex.quote(word) for word in words)


def _line(text: str, places: Sequence[str]) -> str:
    first, *others = places
    more = f" (and so {len(others)} more: {some(others, SHOWN)})" if others else ""
    return f"{first}{text}{more}"
