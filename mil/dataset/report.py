"""The report that `mil dataset init` prints."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mil.errors import some
from mil.io.tables.label_options import LabelOptions, counts_text


@dataclass(frozen=True)
class InitReport:
    """The new dataset, and the files and rows that are not in it.

    Attributes:
        yaml: Yaml of the dataset.
        csv: Slide table of the dataset.
        columns: Spreadsheet columns of slide, label and patient; None: there was none.
        options: Task of the labels.
        num_slides: Number of slides in the table.
        counts: Number of slides by class, in the order of the yaml, or with the event.
        positive: Class of interest; empty where labels are numbers.
        num_patients: Number of patients.
        num_annotated: Number of slides with an annotation.
        unreadable: Slides in the table that OpenSlide does not open; tiling will name
            their state.
        without_row: Slides that the spreadsheet does not name; left out.
        without_slide: Names in the spreadsheet without a slide; left out.
        without_label: Slides whose label is empty; left out.
        foreign: Files named like an annotation that are none; not used.
        notes: Sentences on the spreadsheet and the table.
    """

    yaml: Path
    csv: Path
    columns: dict[str, str | None]
    options: LabelOptions
    num_slides: int
    counts: dict[str, int]
    positive: str
    num_patients: int
    num_annotated: int
    unreadable: list[str]
    without_row: list[str]
    without_slide: list[str]
    without_label: list[str]
    foreign: list[str]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Text for the user; lists are shortened to their first names."""
        columns = ", ".join(f"{ours} from {name!r}" for ours, name in self.columns.items() if name)
        labels = counts_text(self.counts, self.options)
        positive = f"positive: {self.positive}; " if self.positive else ""
        lines = [
            f"{self.num_slides} slides of {self.num_patients} patients ({labels}); "
            f"{positive}{self.num_annotated} with annotation",
            f"columns: {columns}",
        ]
        lines += self.notes
        if self.options.is_classification and len(self.counts) == 1:
            lines.append(
                "only one label: heads trained elsewhere can be applied to these slides, none can "
                "be trained on them"
            )
        lists = {
            "slides without a row in the table, left out": self.without_row,
            "rows without a slide, left out": self.without_slide,
            "slides without a label, left out": self.without_label,
            "slides that OpenSlide does not open, kept; tiling will name the reason": (
                self.unreadable
            ),
            "XML files without annotated regions, not used": self.foreign,
        }
        lines += [_line(title, names) for title, names in lists.items() if names]
        return "\n".join([*lines, f"wrote {self.yaml}", f"wrote {self.csv}"])


def _line(title: str, names: Sequence[str]) -> str:
    return f"{title} ({len(names)}): {some(names)}"
