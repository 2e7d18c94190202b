"""Options of `mil dataset init` about its spreadsheet."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mil.io.tables.label_options import CLASSIFICATION, LabelOptions


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """Columns and labels of the spreadsheet by the user; None or empty: recognised.

    Attributes:
        slide_column: Column of slide names.
        label_column: Column of labels.
        patient_column: Column of patients.
        positive: Class of interest; None: the last class.
        relabel: Labels to write in place of others, as OLD=NEW.
        labels: Task of the labels, with its columns.
    """

    slide_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
    positive: str | None = None
    relabel: Sequence[str] = ()
    labels: LabelOptions = field(default_factory=LabelOptions)

    @property
    def columns(self) -> tuple[str | None, ...]:
        """Names of columns by the user."""
        times = (self.labels.time_column, self.labels.event_column)
        return (self.slide_column, self.label_column, self.patient_column, *times)

    def words(self) -> list[str]:
        """The options as they were typed, for a command that is proposed."""
        stated = {name: value for name, value in vars(self).items() if name != "labels"}
        words = []
        for name, value in (stated | vars(self.labels)).items():
            # Neither what was left out nor the default task.
            values = [value] if isinstance(value, str) else value or []
            words += [
                word
                for one in values
                if one not in ("", CLASSIFICATION)
                for word in (f"--{name.replace('_', '-')}", one)
            ]
        return words
