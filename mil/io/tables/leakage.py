"""The check that no patient is in two splits: then test slides would not be new to a head."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mil.errors import DatasetError


class PatientSlide(NamedTuple):
    """A slide, its patient and its split; an empty split: in none."""

    patient: str
    slide: str
    split: str


def check_patients_in_one_split(rows: Iterable[PatientSlide], where: str) -> None:
    """Refuse rows in which a patient's slides are in two splits.

    Args:
        rows: the slides of one table or fold.
        where: file, and fold if any, for the message.

    Raises:
        DatasetError: a patient is in two splits.
    """
    fault = next(patients_in_two_splits(rows), None)
    if fault is not None:
        raise DatasetError(f"{where}: {fault}")


def patients_in_two_splits(rows: Iterable[PatientSlide]) -> Iterator[str]:
    """A sentence for each patient whose slides are in two splits."""
    first_rows: dict[str, PatientSlide] = {}
    refused: set[str] = set()
    for row in rows:
        first = first_rows.setdefault(row.patient, row)
        # An empty split differs too: that slide could be drawn into any.
        if first.split != row.split and row.patient not in refused:
            refused.add(row.patient)
            yield (
                f"patient {row.patient} is in two splits: slide {first.slide} in "
                f"{first.split or 'none'}, slide {row.slide} in {row.split or 'none'}; such a "
                "split leaks, keep a patient's slides together"
            )
