"""The answer: what a file was made from, whether that is still here, and the command."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAME = "the same"
CHANGED = "changed since"
MISSING = "not here"
NOT_STATED = "not stated by the file"


@dataclass(frozen=True)
class Input:
    """Something that a result was made from.

    Attributes:
        role: Its part, such as `bag`.
        name: Its path, or what else names it.
        stated: Digest or value that the result states; empty: it states none.
        now: Digest or value as it is here; empty: it is not here.
    """

    role: str
    name: str
    stated: str
    now: str

    @property
    def state(self) -> str:
        """Whether the input is what it was."""
        if not self.now:
            return MISSING
        if not self.stated:
            return NOT_STATED
        return SAME if self.stated == self.now else CHANGED

    @property
    def line(self) -> str:
        """The input in a line."""
        shown = f", {short(self.stated)}" if self.stated else ""
        change = f", {short(self.now)} now" if self.state == CHANGED else ""
        return f"{self.role} {self.name}: {self.state}{shown}{change}"


@dataclass(frozen=True)
class Answer:
    """How a file came about.

    Attributes:
        title: The file and what it is, on one line.
        facts: Facts that the file states, by name.
        inputs: What it was made from.
        command: Words of a command that makes it again; empty: none is known.
        makes: File that the command writes.
        notes: Sentences about limits.
    """

    title: str
    facts: dict[str, str]
    inputs: list[Input]
    command: Sequence[str] = ()
    makes: str = ""
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The answer as people read it; the command is the last line but one."""
        lines = [self.title]
        lines += [f"  {name}: {one_line(value)}" for name, value in self.facts.items() if value]
        lines += [f"  made from {one_line(part.line)}" for part in self.inputs]
        lines += [f"  note: {note}" for note in self.notes]
        if not self.command:
            return lines
        return [*lines, "make it again:", f"  {shlex.join(self.command)}", self._promise()]

    def _promise(self) -> str:
        changed = [part.role for part in self.inputs if part.state == CHANGED]
        missing = [part.role for part in self.inputs if part.state == MISSING]
        if missing:
            return f"It cannot run here: {', '.join(dict.fromkeys(missing))} not here."
        if changed:
            return (
                f"It writes {self.makes} from what is here now, which is not what this file is of: "
                f"{', '.join(dict.fromkeys(changed))}."
            )
        if any(part.state == NOT_STATED for part in self.inputs):
            return f"It writes {self.makes}; this file does not state all that it was made from."
        return f"It writes the same bytes to {self.makes}."


def short(digest: str) -> str:
    """A digest as people compare it."""
    return digest if len(digest) <= 16 or " " in digest else f"{digest[:12]}…"


def one_line(text: object) -> str:
    """Text from a file of anybody on one line, without characters that move the cursor."""
    plain = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in plain)


def title(path: Path, kind: str) -> str:
    """First line of an answer."""
    return f"{one_line(path)}: {kind}"
