"""The plan of the demo slides. Standard library only, so that a dry run can read it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random

SCANNER_MPP = {"A": 0.25, "B": 0.4942}
TISSUES = ("node", "resection", "core")

# One word per patient; one letter pair per slide: label (n, t) and scanner (A, B). A
# patient's slides stay in one split; scanner and label are crossed within every split.
_COHORTS: dict[str, dict[str, str]] = {
    "demo": {
        "train": "nAnB tAtB nA nB tA tB nAnA tAtB nBtA tB nB",
        "val": "nAtB nB tA tBnA",
        "test": "nBnA tA tAtB nB nA tB tA nB",
    },
    "mini": {"train": "nA tB nB tA", "val": "tA nB", "test": "nA tB"},
}
# Sizes of the tumour, in the order of the positive slides of a split.
_EXTENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "demo": {
        "train": ("large", "small", "medium", "large", "medium", "small", "large", "medium"),
        "val": ("medium", "small", "large"),
        "test": ("large", "medium", "small", "medium", "large"),
    },
    "mini": {"train": ("half", "half"), "val": ("half",), "test": ("half",)},
}
# Artefacts of the i-th slide of a label in a split, so both labels have the same ones.
_PENS = ("", "blue", "", "", "green", "", "black", "")
_SIDE_PX: dict[str, dict[str, tuple[int, int]]] = {
    "demo": {"A": (3400, 6000), "B": (3000, 4500)},
    "mini": {"A": (2100, 2200), "B": (1500, 1900)},
}


@dataclass(frozen=True)
class DemoSlide:
    """One synthetic slide: what it is called, how large it is, and what will be drawn on it."""

    id: str
    patient: str
    label: str
    split: str
    scanner: str
    mpp: float
    width_px: int
    height_px: int
    seed: int
    tissue: str
    num_pieces: int
    extent: str
    pen: str
    fold: bool
    out_of_focus: bool


@dataclass(frozen=True)
class _Seat:
    """A slide before it has its name."""

    patient: int
    split: str
    label: str
    scanner: str
    rank: int
    extent: str


def demo_slides(plan: str) -> list[DemoSlide]:
    """All slides of a plan, sorted by id.

    Args:
        plan: `demo` (32 slides) or `mini` (8 small ones, for tests).

    Raises:
        ValueError: there is no such plan.
    """
    if plan not in _COHORTS:
        raise ValueError(f"no demo plan named '{plan}'; there are: {', '.join(sorted(_COHORTS))}")
    random = Random(f"mil demo {plan}")
    seats = _seats(plan)
    random.shuffle(seats)
    numbers = sorted({seat.patient for seat in seats})
    random.shuffle(numbers)
    return [_slide(plan, index + 1, seat, numbers) for index, seat in enumerate(seats)]


def demo_table(plan: str) -> list[dict[str, str]]:
    """The rows of `configs/datasets/<plan>.csv`; a normal slide has no annotation."""
    rows = []
    for slide in demo_slides(plan):
        positive = slide.label == "tumour"
        rows.append(
            {
                "slide": slide.id,
                "patient": slide.patient,
                "path": f"{slide.id}.tif",
                "url": f"demo:{slide.id}.tif",
                "label": slide.label,
                "split": slide.split,
                "annotation": f"annotations/{slide.id}.xml" if positive else "",
                "annotation_url": f"demo:{slide.id}.xml" if positive else "",
                "scanner": slide.scanner,
            }
        )
    return rows


def _seats(plan: str) -> list[_Seat]:
    seats = []
    patient = 0
    for split, cohort in _COHORTS[plan].items():
        ranks = {"n": 0, "t": 0}
        for word in cohort.split():
            for letter, scanner in zip(word[::2], word[1::2], strict=True):
                positive = letter == "t"
                extent = _EXTENTS[plan][split][ranks[letter]] if positive else "none"
                label = "tumour" if positive else "normal"
                seats.append(_Seat(patient, split, label, scanner, ranks[letter], extent))
                ranks[letter] += 1
            patient += 1
    return seats


def _slide(plan: str, number: int, seat: _Seat, patient_order: list[int]) -> DemoSlide:
    name = f"{plan}_{number:02d}"
    seed = zlib.crc32(f"mil demo slide {name}".encode())
    random = Random(seed)
    low, high = _SIDE_PX[plan][seat.scanner]
    offset = {"train": 0, "val": 1, "test": 2}[seat.split]
    whole = plan == "demo"
    return DemoSlide(
        id=name,
        patient=f"p{patient_order.index(seat.patient) + 1:02d}",
        label=seat.label,
        split=seat.split,
        scanner=seat.scanner,
        mpp=SCANNER_MPP[seat.scanner],
        width_px=random.randrange(low, high + 1),
        height_px=random.randrange(low, high + 1),
        seed=seed,
        tissue=TISSUES[(seat.rank + offset) % len(TISSUES)],
        num_pieces=random.choice((1, 1, 2, 2, 3)) if whole else 1,
        extent=seat.extent,
        pen=_PENS[(seat.rank + offset) % len(_PENS)] if whole else "",
        fold=whole and (seat.rank + offset) % 5 == 2,
        out_of_focus=whole and seat.split == "train" and seat.rank == 3,
    )
