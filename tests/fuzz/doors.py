"""The doors: every way by which a stranger's file comes in, entered as the commands enter it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.fuzz import hostile, seeds
from tests.fuzz.hostile import Generator
from tests.fuzz.seeds import Files

# Lines that the user sees besides errors: they must be single lines too.
Lines = Iterable[str] | None


@dataclass(frozen=True)
class Door:
    """A reader of files.

    Attributes:
        name: name of the door.
        seeds: functions that make small valid files.
        enter: reads the files of a folder, and may write to another; returns lines that the
            user would see.
        hostile: generators of known hostile files, applied to the first seed.
        changing: ends of names of the files that are mutated; empty: all.
        weight: inputs of this door for each of a door of weight 1.
        named: whether errors must name a file.
    """

    name: str
    seeds: Sequence[Callable[[], Files]]
    enter: Callable[[Path, Path], Lines]
    hostile: Sequence[Generator] = ()
    changing: tuple[str, ...] = ()
    weight: float = 1.0
    named: bool = True
    made: dict[int, Files] = field(default_factory=dict)

    def seed(self, number: int) -> Files:
        """Files of one seed, made once in a process."""
        number %= len(self.seeds)
        if number not in self.made:
            self.made[number] = self.seeds[number]()
        return self.made[number]


def only(folder: Path) -> Path:
    """The one file of a folder."""
    return next(path for path in sorted(folder.iterdir()))


class OurFaultError(Exception):
    """A fault of mil that it caught itself, and reported as its own."""


# --- slides
def slide(folder: Path, out: Path) -> Lines:
    from mil.errors import MissingResolutionError
    from mil.io.slides import SlideReader
    from mil.tile.plan import read_overview

    with SlideReader(only(folder)) as reader:
        try:
            mpp: float | None = reader.resolution().mpp
        except MissingResolutionError as error:
            mpp = None
            yield error.reason
        read_overview(reader, mpp)
        left, top = reader.origin_px
        width, height = reader.extent_px
        reader.read(left + width / 2, top + height / 2, 64.0, 32)
        reader.read(left, top, 100.5, 25)


def tile(folder: Path, out: Path) -> Lines:
    from mil.config import TileConfig
    from mil.tile.stage import run

    geometry, _ = run(
        only(folder), "s", out / "s.h5", tile_px=32, target_mpp=4.0, mpp=None, config=TileConfig()
    )
    yield geometry.reason


def doctor(folder: Path, out: Path) -> Lines:
    from mil.config import TileConfig
    from mil.doctor.inspect import inspect_slide
    from mil.doctor.requirements import Requirements
    from mil.io.tables import Slide

    requirements = Requirements(((32, 4.0),), TileConfig(), 0.01, tissue=False)
    finding = inspect_slide(Slide("s", "s", "x"), only(folder), requirements)
    if finding.state == "error":
        raise OurFaultError(finding.reason)
    yield finding.reason
    yield from finding.warnings


def slide_seed(make: Callable[..., object], *arguments: Any, **options: Any) -> Callable[[], Files]:
    return lambda: seeds.files_of(lambda folder: make(folder, *arguments, **options))


SLIDES = (
    slide_seed(seeds.slide),
    slide_seed(seeds.slide, compression="jpeg"),
    slide_seed(seeds.slide, compression=None, mpp=None),
    slide_seed(seeds.aperio),
    slide_seed(seeds.aperio, compression="aperio_jp2000_rgb"),
    slide_seed(seeds.big_tiff),
)
OME = (slide_seed(seeds.ome), slide_seed(seeds.ome, 2))


# --- masks and outlines
def mask(folder: Path, out: Path) -> Lines:
    from mil.io.regions import read_mask

    read_mask(
        only(folder), origin_px=(0, 0), extent_px=(320, 256), size_px=(320, 256), shape=(64, 80)
    )


MASKS = (
    slide_seed(seeds.tiff_mask),
    slide_seed(seeds.tiff_mask, compression=None, tile=None),
    slide_seed(seeds.tiff_mask, compression="packbits", tile=None, rowsperstrip=7),
    slide_seed(seeds.tiff_mask, compression="jpeg"),
)
PNGS = tuple(slide_seed(seeds.png_mask, mode) for mode in ("L", "1", "P", "RGBA", "I;16"))


# --- tables
TINY_SLIDES = {f"slides/{name}.tif": name for name in "abcd"}


@cache
def tiny_slides() -> Files:
    """Slides of one tile each; a table names them."""
    import numpy as np

    from tests.synthetic import write_slide

    pixels = np.full((64, 64, 3), 255, np.uint8)
    return seeds.files_of(
        lambda folder: [write_slide(folder / name, pixels, 0.5, tile=64) for name in TINY_SLIDES]
    )


def with_slides(make: Callable[[], Files]) -> Callable[[], Files]:
    return lambda: {**make(), **tiny_slides()}


def init(folder: Path, out: Path) -> Lines:
    from mil.dataset.init import init as run

    labels = next(path for path in folder.iterdir() if path.name.startswith("labels"))
    report = run("small", slides=folder / "slides", labels=labels, out=out)
    yield from report.foreign


def import_table(folder: Path, out: Path) -> Lines:
    from mil.interop.external import FeatureFile
    from mil.interop.labels import ColumnNames, read_labels

    files = [FeatureFile("clam", name, folder / f"{name}.h5") for name in "abcd"]
    labels = next(path for path in folder.iterdir() if path.name.startswith("labels"))
    read_labels(labels, None, ColumnNames(), files, folder)


def dataset(folder: Path, out: Path) -> Lines:
    from mil.io.tables import read_dataset
    from mil.plan.make import make_plan

    # A dataset has a name, by which it is found below the working folder.
    with chdir(folder):
        read_dataset("small")
        settings = {"dataset": "small", "slides_dir": "slides", "allow_missing": True}
        make_plan({**settings, "encoder": "efficientnet_lite0", "head": "abmil"})


def slide_table() -> Files:
    return dict(reversed(dataset_yaml().items()))


def dataset_yaml() -> Files:
    return {
        "configs/datasets/small.yaml": seeds.DATASET.encode(),
        "configs/datasets/small.csv": seeds.SLIDE_TABLE.encode(),
    }


def folds(folder: Path, out: Path) -> Lines:
    from mil.io.bags.patients import check_labels, read_fold_bags

    path = only(folder)
    check_labels(read_fold_bags(path), path, "classification", ["normal", "tumour"])


def splits(folder: Path, out: Path) -> Lines:
    from mil.io.tables import Slide
    from mil.io.tables.splits import read_split_file, splits_of

    patients = ("p1", "p1", "p2", "p3")
    rows = [Slide(slide, patient, "x") for slide, patient in zip("abcd", patients, strict=True)]
    file = read_split_file(only(folder))
    for number in file.folds:
        splits_of(file, number, rows)


SPLITS = (
    lambda: seeds.text(folds__csv=seeds.FOLDS),
    lambda: seeds.text(splits_0__csv=seeds.CLAM_SPLITS),
    lambda: seeds.text(k__tsv=seeds.PATHO_BENCH.replace(",", "\t")),
    lambda: {"splits.json": seeds.json.dumps(seeds.STAMP_SPLITS).encode()},
    lambda: {"split_1.json": seeds.json.dumps(seeds.ACMIL_SPLITS).encode()},
)


# --- yaml
def recipe(folder: Path, out: Path) -> Lines:
    from mil.config import load_recipe, recipe_errors
    from mil.heads import build_head

    name = str(only(folder))
    settings = load_recipe(name)
    with recipe_errors(name):
        build_head(settings.name, settings.options, dim=16, classes=2)


def encoders(folder: Path, out: Path) -> Lines:
    from mil.config import load_encoders
    from mil.encoders.availability import weights_status

    for name, entry in load_encoders(only(folder)).items():
        yield weights_status(name, entry, ask_hub=False).message


def config(folder: Path, out: Path) -> Lines:
    from mil.config import load_config, read_yaml

    load_config(read_yaml(only(folder)))


# --- bags
def bag(folder: Path, out: Path) -> Lines:
    from mil.interop.show import bag_table
    from mil.interop.verify import run
    from mil.io.bags import read_bag, read_header
    from mil.io.bags.fingerprint import bag_digest
    from mil.io.bags.folder import kind_of_bags
    from mil.io.bags.status import gather

    path = only(folder)
    yield from run([folder]).faults
    table = bag_table(folder)
    if len(table.splitlines()) != 3:
        yield table
    read_header(path)
    gather(["a"], [], [folder])
    kind_of_bags(path)
    read_bag(path)
    bag_digest(path)


def bag_info(folder: Path, out: Path) -> Lines:
    from mil.interop.show import bag_info as run

    yield from run(only(folder))


def tiles(folder: Path, out: Path) -> Lines:
    from mil.io.tiles import read_summary, read_tiles

    read_summary(only(folder))
    read_tiles(only(folder)).digest  # noqa: B018  the digest reads coordinates and scale


def scores(folder: Path, out: Path) -> Lines:
    from mil.io.scores import read_scores
    from mil.trained.record import read_records

    path = only(folder)
    content = read_scores(path, branches=True)
    read_records([head.record for head in content.heads], path)


def why(folder: Path, out: Path) -> Lines:
    from mil.why.stage import run

    yield from run(only(folder)).lines()


def import_bags(folder: Path, out: Path) -> Lines:
    from mil.interop.header import HeaderFields
    from mil.interop.import_bags import run
    from mil.interop.pixel_size import PixelSizeOptions
    from mil.interop.verify import run as verify

    yield from verify([folder]).faults
    result = run(
        folder,
        out / "bags",
        tool=None,
        stated=HeaderFields(encoder="tiny"),
        dtype="float16",
        sizes=PixelSizeOptions(mpp=0.25),
        patches=None,
        dataset=None,
        force=True,
    )
    yield from map(str, result.faults)
    yield from result.notes


def npy_archive(folder: Path, out: Path) -> Lines:
    from mil.interop.torchmil import npy_members, read_npy_features

    archive = only(folder)
    with npy_members(archive, out / "a.npy", str(archive)) as members:
        for name, path in members:
            read_npy_features(path, f"{archive}: {name}")
    return ()


def bench_file(folder: Path, out: Path) -> Lines:
    from mil.plan.bench_files import with_bench_files

    with_bench_files(None, [only(folder)])
    return ()


FOREIGN = tuple(partial(seeds.foreign, tool) for tool in ("clam", "trident", "stamp", "acmil"))


# --- heads
def head(folder: Path, out: Path) -> Lines:
    from mil.predict.ensemble import load_ensemble
    from mil.trained.folder import load_trained
    from mil.trained.verify import run

    yield from run([folder]).lines
    for which in ("kept", "last"):
        load_trained(folder, which)
    load_ensemble(folder)


HEADS = tuple(
    partial(seeds.head_files, name, encoder="efficientnet_lite0", tiling="224px_0.5mpp")
    for name in ("abmil", "clam_mb", "dsmil", "graph_select")
)


def checkpoint(tool: str, folder: Path, out: Path) -> Lines:
    from mil.interop.import_facts import HeadImportOptions
    from mil.interop.import_head import run

    options = HeadImportOptions(classes=("a", "b", "c"), encoder="tiny")
    yield from run(only(folder), out / "head", tool=tool, options=options, force=True).notes


def weights(folder: Path, out: Path) -> Lines:
    import torch

    from mil.encoders.weights import read_weights, weights_path

    path = weights_path("own", str(only(folder)))
    read_weights(path, torch.nn.Linear(3, 4), "name")


# --- results
def compare(folder: Path, out: Path) -> Lines:
    from mil.compare.stage import run

    yield from run([folder / "tiny/one", folder / "tiny/two"], out).notes


def report(folder: Path, out: Path) -> Lines:
    from mil.report.stage import run

    run(
        str(folder / "small.yaml"),
        [],
        [folder / "bags"],
        [folder / "tiny/one"],
        [folder],
        out / "report.html",
    )


def reported() -> Files:
    """An evaluation with the dataset and one bag that it is reported with."""
    bags = seeds.files_of(seeds.bag)
    evaluated = {name: content for name, content in seeds.evaluation().items() if "one/" in name}
    rows = "".join(f"s{i:03d},p{i:03d},{('normal', 'tumour')[i % 2]}\n" for i in range(12))
    return {
        **evaluated,
        "small.yaml": b"classes: [normal, tumour]\n",
        "small.csv": f"slide,patient,label\n{rows}".encode(),
        "bags/a.h5": bags["a.h5"],
    }


def predictions(folder: Path, out: Path) -> Lines:
    from mil.predict.stage import _check_nothing_lost

    _check_nothing_lost(only(folder), ["a", "b", "c", "d"])


# --- benchmarks
def classical(folder: Path, out: Path) -> Lines:
    from mil.bench.classical_data import data_set_paths, load

    for name, path in data_set_paths(folder).items():
        load(name, path, 1, 2)


def jld(folder: Path, out: Path) -> Lines:
    from mil.bench.classical_files import read_jld

    read_jld(only(folder))


def matlab(folder: Path, out: Path) -> Lines:
    from mil.bench.classical_files import read_matlab

    read_matlab(folder)


def labelled_tiles(folder: Path, out: Path) -> Lines:
    from mil.demo.labelled_tiles import read_labelled_tiles, read_tile

    for path in read_labelled_tiles(folder).paths:
        read_tile(path, 32)


def labelled() -> Files:
    table = "file,label\nmask.png,normal\nmask.png,tumour\n"
    return seeds.text(labels__csv=table) | dict(seeds.files_of(seeds.png_mask))


JSONS = hostile.JSON
DOORS = (
    Door("slide", SLIDES, slide, [*hostile.ANY, *hostile.TIFF], weight=3),
    Door("ome", OME, slide, [*hostile.OME, *hostile.TIFF], weight=2),
    Door("tile", (*SLIDES, *OME), tile, weight=0.2),
    Door("doctor", (*SLIDES, *OME), doctor, [*hostile.ANY, *hostile.TIFF], weight=2),
    Door("mask_tiff", MASKS, mask, [*hostile.ANY, *hostile.TIFF], weight=2),
    Door("mask_png", PNGS, mask, hostile.ANY),
    Door("geojson", (seeds.geojson,), mask, [*hostile.ANY, *hostile.GEOJSON], weight=2),
    Door(
        "xml",
        (seeds.asap, seeds.imagescope, seeds.halo),
        mask,
        [*hostile.ANY, *hostile.XML, hostile.constant(hostile.tangled_xml(400))],
        weight=2,
    ),
    Door(
        "init_csv",
        (with_slides(lambda: seeds.text(labels__csv=seeds.LABELS)),),
        init,
        [*hostile.ANY, *hostile.TABLE],
        ("labels.csv",),
    ),
    Door(
        "init_xlsx",
        (with_slides(seeds.shared_spreadsheet), with_slides(seeds.spreadsheet)),
        init,
        [*hostile.ANY, *hostile.XLSX],
        ("labels.xlsx",),
        weight=2,
    ),
    Door(
        "import_table",
        (
            seeds.shared_spreadsheet,
            seeds.spreadsheet,
            lambda: seeds.text(labels__csv=seeds.LABELS),
        ),
        import_table,
        [*hostile.ANY, *hostile.XLSX],
        weight=2,
    ),
    Door("slide_table", (slide_table,), dataset, [*hostile.ANY, *hostile.TABLE], (".csv",)),
    Door("dataset_yaml", (dataset_yaml,), dataset, [*hostile.ANY, *hostile.YAML], (".yaml",)),
    Door(
        "folds",
        (lambda: seeds.text(folds__csv=seeds.FOLDS),),
        folds,
        [*hostile.ANY, *hostile.TABLE],
    ),
    Door("splits", SPLITS, splits, [*hostile.ANY, *hostile.TABLE]),
    Door(
        "recipe",
        (lambda: seeds.text(own__yaml=seeds.RECIPE),),
        recipe,
        [*hostile.ANY, *hostile.YAML],
    ),
    Door(
        "encoders",
        (lambda: seeds.text(own__yaml=seeds.ENCODERS),),
        encoders,
        [*hostile.ANY, *hostile.YAML],
    ),
    Door(
        "config",
        (lambda: seeds.text(own__yaml=seeds.CONFIG),),
        config,
        [*hostile.ANY, *hostile.YAML],
        named=False,
    ),
    Door(
        "bag",
        (slide_seed(seeds.bag), slide_seed(seeds.bag_without_tiles)),
        bag,
        [*hostile.ANY, *hostile.HDF5],
        weight=3,
    ),
    Door("bag_info", (slide_seed(seeds.bag),), bag_info, [*hostile.ANY, *hostile.HDF5]),
    Door("tiles", (slide_seed(seeds.tiles),), tiles, [*hostile.ANY, *hostile.HDF5]),
    Door("scores", (slide_seed(seeds.scores),), scores, [*hostile.ANY, *hostile.HDF5]),
    Door(
        "why",
        (slide_seed(seeds.tiles), slide_seed(seeds.bag), slide_seed(seeds.scores)),
        why,
        [*hostile.ANY, *hostile.HDF5],
        weight=0.5,
    ),
    Door("import_h5", FOREIGN, import_bags, [*hostile.ANY, *hostile.HDF5], weight=3),
    Door(
        "import_pt",
        (slide_seed(seeds.tensors), slide_seed(seeds.array), slide_seed(seeds.legacy)),
        import_bags,
        [*hostile.ANY, *hostile.PT],
        weight=2,
    ),
    Door("npy_archive", (slide_seed(seeds.npy_archive),), npy_archive, hostile.ANY),
    Door("bench_file", (slide_seed(seeds.bench_file),), bench_file, JSONS, weight=0.3),
    Door(
        "head",
        HEADS,
        head,
        [
            *(hostile.at("recipe.json", generator) for generator in hostile.JSON),
            *(hostile.at("seal.json", generator) for generator in hostile.JSON),
            *(hostile.at("head.safetensors", generator) for generator in hostile.SAFETENSORS),
        ],
        (".json", ".safetensors"),
        weight=1,
    ),
    *(
        Door(
            f"checkpoint_{tool}",
            tuple(partial(seeds.published, name) for name in names),
            partial(checkpoint, tool),
            [*hostile.ANY, *hostile.PT],
        )
        for tool, names in (("acmil", ("ACMIL_GA", "ACMIL_MHA")), ("clam", ("CLAM_SB", "CLAM_MB")))
    ),
    Door("weights", (slide_seed(seeds.state_dict),), weights, [*hostile.ANY, *hostile.PT]),
    Door("compare", (seeds.evaluation,), compare, JSONS, (".json", "predictions.csv"), weight=1),
    Door("report", (reported,), report, JSONS, ("metrics.json", "predictions.csv"), weight=0.3),
    Door(
        "predictions",
        (lambda: seeds.text(predictions__csv="slide,p\na,0.5\nb,0.1\n"),),
        predictions,
        [*hostile.ANY, *hostile.TABLE],
        weight=0.3,
    ),
    Door("jld", (slide_seed(seeds.jld),), jld, [*hostile.ANY, *hostile.HDF5]),
    Door("matlab", (slide_seed(seeds.matlab),), matlab, [*hostile.ANY, *hostile.MAT]),
    Door("labelled_tiles", (labelled,), labelled_tiles, hostile.ANY, weight=0.5),
)
BY_NAME = {door.name: door for door in DOORS}
