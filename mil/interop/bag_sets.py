"""`mil bags fetch`: a public set of features from the hub becomes bags and a dataset."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mil.config import BagSetConfig, EncoderConfig, load_bag_set
from mil.encoders.hub import HubError, Repository
from mil.errors import DatasetError, FormatError, some
from mil.interop.bag_set_dataset import LabelSource, check_dataset, label_source, write_set_dataset
from mil.interop.bag_set_layouts import Portion, PublishedBag, portions, published_bags
from mil.interop.bag_set_record import BagSetRecord, read_record, write_record
from mil.interop.convert import FeatureDtype, bag_from_external, known_encoders
from mil.interop.external import FeatureFile
from mil.interop.header import HeaderFields
from mil.interop.hub_files import RemoteListing, download, list_files
from mil.io.bags import Bag, write_bag
from mil.io.bags.checks import check_width
from mil.progress import progress

# Folder of unfinished downloads below that of the bags.
DOWNLOADS = ".download"
GB = 1e9
# Archives pack float32 features to nine tenths of their size.
UNPACKED = 1.1


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Options of `mil bags fetch`.

    Attributes:
        out: folder for the bags.
        datasets: folder for the dataset's two files.
        dtype: type of the stored features.
        allow_missing: write the dataset without the slides whose bag cannot be had.
        force: fetch again, and overwrite bags and dataset.
        dry_run: print what would be fetched, and end.
    """

    out: Path
    datasets: Path
    dtype: FeatureDtype = "float16"
    allow_missing: bool = False
    force: bool = False
    dry_run: bool = False


@dataclass
class BagSetFetch:
    """A fetch under way.

    Attributes:
        name: name of the set.
        entry: its entry.
        options: options of the command.
        labels: labels and splits of its slides.
        record: content of SOURCE.json.
        encoders: entries of configs/encoders.yaml.
        faults: why files could not be used.
    """

    name: str
    entry: BagSetConfig
    options: FetchOptions
    labels: LabelSource
    record: BagSetRecord
    encoders: Mapping[str, EncoderConfig] = field(default_factory=known_encoders)
    faults: list[FormatError] = field(default_factory=list)

    @property
    def repository(self) -> Repository:
        """The repository at the commit that is fetched."""
        return Repository(self.entry.repository, self.record.commit, "dataset")

    def is_done(self, portion: Portion) -> bool:
        """Whether all bags of a portion are there."""
        slides = portion.slides
        # What an archive or a table really holds is known once it was read.
        if self.entry.layout != "clam":
            slides = tuple(self.record.contents.get(portion.name, ()))
        return bool(slides) and all(self.bag_path(slide).exists() for slide in slides)

    def bag_path(self, slide: str) -> Path:
        """File of a slide's bag."""
        return self.options.out / f"{slide}.h5"

    def slides_with_bag(self) -> list[str]:
        """Slides of the set whose bag is there, in the order of their labels."""
        slides = list(self.labels.rows)
        if not self.entry.dataset:
            slides = [slide for content in self.record.contents.values() for slide in content]
        return [slide for slide in slides if self.bag_path(slide).exists()]


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
        DatasetError: The hub cannot be reached, refuses, or the disk is too small.
        FormatError: The folder holds other bags, or the repository is another one.
    """
    entry = load_bag_set(name)
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
    for line in _plan_lines(fetch, listing, all_portions, pending):
        echo(line)
    _check_disk(fetch, pending)
    if options.dry_run:
        return True
    # First, so that a run that is cut off continues at the same commit.
    write_record(options.out, fetch.record)
    _fetch_all(fetch, pending)
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
    if record is None or options.force:
        return fresh
    if entry.revision and record.commit not in ("", entry.revision):
        raise FormatError(
            f"{options.out}: holds bags of commit {record.commit}, but the entry of {name} names "
            f"{entry.revision}; choose another --out, or fetch all again with --force"
        )
    kept = record.model_dump(include={"commit", "contents", "dataset_sha256"})
    return fresh.model_copy(update={**kept, "contents": record.contents})


def _plan_lines(
    fetch: BagSetFetch,
    listing: RemoteListing,
    all_portions: Sequence[Portion],
    pending: Sequence[Portion],
) -> list[str]:
    entry = fetch.entry
    least, most, flight = _disk_bytes(fetch, pending)
    size = sum(part.size for part in pending)
    num_files = sum(len(part.files) for part in pending)
    done = len(all_portions) - len(pending)
    already = f"; {done} of {len(all_portions)} portions are there" if done else ""
    lines = [
        f"bag set {fetch.name}: {entry.title}, from {fetch.repository.page} at "
        f"{listing.commit[:12]}",
        f"licence: {entry.licence}",
        f"citation: {entry.citation}",
    ]
    if entry.unverified:
        lines.append(f"not verified in this entry: {entry.unverified}")
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


def _check_disk(fetch: BagSetFetch, pending: Sequence[Portion]) -> None:
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


def _fetch_all(fetch: BagSetFetch, pending: Sequence[Portion]) -> None:
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    # One bar over all slides; the library's own for archives of gigabytes.
    small = fetch.entry.layout == "clam"
    if small:
        disable_progress_bars()
    try:
        with progress("fetch", len(pending), "portions") as advance:
            for portion in pending:
                _fetch_portion(fetch, portion)
                advance(1)
    finally:
        if small:
            enable_progress_bars()


def _fetch_portion(fetch: BagSetFetch, portion: Portion) -> None:
    folder = fetch.options.out / DOWNLOADS
    paths = []
    try:
        for file in portion.files:
            paths.append(download(fetch.repository, file, folder, _suffix(file.path)))
        _write_bags(fetch, portion, paths, folder / "unpacked.npy")
    except HubError as error:
        have = len(fetch.slides_with_bag())
        raise DatasetError(
            f"bag set {fetch.name}: {have} bags are in {fetch.options.out}; {error.message}"
        ) from None
    except FormatError as error:
        _remove(paths)
        fault = FormatError(_with_remote_names(str(error), portion, paths))
        # Rows without an id are counted: after a table that is damaged nobody knows them.
        if fetch.entry.layout == "parquet":
            raise fault from None
        fetch.faults.append(fault)
    else:
        _remove(paths)


def _with_remote_names(message: str, portion: Portion, paths: Sequence[Path]) -> str:
    """A message with names on the hub in place of those of scratch files."""
    for file, path in zip(portion.files, paths, strict=False):
        message = message.replace(str(path), file.path)
    return message


def _suffix(path: str) -> str:
    """Ending by which a reader knows the kind of a file."""
    known = (".pt", ".h5", ".parquet", ".tar.gz")
    return next((suffix for suffix in known if path.endswith(suffix)), ".bin")


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _write_bags(fetch: BagSetFetch, portion: Portion, paths: list[Path], scratch: Path) -> None:
    content = {}
    earlier = [
        slides
        for name, slides in fetch.record.contents.items()
        if name < portion.name and _split_of(slides) == portion.split
    ]
    first_row = sum(map(len, earlier)) if portion.split else 0
    for published in published_bags(fetch.entry, portion, paths, scratch, first_row):
        bag = _bag(fetch, published)
        write_bag(fetch.bag_path(published.slide), bag)
        content[published.slide] = published.label
    if fetch.entry.layout != "clam":
        contents = {**fetch.record.contents, portion.name: content}
        fetch.record = fetch.record.model_copy(update={"contents": contents})
        write_record(fetch.options.out, fetch.record)


def _split_of(slides: dict[str, int | None]) -> str:
    return next(iter(slides), "").partition("_")[0]


def _bag(fetch: BagSetFetch, published: PublishedBag) -> Bag:
    entry = fetch.entry
    external = published.external
    side = entry.side_level0_px or external.stated.side_level0_px
    bag = bag_from_external(
        FeatureFile(entry.layout, published.slide, fetch.bag_path(published.slide)),
        replace(external, label=""),
        stated=HeaderFields(
            encoder=entry.encoder,
            tile_px=entry.tile_px,
            target_mpp=entry.target_mpp,
            side_level0_px=side,
        ),
        # The same tile in micrometres and in pixels gives the size of a pixel.
        mpp=entry.tile_um / side if entry.tile_um and side else None,
        dtype=fetch.options.dtype,
        encoders=fetch.encoders,
    )
    if bag.state == "ok":
        check_width(f"slide {bag.slide}", bag.features.shape[1], entry.dim, f"set {fetch.name}")
    return bag


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
