"""Figures of how easily the code reads, by package: `python tests/house.py`.

Nodes of the syntax tree a line of code (aim: at most 10.5), lines over 88 columns (at most 6 %),
comments per 100 lines that are not blank (at least 5), `dict[str, Any]` (at most 30) and
loose modules at the top (at most 9). Docstrings and blank lines are no code.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1] / "mil"
LONG = 88  # columns
NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
FOR_TOOLS = ("# fmt:", "# noqa", "# type:")


class Counts(NamedTuple):
    """What a file, or several, hold."""

    lines: int
    filled: int  # lines that are not blank
    long: int
    code: int
    nodes: int
    comments: int
    untyped: int  # `dict[str, Any]`

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]
        return Counts(*(one + two for one, two in zip(self, other, strict=True)))


def counts_of(path: Path) -> Counts:
    """Count one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    lines = text.splitlines()
    return Counts(
        lines=len(lines),
        filled=sum(bool(line.strip()) for line in lines),
        long=sum(len(line) > LONG for line in lines),
        code=len(_lines_of(tokens) - _docstrings(tree)),
        nodes=sum(1 for _ in ast.walk(tree)),
        comments=sum(_is_comment(token) for token in tokens),
        untyped=text.count("dict[str, Any]"),
    )


def _lines_of(tokens: Iterable[tokenize.TokenInfo]) -> set[int]:
    found: set[int] = set()
    for token in tokens:
        if token.type not in NO_CODE:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found


def _docstrings(tree: ast.Module) -> set[int]:
    found: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            found |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found


def _is_comment(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.COMMENT and not token.string.startswith(FOR_TOOLS)


def row_of(name: str, files: Iterable[Path]) -> str:
    """One line of the table."""
    total = Counts(0, 0, 0, 0, 0, 0, 0)
    for file in files:
        total = total + counts_of(file)
    code = max(total.code, 1)
    nodes = total.nodes / code
    long = 100 * total.long / max(total.lines, 1)
    comments = 100 * total.comments / max(total.filled, 1)
    return (
        f"{name:<12}{total.lines:>7}{nodes:>8.2f}{long:>7.1f} %{comments:>8.1f}{total.untyped:>9}"
    )


def main() -> None:
    """Print the table: the whole package, its loose modules, then each package."""
    loose = sorted(PACKAGE.glob("*.py"))
    print(f"{'':<12}{'lines':>7}{'nodes':>8}{'long':>9}{'comments':>8}{'untyped':>9}")
    print(row_of("mil", PACKAGE.rglob("*.py")))
    print(row_of("(top)", loose))
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        print(row_of(folder.name, folder.rglob("*.py")))
    print(f"\n{len(loose)} loose modules at the top: {', '.join(path.stem for path in loose)}")


if __name__ == "__main__":
    sys.exit(main())
