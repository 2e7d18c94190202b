"""`mil bags sets`: the entries of configs/bag_sets.yaml."""

from mil.config import BagSetConfig, load_bag_sets

COLUMNS = ("set", "encoder", "size", "access", "verified", "licence")


def set_lines() -> list[str]:
    """A line for each bag set, under a line of headings."""
    entries = load_bag_sets()
    rows = [COLUMNS, *(_row(name, entry) for name, entry in entries.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    notes = [
        f"{name}: not verified: {' '.join(entry.unverified.split())}"
        for name, entry in entries.items()
        if entry.unverified
    ]
    return [*lines, *notes]


def _row(name: str, entry: BagSetConfig) -> tuple[str, ...]:
    size = f"{entry.size_gb:g} GB" if entry.size_gb else "unknown"
    access = "account" if entry.gated else "open"
    # Whether an entry was ever fetched from the hub itself, not what a fetch would check.
    verified = "partly" if entry.unverified else "yes"
    return name, entry.encoder, size, access, verified, entry.licence
