"""A table of recipes and heads. Nothing is imported: what a head is stands in the first line of its file."""

import ast
import re
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mil.config import Recipe, check_head, checked, read_yaml
from mil.config.recipes import head_names, package_of, plugged_heads, recipe_files
from mil.errors import ConfigError

LEAST_COLUMNS = 100  # for a pipe, which has no width
ADDRESS = re.compile(r"https?://[^\s,;()]*[^\s,;().:]")
RECIPES = ("recipe", "head", "what it is", "from")
HEADS = ("head", "what it is", "from")


def listed() -> str:
    """Recipes, then heads: name, what it is, where it is from."""
    return f"{_table(RECIPES, _recipes())}\n\n{_table(HEADS, _heads())}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    for column in table.columns[:-2]:
        column.no_wrap = True
    table.columns[-1].overflow = "fold"  # an address cut short is of no use
    seen = Console()
    console = Console(
        width=seen.width if seen.is_terminal else max(seen.width, LEAST_COLUMNS), highlight=False
    )
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _recipes() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, path in sorted(recipe_files().items()):
        try:
            recipe = checked(Recipe, read_yaml(path), str(path))
            entry = check_head(recipe.name)
        except ConfigError as error:
            rows.append((name, "", f"unusable: {str(error).removeprefix(f'{path}: ')}", str(path)))
            continue
        package = f"head of the package {package_of(entry)}" if entry else ""
        rows.append(
            (
                name,
                recipe.name,
                sentence(comment(path)),
                ", ".join(filter(None, [recipe.source, package])),
            )
        )
    return rows


def _heads() -> list[tuple[str, ...]]:
    plugged = plugged_heads()
    return [_head(name, plugged.get(name)) for name in head_names()]


def _head(name: str, entry: EntryPoint | None) -> tuple[str, ...]:
    package = f"the package {package_of(entry)}" if entry else ""
    try:
        check_head(name)
    except ConfigError as error:
        return name, f"unusable: {error}", package
    said = docstring(source_of(name, entry))
    address = ADDRESS.search(said)
    first = said.partition("\n")[0]
    what = first[: address.start()] if address and address.start() < len(first) else first
    return (
        name,
        what.rstrip(" ,("),
        ", ".join(filter(None, [package, address[0] if address else ""])),
    )


def source_of(name: str, entry: EntryPoint | None) -> Path | None:
    """The file of a head, found without importing anything of it; None: it is not to be found so."""
    if entry is None:
        return Path(__file__).parents[1] / "heads" / f"{name}.py"
    top, *rest = entry.module.split(".")
    try:
        spec = find_spec(top)  # of a top-level name: imports nothing
        path = top
        for part in rest:
            path = f"{path}.{part}"
            spec = PathFinder.find_spec(path, spec.submodule_search_locations if spec else None)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def docstring(path: Path | None) -> str:
    """What a module says of itself; empty if it cannot be read."""
    try:
        return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" if path else ""
    except (OSError, ValueError, SyntaxError):
        return ""


def comment(path: Path) -> str:
    """The lines of comment that a recipe begins with, as one."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def sentence(text: str) -> str:
    """The first sentence."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]
