"""Portions of a bag set from the hub to bags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mil.config import BagSetConfig, EncoderConfig
from mil.encoders.hub import HubError, Repository
from mil.errors import DatasetError, FormatError
from mil.interop.bag_set_dataset import LabelSource
from mil.interop.bag_set_layouts import UNITS, Portion, PublishedBag, published_bags
from mil.interop.bag_set_record import BagSetRecord, write_record
from mil.interop.convert import FeatureDtype, bag_from_external, known_encoders
from mil.interop.external import FeatureFile
from mil.interop.header import HeaderFields
from mil.interop.hub_files import download
from mil.io.bags import Bag, write_bag
from mil.io.bags.checks import check_width
from mil.progress import progress

# Folder of unfinished downloads below that of the bags.
DOWNLOADS = ".download"


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
        return bool(slides) and all(self.has_bag(slide) for slide in slides)

    def has_bag(self, slide: str) -> bool:
        """Whether a slide's bag is there, of the commit that is fetched."""
        return slide not in self.record.outdated and self.bag_path(slide).exists()

    def bag_path(self, slide: str) -> Path:
        """File of a slide's bag."""
        return self.options.out / f"{slide}.h5"

    def slides_with_bag(self) -> list[str]:
        """Slides of the set whose bag is there, in the order of their labels."""
        slides = list(self.labels.rows)
        if not self.entry.dataset:
            slides = [slide for content in self.record.contents.values() for slide in content]
        return [slide for slide in slides if self.has_bag(slide)]


def fetch_all(fetch: BagSetFetch, pending: Sequence[Portion]) -> None:
    """Download portions, make their bags, and remove what was downloaded.

    A file that cannot be used is recorded in `fetch.faults`; the others go on.

    Args:
        fetch: The fetch.
        pending: Portions whose bags are not there.

    Raises:
        DatasetError: The hub cannot be reached, or refuses.
        FormatError: A table with rows that are counted cannot be used.
    """
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    # One bar over all slides; the library's own for archives of gigabytes.
    if fetch.entry.layout == "clam":
        disable_progress_bars()
    with progress("fetch", len(pending), UNITS[fetch.entry.layout]) as advance:
        for portion in pending:
            _fetch_portion(fetch, portion)
            advance(1)


def _fetch_portion(fetch: BagSetFetch, portion: Portion) -> None:
    folder = fetch.options.out / DOWNLOADS
    paths = []
    try:
        for file in portion.files:
            # No comprehension: those before a fault are needed after it.
            path = download(fetch.repository, file, folder, _suffix(file.path))
            paths.append(path)
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
    outdated = [slide for slide in fetch.record.outdated if slide not in content]
    contents = fetch.record.contents
    if fetch.entry.layout != "clam":
        contents = {**contents, portion.name: content}
    record = fetch.record.model_copy(update={"contents": contents, "outdated": outdated})
    if record != fetch.record:
        fetch.record = record
        write_record(fetch.options.out, record)


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
