"""The table of a dataset's bags: which there are, and a digest of each."""

from pathlib import Path

from mil.errors import FormatError
from mil.io.bags.fingerprint import bag_digest
from mil.io.bags.folder import slides_with_bags
from mil.io.tables import read_dataset, write_csv
from mil.progress import progress

COLUMNS = ("slide", "digest")


def write_bags_table(dataset: str, folder: Path, out: Path) -> int:
    """Write slide and digest of each bag of a dataset; equal tables mean equal bags.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        folder: Folder of the bags.
        out: CSV to write.

    Returns:
        Number of the bags.

    Raises:
        DatasetError: The slide table cannot be used, or the folder holds no bag.
    """
    _, table = read_dataset(dataset)
    with_bag = set(slides_with_bags(folder))
    slides = [row.slide for row in table if row.slide in with_bag]
    rows = []
    with progress("bags", len(slides), "bags") as advance:
        for slide in slides:
            rows.append({"slide": slide, "digest": _digest(folder / f"{slide}.h5")})
            advance(1)
    write_csv(out, rows, COLUMNS)
    return len(rows)


def _digest(path: Path) -> str:
    try:
        return bag_digest(path)
    # The stage that reads the features says what is wrong with them.
    except FormatError:
        return "unreadable"
