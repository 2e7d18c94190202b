"""Code blocks of a page of the documentation, run in order, and the output they promise."""

import re
from contextlib import redirect_stdout
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from io import StringIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# A Python block, and the text block that follows it directly, if any: its output.
BLOCK = re.compile(
    r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)


class Example(NamedTuple):
    code: str
    output: str
    line: int


def examples_of(page: str) -> list[Example]:
    """The Python blocks of a page, given its path in the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Example(match[1], match[2] or "", text.count("\n", 0, match.start()) + 2)
        for match in BLOCK.finditer(text)
    ]


def run_page(page: str) -> None:
    """Run the blocks in one namespace; fail where one prints something else than shown."""
    checker = OutputChecker()
    flags = ELLIPSIS | NORMALIZE_WHITESPACE
    names: dict[str, object] = {}
    for example in examples_of(page):
        printed = StringIO()
        place = f"{page}, line {example.line}"
        with redirect_stdout(printed):
            exec(compile(example.code, place, "exec"), names)
        got = printed.getvalue()
        assert checker.check_output(example.output, got, flags), (
            f"{place}: shows\n{example.output}but printed\n{got}"
        )
