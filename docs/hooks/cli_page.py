"""The reference of the command line, from the signatures of the commands."""

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

from mil.cli import app

HEAD = """# Command line

Every step of a study is a command, and the workflow runs these commands. `mil COMMAND --help`
prints what is on this page. An error that the user can correct is one line on stderr, and the exit
code is 1.

This page is made from the code.
"""


class Command(NamedTuple):
    """A command: its whole name, and the function behind it."""

    name: str
    function: Callable[..., Any]

    @property
    def anchor(self) -> str:
        return self.name.replace(" ", "-")

    @property
    def help(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def summary(self) -> str:
        return self.help.split("\n\n")[0]


def commands(group: typer.Typer = app, prefix: str = "mil") -> Iterator[Command]:
    """All commands, in the order in which they are registered, groups last."""
    for registered in group.registered_commands:
        function = registered.callback
        assert function is not None
        name = registered.name or function.__name__.replace("_", "-")
        yield Command(f"{prefix} {name}", function)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, f"{prefix} {inner.name}")


def cli_page() -> str:
    """All commands with their arguments and options, as Markdown."""
    rows = [
        f"| [`{command.name}`](#{command.anchor}) | {_escape(command.summary)} |"
        for command in commands()
    ]
    contents = "\n".join(["| command | purpose |", "|---|---|", *rows])
    return "\n\n".join([HEAD, contents, *map(_section, commands())]) + "\n"


def _section(command: Command) -> str:
    hints = get_type_hints(command.function, include_extras=True)
    parameters = inspect.signature(command.function).parameters.values()
    rows = [_row(parameter, hints[parameter.name]) for parameter in parameters]
    table = "\n".join(["| argument | value | default | |", "|---|---|---|---|", *rows])
    parts = [f"## `{command.name}` {{ #{command.anchor} }}", command.help]
    return "\n\n".join([*parts, table] if rows else parts)


def _row(parameter: inspect.Parameter, hint: Any) -> str:
    """One argument or option: how it is written, its values, its default, its help."""
    kind = hint
    info = None
    if get_origin(hint) is Annotated:
        kind, info = get_args(hint)[:2]
    if set(get_args(kind)) == {bool, type(None)}:
        kind = bool
    cells = (
        f"`{_written(parameter.name, kind, info)}`",
        _value(kind, info),
        _default(parameter, kind),
        _escape(getattr(info, "help", None) or ""),
    )
    return f"| {' | '.join(cells)} |"


def _written(name: str, kind: Any, info: Any) -> str:
    if isinstance(info, ArgumentInfo):
        return name.upper()
    # Inside Annotated the first flag stands where a default stands elsewhere.
    first = getattr(info, "default", None)
    flags = [first] if isinstance(first, str) and first.startswith("-") else []
    flags += getattr(info, "param_decls", None) or ()
    if flags:
        return ", ".join(flags)
    flag = f"--{name.replace('_', '-')}"
    return f"{flag}, --no-{flag[2:]}" if kind is bool else flag


def _value(kind: Any, info: Any) -> str:
    """Type of the value in words: choices, range, and whether it may be repeated."""
    if kind is bool:
        return "flag"
    arguments = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is list:
        return f"{_value(arguments[0], info)}; repeatable"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if arguments:  # a union with None
        return _value(arguments[0], info)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{choice.value}`" for choice in kind)
    words = {str: "text", int: "integer", float: "number", Path: "path"}
    limits = _limits(getattr(info, "min", None), getattr(info, "max", None))
    return f"{words.get(kind, str(kind))}{limits}"


def _limits(least: float | None, most: float | None) -> str:
    lower = "" if least is None else f", ≥ {least:g}"
    upper = "" if most is None else f", ≤ {most:g}"
    return lower + upper


def _default(parameter: inspect.Parameter, kind: Any) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    if kind is bool or value in (None, "", [], ()):
        return ""
    return f"`{value}`"


def _escape(text: str) -> str:
    """Text in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
