"""`mil bags fetch`: a public set of features from the hub becomes bags and a dataset."""

import shutil
from collections.abc import Callable

from filelock import FileLock, Timeout

from mil.config import BagSetConfig, load_bag_set
from mil.encoders.hub import HubError, Repository
from mil.errors import DatasetError, FormatError, some
from mil.interop.bag_set_dataset import check_dataset, label_source, write_set_dataset
from mil.interop.bag_set_fetch import DOWNLOADS, BagSetFetch, FetchOptions, fetch_all
from mil.interop.bag_set_layouts import portions
from mil.interop.bag_set_plan import check_disk, plan_lines
from mil.interop.bag_set_record import BagSetRecord, read_record, write_record
from mil.interop.hub_files import list_files

# File of the lock that a fetch holds, below the folder of the bags.
LOCK = ".lock"


def run(name: str, options: FetchOptions, echo: Callable[[str], None]) -> bool:
    """Fetch a set of bags; what an earlier run fetched is not fetched again.

    Args:
        name: Name of the set in configs/bag_sets.yaml.
        options: Options of the command.
        echo: Function that prints a line.

    Returns:
        Whether the dataset is complete.

    Raises:
        ConfigError: No set has this name.
        DatasetError: The hub cannot be reached, refuses, the disk is too small, or another
            process fetches into the folder.
        FormatError: The folder holds other bags, or the repository is another one.
        OSError: The folder cannot be written to.
    """
    entry = load_bag_set(name)
    if options.dry_run:
        return _run(name, entry, options, echo)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        # Released by the system, however this process ends.
        with FileLock(options.out / LOCK, timeout=0):
            return _run(name, entry, options, echo)
    except Timeout:
        raise DatasetError(
            f"{options.out}: another `mil bags fetch` writes there; let that end, then run again"
        ) from None


def _run(
    name: str, entry: BagSetConfig, options: FetchOptions, echo: Callable[[str], None]
) -> bool:
    record = _record_of(name, entry, options)
    check_dataset(name, options.datasets, record, options.force)
    labels = label_source(entry)
    repository = Repository(entry.repository, entry.revision or record.commit or None, "dataset")
    try:
        listing = list_files(repository, gated=entry.gated)
    except HubError as error:
        raise DatasetError(f"bag set {name}: {error.message}") from None
    record = record.model_copy(update={"commit": listing.commit})
    fetch = BagSetFetch(name, entry, options, labels, record)
    all_portions = portions(entry, list(labels.rows), listing.files)
    pending = [part for part in all_portions if options.force or not fetch.is_done(part)]
    for line in plan_lines(fetch, listing, all_portions, pending):
        echo(line)
    check_disk(fetch, pending)
    if options.dry_run:
        return True
    # First, so that a run that is cut off continues at the same commit.
    write_record(options.out, fetch.record)
    fetch_all(fetch, pending)
    return _finish(fetch, echo)


def _record_of(name: str, entry: BagSetConfig, options: FetchOptions) -> BagSetRecord:
    record = read_record(options.out)
    if record is None and any(options.out.glob("[!.]*.h5")):
        raise FormatError(
            f"{options.out}: holds bags of another source; choose another --out for bag set {name}"
        )
    if record is not None and record.bag_set != name:
        raise FormatError(
            f"{options.out}: holds the bags of set {record.bag_set}; choose another --out"
        )
    fresh = BagSetRecord(
        bag_set=name,
        repository=entry.repository,
        commit="",
        licence=entry.licence,
        citation=entry.citation,
        encoder=entry.encoder,
        unverified=entry.unverified,
    )
    if record is None:
        return fresh
    if options.force:
        # Of a run that is cut off, they would pass for bags of the new commit.
        old = sorted(file.stem for file in options.out.glob("[!.]*.h5"))
        return fresh.model_copy(update={"outdated": old})
    if entry.revision and record.commit not in ("", entry.revision):
        raise FormatError(
            f"{options.out}: holds bags of commit {record.commit}, but the entry of {name} names "
            f"{entry.revision}; choose another --out, or fetch all again with --force"
        )
    kept = record.model_dump(include={"commit", "contents", "dataset_sha256", "outdated"})
    return fresh.model_copy(update={**kept, "contents": record.contents})


def _finish(fetch: BagSetFetch, echo: Callable[[str], None]) -> bool:
    """Verify the bags and write the dataset; whether all is well."""
    from mil.interop.verify import run as verify

    slides = fetch.slides_with_bag()
    if not slides:
        reason = fetch.faults[0] if fetch.faults else "its files hold no slide of the dataset"
        raise DatasetError(f"bag set {fetch.name}: no bag could be made: {reason}")
    for fault in fetch.faults:
        echo(str(fault))
    verification = verify([fetch.bag_path(slide) for slide in slides])
    for line in (*verification.faults, *verification.notes):
        echo(line)
    echo(f"bags: {verification.bags} verified, {len(verification.faults)} faults")
    missing = [slide for slide in fetch.labels.rows if slide not in set(slides)]
    if missing:
        echo(f"{len(missing)} slides of {fetch.entry.dataset} have no bag: {some(missing)}")
    if verification.faults or (fetch.faults and not fetch.options.allow_missing):
        echo(
            f"dataset {fetch.name}: not written, since not all files could be used; run the same "
            "command again, or leave those slides out with --allow-missing"
        )
        return False
    downloads = fetch.options.out / DOWNLOADS
    shutil.rmtree(downloads, ignore_errors=True)
    fetch.record, line = write_set_dataset(
        fetch.name,
        fetch.entry,
        fetch.labels,
        fetch.record,
        slides,
        bags=fetch.options.out,
        folder=fetch.options.datasets,
    )
    write_record(fetch.options.out, fetch.record)
    echo(line)
    return True
