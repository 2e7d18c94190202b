"""Options of `mil dataset init` about its spreadsheet."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """Columns and labels of the spreadsheet by the user; None or empty: recognised.

    Attributes:
        slide_column: Column of slide names.
        label_column: Column of labels.
        patient_column: Column of patients.
        positive: Class of interest; None: the last class.
        relabel: Labels to write in place of others, as OLD=NEW.
    """

    slide_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
    positive: str | None = None
    relabel: Sequence[str] = ()

    def words(self) -> list[str]:
        """The options as they were typed, for a command that is proposed."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        words = []
        for name, value in given.items():
            values = [value] if isinstance(value, str) else value or []
            words += [word for one in values for word in (f"--{name.replace('_', '-')}", one)]
        return words
