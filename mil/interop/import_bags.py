"""Import of another tool's features as bags, with a dataset that a run can train on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mil.config import EncoderConfig
from mil.errors import FormatError, some
from mil.interop.convert import FeatureDtype, bag_from_external, known_encoders
from mil.interop.dataset import check_writable
from mil.interop.detect import files_of_one_tool, find_feature_files, tool_module
from mil.interop.external import FeatureFile
from mil.interop.header import HeaderFields
from mil.interop.import_dataset import DatasetOptions, read_tables, write_labelled
from mil.interop.import_result import BagImportResult
from mil.interop.pixel_size import PixelSizeOptions, pixel_sizes
from mil.io.bags import read_header, write_bag
from mil.progress import progress


def run(
    path: Path,
    out: Path,
    *,
    tool: str | None,
    stated: HeaderFields,
    dtype: FeatureDtype,
    sizes: PixelSizeOptions,
    patches: Path | None,
    dataset: DatasetOptions | None,
    force: bool,
) -> BagImportResult:
    """Import a file or a folder of features.

    A file that cannot be used is left out and reported; the others are written. A
    dataset is written only when all files could be used.

    Args:
        path: file or folder of features that another tool wrote.
        out: folder for the bags.
        tool: name of the tool; None: detected from the keys of each file.
        stated: header fields that the user states for all bags.
        dtype: type of the stored features.
        sizes: sources of the pixel size.
        patches: folder of CLAM's files of coordinates; None: sought near the features.
        dataset: dataset to write; None: none.
        force: overwrite bags.

    Raises:
        ConfigError: an option is missing that no file can replace.
        FormatError: there is nothing to import, or the bags exist already.
        DatasetError: the tables do not match the features.
    """
    # All that can be wrong with the options is found before a bag is written.
    detected = find_feature_files(path, tool)
    files = files_of_one_tool(detected.files, patches)
    if not files:
        raise detected.faults[0]
    _check_free(files, out, force)
    if dataset:
        check_writable(dataset.name, dataset.folder, dataset.force)
    mpps = pixel_sizes(files, path, sizes)
    # Tables are read and checked before bags are written, which may take hours.
    tables = read_tables(dataset, files, path) if dataset else None
    result = BagImportResult(
        files[0].tool, encoder=_existing_encoder(out, files), faults=detected.faults
    )
    encoders = known_encoders()
    with progress("import", len(files), "bags") as advance:
        for file in files:
            options = _FileOptions(stated, dtype, mpps.mpp_of(file.slide), encoders)
            _import_file(file, out, options, result)
            advance(1)
    result.notes += _encoder_notes(result, encoders)
    # Reasons only for sources that were asked: a table or the slides.
    if mpps.unknown:
        result.notes.append(f"no pixel size: {some(mpps.unknown)}")
    if tables is not None:
        result.notes += write_labelled(tables, result, out, sizes.slides_dir)
    return result


def _check_free(files: Sequence[FeatureFile], out: Path, force: bool) -> None:
    existing = [file.slide for file in files if (out / f"{file.slide}.h5").exists()]
    if existing and not force:
        raise FormatError(
            f"{out}: has bags of {some(existing)} already; choose another --out, or overwrite with "
            "--force"
        )


def _existing_encoder(out: Path, files: Sequence[FeatureFile]) -> str:
    """Encoder of the bags in the folder that the import does not replace; empty: none."""
    imported = {file.slide for file in files}
    # Names that begin with a dot are scratch files of an interrupted run.
    existing = (file for file in sorted(out.glob("[!.]*.h5")) if file.stem not in imported)
    first = next(existing, None)
    return read_header(first).encoder if first else ""


class _FileOptions(NamedTuple):
    """Arguments of `bag_from_external` besides the file."""

    stated: HeaderFields
    dtype: FeatureDtype
    mpp: float | None
    encoders: Mapping[str, EncoderConfig]


def _import_file(
    file: FeatureFile, out: Path, options: _FileOptions, result: BagImportResult
) -> None:
    try:
        external = tool_module(file.tool).read(file)
        bag = bag_from_external(file, external, **options._asdict())
        # After reading and before writing: a folder stays of one encoder.
        result.check_alike(bag)
        write_bag(out / f"{file.slide}.h5", bag)
    except FormatError as error:
        # One bad file must not stop an import of thousands.
        result.faults.append(error)
    else:
        result.add(bag, external.nominal_mpp)
        name = options.stated.encoder or external.stated.encoder
        if name and name != bag.encoder:
            result.renamed[name] = bag.encoder
        result.labels[bag.slide] = external.label


def _encoder_notes(result: BagImportResult, encoders: Mapping[str, EncoderConfig]) -> list[str]:
    notes = [f"encoder {name} is called {here} here" for name, here in result.renamed.items()]
    entry = encoders.get(result.encoder)
    if entry is not None and result.dim and entry.dim != result.dim:
        notes.append(
            f"encoder {result.encoder} gives {entry.dim} features per tile by "
            f"configs/encoders.yaml, but these bags have {result.dim}; if they are of another "
            "encoder, import them again with --encoder NAME"
        )
    return notes
