"""What an import and an export say when they are done."""

from pathlib import Path

from mil.errors import some
from mil.interop.export_bags import Sent
from mil.interop.import_bags import Brought
from mil.interop.words import COSTS


def imported(brought: Brought, out: Path, dtype: str) -> list[str]:
    """The lines about an import; the last but the faults says what is not known."""
    made = len(brought.labels)
    lost = len(brought.faults)
    what = (
        f", {brought.tiles} tiles of {brought.dim} features in {dtype}, encoder {brought.encoder}"
    )
    what = what if brought.headers else ""
    lines = [f"import: {made} of {made + lost} bags from {brought.tool} into {out}{what}"]
    for name, slides in brought.unknown.items():
        if slides:
            lines.append(f"not known for {len(slides)} of {made} bags: {COSTS[name]}")
    if brought.off_nominal:
        worst = max(
            brought.off_nominal, key=lambda slide: abs(_off(*brought.off_nominal[slide]) - 1)
        )
        mpp, nominal = brought.off_nominal[worst]
        lines.append(
            "pixel size is more than 5 % from what the magnification would mean in "
            f"{len(brought.off_nominal)} slides, "
            f"most in {worst}: {mpp:.4g} µm, not {nominal:.4g}"
        )
    return [*lines, *brought.notes, *map(str, brought.faults)]


def _off(mpp: float, nominal: float) -> float:
    return max(mpp / nominal, nominal / mpp)


def exported(sent: Sent, tool: str, out: Path) -> list[str]:
    """The lines about an export."""
    folds = f", {sent.folds} folds" if sent.folds else ""
    lines = [f"export: {len(sent.slides)} bags to {tool} in {out}, {sent.tiles} tiles{folds}"]
    left_out = {
        "slides that are not ok": sent.not_ok,
        "slides that the dataset does not have": sent.not_in_dataset,
    }
    lines += [
        f"left out: {len(names)} {what}: {some(names)}" for what, names in left_out.items() if names
    ]
    return lines + (
        [f"left out: {sent.invalid} tiles that could not be read"] if sent.invalid else []
    )
