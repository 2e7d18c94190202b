"""A comparison as a table: CSV for machines, Markdown and LaTeX for people."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mil.io.atomic import write_text
from mil.io.results import ComparedHead, Comparison, Localisation, Table
from mil.io.tables import write_csv
from mil.statistics.metric import Metric, Spread

NAMES = 2  # first columns, which name the row and are aligned left
WIDE = 6  # number of columns up to which a LaTeX table fits a page as it is
# Characters that LaTeX reads as commands, or that its fonts lack.
ESCAPED = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "–": "--",
    "·": r"$\cdot$",
    "µ": r"\textmu{}",
    "−": "$-$",
    "|": r"\textbar{}",
    "²": "$^2$",
}


def write_csv_table(path: Path, comparison: Comparison) -> None:
    """Write one row for each head, with a column for each number."""
    write_csv(path, [_numbers(row, comparison) for row in comparison.rows])


def _numbers(row: ComparedHead, comparison: Comparison) -> dict[str, str | float]:
    numbers: dict[str, str | float] = {
        "encoder": row.encoder,
        "recipe": row.recipe,
        "seeds": row.seeds,
        "folds": row.folds,
        "predicted_by": row.predicted_by,
        "n_slides": comparison.n_slides,
        "n_patients": comparison.n_patients,
    }
    numbers |= _metric_columns("", row.slides)
    numbers |= _metric_columns("patients_", row.patients)
    for name, spread in row.over_runs.items():
        known = spread or Spread(mean=None, sd=None)
        least, most = row.range_over_runs.get(name) or ("", "")
        numbers[f"{name}_mean"] = _or_empty(known.mean)
        numbers[f"{name}_sd"] = _or_empty(known.sd)
        numbers[f"{name}_min"] = least
        numbers[f"{name}_max"] = most
    if "attention" in comparison.tables:
        numbers |= _attention(row.localisation)
    return numbers


def _attention(tiles: Localisation | None) -> dict[str, str | float]:
    hottest = None if tiles is None else tiles.hottest_tile
    metrics = {
        "tile_auroc": None if tiles is None else tiles.tile_auroc,
        "hottest_tile_rate": None if hottest is None else hottest.rate,
    }
    by_chance = None if hottest is None else hottest.by_chance
    return _metric_columns("", metrics) | {"hottest_tile_by_chance": _or_empty(by_chance)}


def _metric_columns(prefix: str, metrics: Mapping[str, Metric | None]) -> dict[str, str | float]:
    columns: dict[str, str | float] = {}
    for name, metric in metrics.items():
        known = metric or Metric(value=None)
        low, high = known.ci95 or ("", "")
        columns[f"{prefix}{name}"] = _or_empty(known.value)
        columns[f"{prefix}{name}_low"] = low
        columns[f"{prefix}{name}_high"] = high
    return columns


def _or_empty(number: float | None) -> float | str:
    return "" if number is None else number


def write_markdown(path: Path, comparison: Comparison) -> None:
    """Write what was asked, all tables and the notes."""
    parts = [f"# {_plain(comparison.dataset)}: heads compared"]
    parts += [_plain(statement) for statement in comparison.statements]
    parts += [_markdown(table) for table in comparison.tables.values()]
    parts += [_plain(note) for note in comparison.notes]
    write_text(path, "\n\n".join(parts) + "\n")


def _markdown(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(text: str) -> str:
    """Text without any mark that Markdown would read."""
    # Names of recipes and datasets are the user's, and their underscores would begin
    # emphasis.
    return "".join(f"\\{letter}" if letter in "\\|*_`[]<>#" else letter for letter in text)


def write_latex(path: Path, comparison: Comparison) -> None:
    """Write all tables, for the packages booktabs and graphicx, notes under the last."""
    captions = {
        "heads": f"Heads on {comparison.dataset}.",
        "attention": f"Attention of the heads on {comparison.dataset} and the annotated regions.",
        "pairs": f"Paired tests of the heads on {comparison.dataset}.",
    }
    last = list(comparison.tables)[-1]
    parts = []
    for name, table in comparison.tables.items():
        notes = [*comparison.statements, *comparison.notes] if name == last else ()
        parts.append(_latex(table, caption=captions[name], label=name, notes=notes))
    write_text(path, "% needs \\usepackage{booktabs, graphicx}\n" + "\n".join(parts))


def _latex(table: Table, *, caption: str, label: str, notes: Sequence[str]) -> str:
    # A wide table is scaled down to the page. Intervals then go below their numbers, or
    # the scale would be too small to read.
    wide = len(table.header) > WIDE
    body: list[str] = []
    for row in table.rows:
        body += _two_lines(row) if wide else [_line(map(latex, row))]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}\label{{tab:{label}}}",
        r"\smallskip",
    ]
    if wide:
        lines.append(r"\resizebox{\textwidth}{!}{%")
    lines += [
        rf"\begin{{tabular}}{{ll{'r' * (len(table.header) - NAMES)}}}",
        r"\toprule",
        _line(map(latex, table.header)),
        r"\midrule",
        *body,
        r"\bottomrule",
        # The brace closes \resizebox.
        r"\end{tabular}" + "}" * wide,
    ]
    if notes:
        lines.append(rf"\par\smallskip\raggedright\footnotesize {latex(' '.join(notes))}")
    return "\n".join([*lines, r"\end{table}", ""])


def _two_lines(row: Sequence[str]) -> list[str]:
    """Numbers, and below each in small print its interval or deviation."""
    numbers = []
    below = []
    for place, cell in enumerate(row):
        number, _, rest = cell.partition(" ")
        # A name, or `< 0.001`, stays whole.
        if place < NAMES or cell.startswith("<"):
            number, rest = cell, ""
        numbers.append(latex(number))
        below.append(rf"{{\scriptsize {latex(rest)}}}" if rest else "")
    return [_line(numbers), _line(below), r"\addlinespace"]


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(ESCAPED.get(letter, letter) for letter in text)
