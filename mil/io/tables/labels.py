"""One spelling for each class: equal numbers are one, look-alikes are refused with a proposal."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mil.errors import DatasetError, unknown_name
from mil.io.tables.faults import Faults
from mil.io.tables.spreadsheet import Sheet
from mil.text import clean, escaped, is_empty, look, number_in

# Numbers above are not written out.
LARGEST = 1e15


def relabelled(sheet: Sheet, column: str, relabel: Mapping[str, str], faults: Faults) -> Sheet:
    """The table with labels replaced as the user says; one form of empty in all other columns.

    Args:
        sheet: the table.
        column: column of the labels.
        relabel: labels to write in place of others.
        faults: faults of the table, to which labels that do not occur are added.
    """
    counts = Counter(row[column] for _, row in sheet.rows)
    for old in relabel:
        if old not in counts:
            faults.add(f"--relabel: {unknown_name('label', old, filter(None, counts))}")
    rows = [
        (line, {**row, column: relabel.get(row[column], row[column])}) for line, row in sheet.rows
    ]
    words = [repr(word) for word in counts if word and word not in relabel and is_empty(word)]
    notes = []
    if words:
        notes = [f"labels that count as empty: {', '.join(words)}; if not: --relabel OLD=NEW"]
    return replace(sheet, rows=rows, notes=[*sheet.notes, *notes]).emptied(spared=[column])


def one_spelling(labels: Sequence[str], faults: Faults) -> tuple[dict[str, str], list[str]]:
    """The class of each label as written.

    Args:
        labels: label of each slide, cleaned.
        faults: faults of the table, to which look-alikes are added.

    Returns:
        Class by label, and notes for the user.
    """
    counts = Counter(labels)
    classes = {label: label for label in counts}
    notes = []
    for name, spellings in _equal_numbers(counts).items():
        if spellings != [name]:
            notes.append(f"equal numbers are one class: {', '.join(spellings)} -> {name}")
            classes.update(dict.fromkeys(spellings, name))
    merged = _refuse_look_alikes(classes, counts, faults)
    return {label: merged.get(name, name) for label, name in classes.items()}, notes


def _equal_numbers(classes: Iterable[str]) -> dict[str, list[str]]:
    """Spellings of each number by the name that it gets."""
    by_number: dict[float, list[str]] = defaultdict(list)
    for name in dict.fromkeys(classes):
        number = number_in(name)
        if number is not None and abs(number) < LARGEST:
            by_number[number].append(name)
    return {_name(number, spellings): spellings for number, spellings in by_number.items()}


def _name(number: float, spellings: Sequence[str]) -> str:
    # A code such as 01 stays, unless another spelling of the number is there.
    if len(spellings) == 1 and not set(spellings[0]) & set(".,eE+"):
        return spellings[0]
    return str(int(number)) if number.is_integer() else str(number)


def _refuse_look_alikes(
    classes: Mapping[str, str], counts: Mapping[str, int], faults: Faults
) -> dict[str, str]:
    """Refuse classes that look alike; the most frequent spelling is proposed for all.

    Returns:
        Proposed class of each other spelling, so that further faults are told of it.
    """
    by_look: dict[str, Counter[str]] = defaultdict(Counter)
    for label, name in classes.items():
        by_look[look(name)][name] += counts[label]
    proposed: dict[str, str] = {}
    for alike in by_look.values():
        if len(alike) == 1:
            continue
        kept, *others = (name for name, _ in alike.most_common())
        same_case = len({name.casefold() for name in alike}) == 1
        names = ", ".join(sorted(alike) if same_case else map(escaped, sorted(alike)))
        kind = "differ in case only" if same_case else "look alike"
        faults.add(f"labels that {kind} ({names}); write them the same, or map them by --relabel")
        faults.propose("--relabel", *(f"{name}={kept}" for name in others))
        proposed.update(dict.fromkeys(others, kept))
    return proposed


def parsed_relabel(options: Sequence[str]) -> dict[str, str]:
    """Options `OLD=NEW` as a mapping.

    Raises:
        DatasetError: An option has no `=`, or NEW is a word for an empty cell.
    """
    pairs = {}
    for option in options:
        old, equals, new = map(clean, option.partition("="))
        if not equals or is_empty(new):
            raise DatasetError(f"--relabel {option}: write OLD=NEW, such as Tumor=tumour")
        pairs[old] = new
    return pairs
