"""What `mil dataset init` tells its user."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.errors import SHOWN


@dataclass(frozen=True)
class InitReport:
    """What `init` made of what it found.

    Attributes:
        yaml: the dataset's yaml.
        csv: its slide table.
        columns: slide, label and patient: the spreadsheet's name of the column; None:
            there was none.
        classes: each class and its number of slides, in the order of the yaml.
        positive: the class of interest.
        num_patients: how many patients the slides are of.
        num_annotated: how many slides have an annotation.
        unreadable: slides in the table that OpenSlide does not know; tiling will name
            their state.
        without_row: slides that the spreadsheet does not name; left out.
        without_slide: names in the spreadsheet that no slide has; left out.
        without_label: slides whose label is empty; left out.
        foreign: files named like an annotation that are something else; not used.
    """

    yaml: Path
    csv: Path
    columns: dict[str, str | None]
    classes: dict[str, int]
    positive: str
    num_patients: int
    num_annotated: int
    unreadable: list[str]
    without_row: list[str]
    without_slide: list[str]
    without_label: list[str]
    foreign: list[str]

    @property
    def num_slides(self) -> int:
        """Slides in the table."""
        return sum(self.classes.values())

    def __str__(self) -> str:
        """The report as a user reads it; lists are cut to the first few names."""
        used = ", ".join(f"{ours} from {name!r}" for ours, name in self.columns.items() if name)
        classes = ", ".join(f"{label} {count}" for label, count in self.classes.items())
        lines = [
            f"{self.num_slides} slides of {self.num_patients} patients ({classes}); "
            f"positive: {self.positive}; {self.num_annotated} with annotation",
            f"columns: {used}",
        ]
        if self.columns["patient"] is None:
            lines.append("no column for the patient: each slide counts as a patient of its own")
        if len(self.classes) == 1:
            lines.append(
                "only one label: heads trained elsewhere can look at these slides, none can be "
                "trained on them"
            )
        remarks = {
            "slides without a row in the table, left out": self.without_row,
            "rows without a slide, left out": self.without_slide,
            "slides without a label, left out": self.without_label,
            "slides that OpenSlide does not know, kept; tiling will say why": self.unreadable,
            "files that are not ASAP annotations, not used": self.foreign,
        }
        lines += [
            f"{what} ({len(names)}): {_few(names)}" for what, names in remarks.items() if names
        ]
        return "\n".join([*lines, f"wrote {self.yaml}", f"wrote {self.csv}"])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
