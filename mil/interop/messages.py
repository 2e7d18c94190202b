"""Lines that `mil bags import` and `mil bags export` print when they are done."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mil.errors import some
from mil.interop.export_bags import BagExportResult
from mil.interop.export_vectors import VectorTable
from mil.interop.import_result import BagImportResult, DifferentPixelSize

# What cannot be done without a fact, and the option that states it.
EFFECTS_OF_UNKNOWN = {
    "coords": (
        "coordinates: no heatmap, no neighbours in space for graph heads, no export but CLAM's"
    ),
    "side_level0_px": (
        "side of a tile: no heatmap; give --side-level0-px, or CLAM's --patches DIR"
    ),
    "mpp_level0": (
        "pixel size: no scale bar, no export to STAMP; give --mpp, --mpp-table or --slides-dir"
    ),
}


def import_lines(result: BagImportResult, out: Path, dtype: str) -> list[str]:
    """Lines about an import: bags, unknown facts, notes, and last the faults.

    Args:
        result: the import.
        out: folder of the bags.
        dtype: type of the stored features.
    """
    # Each bag that was written has an entry, even with an empty label.
    imported = len(result.labels)
    total = imported + len(result.faults)
    content = ""
    if result.headers:
        content = (
            f", {result.tiles} tiles of {result.dim} features in {dtype}, encoder {result.encoder}"
        )
    lines = [f"import: {imported} of {total} bags from {result.tool} into {out}{content}"]
    for name, slides in result.unknown.items():
        if slides:
            effect = EFFECTS_OF_UNKNOWN[name]
            lines.append(f"not known for {len(slides)} of {imported} bags: {effect}")
    # Scanners differ, or the table of pixel sizes is wrong: the user decides.
    if result.off_nominal:
        lines.append(_off_nominal_line(result.off_nominal))
    return [*lines, *result.notes, *map(str, result.faults)]


def _off_nominal_line(sizes: dict[str, DifferentPixelSize]) -> str:
    # The worst one is the easiest to recognise as a mistake.
    worst = max(sizes, key=lambda slide: _ratio(sizes[slide]))
    size = sizes[worst]
    return (
        f"pixel size is more than 5 % from what the magnification would mean in {len(sizes)} "
        f"slides, most in {worst}: {size.mpp:.4g} µm, not {size.nominal_mpp:.4g}"
    )


def _ratio(size: DifferentPixelSize) -> float:
    """The larger pixel size over the smaller."""
    return max(size.mpp / size.nominal_mpp, size.nominal_mpp / size.mpp)


def export_lines(result: BagExportResult, tool: str, out: Path) -> list[str]:
    """Lines about an export: what was written, and what was left out.

    Args:
        result: the export.
        tool: name of the other tool.
        out: folder of the export.
    """
    folds = f", {result.folds} folds" if result.folds else ""
    lines = [f"export: {len(result.slides)} bags to {tool} in {out}, {result.tiles} tiles{folds}"]
    left_out = {
        "slides whose state is not ok": result.not_ok,
        "slides that are not in the dataset": result.not_in_dataset,
    }
    lines += _left_out_lines(left_out)
    if result.invalid_tiles:
        lines.append(f"left out: {result.invalid_tiles} tiles that could not be read")
    return lines


def vector_lines(table: VectorTable, file_format: str, out: Path) -> list[str]:
    """Lines about an export of vectors: what was written, and what was left out.

    Args:
        table: the vectors.
        file_format: `anndata` or `parquet`.
        out: the file.
    """
    slides, dim = table.vectors.shape
    lines = [f"export: {slides} slides of {dim} numbers to {file_format} in {out}"]
    left_out = {
        "slides whose state is not ok": table.not_ok,
        "slides that are not in the dataset": table.not_in_dataset,
    }
    return lines + _left_out_lines(left_out)


def _left_out_lines(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"left out: {len(names)} {reason}: {some(names)}"
        for reason, names in left_out.items()
        if names
    ]
