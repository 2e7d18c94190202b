"""A comparison as a table: CSV for machines, Markdown and LaTeX for people."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mil.io.atomic import write_text
from mil.io.tables import write_csv

NAMES = 2  # columns that say what a row is of
WIDE = 6  # more columns than this are made to fit the page
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


def write_csv_table(path: Path, found: Mapping[str, Any]) -> None:
    """One row a head, a column for each number."""
    write_csv(path, [_flat(row, found) for row in found["rows"]])


def _flat(row: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: row[key] for key in ("encoder", "recipe", "seeds", "folds")}
    flat |= {key: found[key] for key in ("n_slides", "n_patients")}
    for level in ("slides", "patients"):
        for name, metric in row[level].items():
            prefix = name if level == "slides" else f"patients_{name}"
            low, high = (metric or {}).get("ci95") or ("", "")
            number = (metric or {}).get("value")
            flat |= {
                prefix: "" if number is None else number,
                f"{prefix}_low": low,
                f"{prefix}_high": high,
            }
    for name, spread in row["over_runs"].items():
        flat |= {f"{name}_{key}": _or_nothing((spread or {}).get(key)) for key in ("mean", "sd")}
    return flat


def _or_nothing(number: float | None) -> float | str:
    return "" if number is None else number


def write_markdown(path: Path, found: Mapping[str, Any]) -> None:
    """Both tables and the notes."""
    tables = [_markdown(**table) for table in found["tables"].values()]
    parts = [f"# {_plain(found['dataset'])}: heads compared", *tables]
    write_text(path, "\n\n".join([*parts, *(_plain(note) for note in found["notes"])]) + "\n")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown leaves alone."""
    return "".join(f"\\{letter}" if letter in "\\|*_`[]<>#" else letter for letter in text)


def write_latex(path: Path, found: Mapping[str, Any]) -> None:
    """Both tables, for the packages booktabs and graphicx; the notes under the last."""
    captions = {
        "heads": f"Heads on {found['dataset']}.",
        "pairs": f"Paired tests of the heads on {found['dataset']}.",
    }
    last = list(found["tables"])[-1]
    parts = [
        _latex(
            **table,
            caption=captions[name],
            label=name,
            notes=found["notes"] if name == last else (),
        )
        for name, table in found["tables"].items()
    ]
    write_text(path, "% needs \\usepackage{booktabs, graphicx}\n" + "\n".join(parts))


def _latex(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    label: str,
    notes: Sequence[str],
) -> str:
    wide = len(header) > WIDE
    body = [
        line for row in rows for line in (_two_lines(row) if wide else [_line(map(latex, row))])
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(caption)}}}\label{{tab:{label}}}",
            r"\smallskip",
            *([r"\resizebox{\textwidth}{!}{%"] if wide else []),
            rf"\begin{{tabular}}{{ll{'r' * (len(header) - NAMES)}}}",
            r"\toprule",
            _line(map(latex, header)),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}" + "}" * wide,
            *(
                [rf"\par\smallskip\raggedright\footnotesize {latex(' '.join(notes))}"]
                if notes
                else []
            ),
            r"\end{table}",
            "",
        ]
    )


def _two_lines(row: Sequence[str]) -> list[str]:
    """Numbers, and below each in small print what stands behind it, such as its interval."""
    split = [
        (cell, "", "") if i < NAMES or cell.startswith("<") else cell.partition(" ")
        for i, cell in enumerate(row)
    ]
    below = [rf"{{\scriptsize {latex(rest)}}}" if rest else "" for _, _, rest in split]
    return [_line(latex(number) for number, _, _ in split), _line(below), r"\addlinespace"]


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(ESCAPED.get(letter, letter) for letter in text)
