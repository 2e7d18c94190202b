"""`mil heads list`: a table of recipes and a table of heads.

No head is imported, since those of other packages may do anything at import: a head's
description is the docstring of its file.
"""

import ast
import re
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mil.config import Recipe, check_head, checked, read_yaml
from mil.config.heads import head_names, package_of, plugged_heads
from mil.config.recipes import recipe_files
from mil.errors import ConfigError

# A pipe has no width; narrower than this a description would be a column of words.
MIN_COLUMNS = 100
# A punctuation mark at the end belongs to the sentence, not to the address.
ADDRESS = re.compile(r"https?://[^\s,;()]*[^\s,;().:]")
HEADS_FOLDER = Path(__file__).parents[1] / "heads"


class RecipeRow(NamedTuple):
    """Row of the table of recipes; the fields are its columns."""

    name: str
    head: str
    description: str
    source: str


class HeadRow(NamedTuple):
    """Row of the table of heads; the fields are its columns."""

    name: str
    description: str
    source: str


def heads_table() -> str:
    """Table of recipes, then table of heads: name, description and source of each."""
    recipes = _table(("recipe", "head", "what it is", "from"), _recipe_rows())
    heads = _table(("head", "what it is", "from"), _head_rows())
    return f"{recipes}\n\n{heads}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    for column in table.columns[:-2]:
        column.no_wrap = True
    # An address that is cut cannot be followed.
    table.columns[-1].overflow = "fold"
    terminal = Console()
    width = terminal.width if terminal.is_terminal else max(terminal.width, MIN_COLUMNS)
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _recipe_rows() -> list[RecipeRow]:
    return [_recipe_row(name, path) for name, path in sorted(recipe_files().items())]


def _recipe_row(name: str, path: Path) -> RecipeRow:
    try:
        recipe = checked(Recipe, read_yaml(path), str(path))
        entry = check_head(recipe.name)
    except ConfigError as error:
        # A broken recipe of the user must not hide the others.
        reason = str(error).removeprefix(f"{path}: ")
        return RecipeRow(name, "", f"unusable: {reason}", str(path))
    sources = [recipe.source]
    if entry:
        sources.append(f"head of the package {package_of(entry)}")
    description = first_sentence(leading_comment(path))
    if recipe.train.auto:
        description = f"{description} Training is planned by cohort.".strip()
    return RecipeRow(name, recipe.name, description, ", ".join(filter(None, sources)))


def _head_rows() -> list[HeadRow]:
    plugged = plugged_heads()
    return [_head_row(name, plugged.get(name)) for name in head_names()]


def _head_row(name: str, entry: EntryPoint | None) -> HeadRow:
    package = f"the package {package_of(entry)}" if entry else ""
    try:
        check_head(name)
    except ConfigError as error:
        return HeadRow(name, f"unusable: {error}", package)
    text = docstring(source_of(name, entry))
    description = text.partition("\n")[0]
    address = ADDRESS.search(text)
    if address and address.start() < len(description):
        # The first line ends in the paper's address, which has a column of its own.
        description = description[: address.start()]
    sources = [package, address[0] if address else ""]
    return HeadRow(name, description.rstrip(" ,("), ", ".join(filter(None, sources)))


def source_of(name: str, entry: EntryPoint | None) -> Path | None:
    """Python file of a head, found without importing it; None if it cannot be found so.

    Args:
        name: name of the head.
        entry: entry point of another package's head; None: a head of mil.
    """
    if entry is None:
        return HEADS_FOLDER / f"{name}.py"
    top, *inner = entry.module.split(".")
    try:
        # Of a top-level name `find_spec` imports nothing; of an inner one it would
        # import the packages above it.
        spec = find_spec(top)
        path = top
        for part in inner:
            path = f"{path}.{part}"
            locations = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(path, locations)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def docstring(path: Path | None) -> str:
    """Docstring of a module, by its file; empty if it cannot be read."""
    if path is None:
        return ""
    try:
        return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    # A ValueError is of bytes that are not UTF-8.
    except (OSError, ValueError, SyntaxError):
        return ""


def leading_comment(path: Path) -> str:
    """Comment that a recipe begins with, on one line."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def first_sentence(text: str) -> str:
    """First sentence of a text; a mark before a small letter ends none ("Ilse et al. 2018")."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]
