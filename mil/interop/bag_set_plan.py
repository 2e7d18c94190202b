"""What a fetch will do, told before it: source, licence, citation, download and disk."""

import shutil
from collections.abc import Sequence

from mil.errors import DatasetError
from mil.interop.bag_set_fetch import BagSetFetch
from mil.interop.bag_set_layouts import UNITS, Portion
from mil.interop.hub_files import RemoteListing

GB = 1e9
# Archives pack float32 features to nine tenths of their size.
UNPACKED = 1.1


def plan_lines(
    fetch: BagSetFetch,
    listing: RemoteListing,
    all_portions: Sequence[Portion],
    pending: Sequence[Portion],
) -> list[str]:
    """Lines about source, licence and sizes.

    Args:
        fetch: The fetch.
        listing: Files of the repository.
        all_portions: Portions of the set.
        pending: Those whose bags are not there.
    """
    entry = fetch.entry
    least, most, flight = _disk_bytes(fetch, pending)
    size = sum(part.size for part in pending)
    num_files = sum(len(part.files) for part in pending)
    done = len(all_portions) - len(pending)
    unit = UNITS[entry.layout]
    already = f"; {done} of {len(all_portions)} {unit} are there" if done else ""
    lines = [
        f"bag set {fetch.name}: {entry.title}, from {fetch.repository.page} at "
        f"{listing.commit[:12]}",
        f"licence: {entry.licence}",
        f"citation: {entry.citation}",
    ]
    if entry.unverified:
        lines.append(f"not verified in this entry: {entry.unverified}")
    without = sum(len(part.files) == 1 for part in all_portions) if entry.coords else 0
    if without:
        lines.append(f"corners: not there for {without} of {len(all_portions)} {unit}")
    lines.append(f"download: {num_files} files, {size / GB:.3g} GB{already}")
    if pending:
        lines.append(
            f"disk: {least / GB:.3g} to {most / GB:.3g} GB for bags in {fetch.options.out}, and "
            f"{flight / GB:.3g} GB for what is downloaded at a time"
        )
    return lines


def _disk_bytes(fetch: BagSetFetch, pending: Sequence[Portion]) -> tuple[float, float, float]:
    """Least and most bytes of the bags, and bytes of the largest portion under way."""
    archives = fetch.entry.layout == "torchmil"
    features = sum(part.files[0].size for part in pending) * (UNPACKED if archives else 1.0)
    # Published features are float32 or float16; the file does not tell before it is there.
    least = features * (0.5 if fetch.options.dtype == "float16" else 1.0)
    return least, 2 * least, float(max((part.size for part in pending), default=0))


def check_disk(fetch: BagSetFetch, pending: Sequence[Portion]) -> None:
    """Refuse a fetch that the disk cannot hold.

    Raises:
        DatasetError: Less is free than the bags need at least.
    """
    least, _, flight = _disk_bytes(fetch, pending)
    folder = fetch.options.out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < least + flight:
        raise DatasetError(
            f"{fetch.options.out}: {free / GB:.3g} GB are free there, but {fetch.name} needs at "
            f"least {(least + flight) / GB:.3g} GB; choose another --out"
        )
