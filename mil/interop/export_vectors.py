"""Export of slides as vectors: one AnnData file (.h5ad), or one table in Apache Parquet."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mil.errors import ConfigError, DatasetError, FormatError
from mil.io.atomic import atomic_path
from mil.io.probe import probe
from mil.io.tables import read_dataset, read_folds
from mil.io.vectors import SlideVectors, VectorsHeader, read_vectors, vector_files
from mil.versions import TOOL_VERSION

# Ending of the file by format.
ENDINGS = {"anndata": ".h5ad", "parquet": ".parquet"}
# Key of what vectors were made of, in `uns` and in the metadata of a parquet file.
KEY = "mil"


@dataclass
class VectorTable:
    """Vectors of slides, with a column for each fact about them.

    Attributes:
        vectors: One row a slide, float32, [slides, dim].
        columns: Texts by column: `slide`, `patient` and `label` of a dataset, `split`, and
            `fold_K` of each fold.
        provenance: What all vectors were made of.
        not_ok: Slides left out because their state is not `ok`.
        not_in_dataset: Slides left out because the dataset does not have them.
    """

    vectors: Float[np.ndarray, "slides dim"]
    columns: dict[str, list[str]]
    provenance: dict[str, Any]
    not_ok: list[str] = field(default_factory=list)
    not_in_dataset: list[str] = field(default_factory=list)


def run(
    vectors: Path,
    out: Path,
    *,
    file_format: str,
    dataset: str = "",
    folds: Path | None = None,
    seed: int | None = None,
    fold: int | None = None,
) -> VectorTable:
    """Export a folder of vectors as one file, written whole or not at all.

    Args:
        vectors: Folder that `mil embed` wrote.
        out: File to write.
        file_format: `anndata` or `parquet`.
        dataset: Dataset of patients, labels and splits: a name or a yaml; empty: none.
        folds: A folds.csv, for a column of splits for each fold.
        seed: Seed of the head whose vectors are exported; None: the only one.
        fold: Fold of that head; None: the only one.

    Raises:
        ConfigError: The package that writes the format is not installed.
        DatasetError: The ending of `out` is of another format, the dataset has none of
            the slides, or no single head is chosen.
        FormatError: A vectors file cannot be used, or was made otherwise than the others.
    """
    ending = ENDINGS[file_format]
    if out.suffix != ending:
        raise DatasetError(f"--out {out}: a file of {file_format} ends in {ending}; name it so")
    _check_installed(file_format)
    table = read_table(vectors, dataset=dataset, folds=folds, seed=seed, fold=fold)
    with atomic_path(out) as scratch:
        (_write_anndata if file_format == "anndata" else _write_parquet)(table, scratch)
    return table


def read_table(
    folder: Path,
    *,
    dataset: str = "",
    folds: Path | None = None,
    seed: int | None = None,
    fold: int | None = None,
) -> VectorTable:
    """Vectors of a folder as one table; see `run`."""
    files = vector_files(folder)
    probe(files)
    all_vectors = [read_vectors(file) for file in files]
    first = all_vectors[0].header
    for file, each in zip(files, all_vectors, strict=True):
        _check_alike(file, each.header, files[0], first)
    number = _head_number(folder, first, seed, fold)
    usable = [each for each in all_vectors if each.header.state == "ok"]
    columns, exported = _columns(usable, dataset, folds, first, number)
    labelled = [each for each in usable if each.header.slide in exported]
    if not labelled:
        raise DatasetError(f"{folder}: no slide to export; give the dataset of these vectors")
    return VectorTable(
        np.stack([each.vector(number) for each in labelled]),
        columns,
        _provenance(first, number),
        not_ok=[each.header.slide for each in all_vectors if each.header.state != "ok"],
        not_in_dataset=[each.header.slide for each in usable if each.header.slide not in exported],
    )


def _check_alike(path: Path, header: VectorsHeader, usual_path: Path, usual: VectorsHeader) -> None:
    """Refuse vectors that were made otherwise: they lie in another space."""
    for name in (
        "slide_encoder",
        "slide_encoder_sha256",
        "encoder",
        "weights_sha256",
        "tiling",
        "stain_norm",
        "heads",
    ):
        if getattr(header, name) != getattr(usual, name):
            raise FormatError(
                f"{path}: its {name} differs from that of {usual_path.name}; run `mil embed` again "
                "for all slides"
            )


def _head_number(folder: Path, header: VectorsHeader, seed: int | None, fold: int | None) -> int:
    """Row of the head that was chosen."""
    if not header.heads:
        if seed is not None or fold is not None:
            raise DatasetError(
                f"{folder}: vectors by {header.slide_encoder} have no seed and fold; leave --seed "
                "and --fold out"
            )
        return 0
    chosen = [
        number
        for number, head in enumerate(header.heads)
        if seed in (None, head.seed) and fold in (None, head.fold)
    ]
    if len(chosen) != 1:
        known = ", ".join(f"--seed {head.seed} --fold {head.fold}" for head in header.heads)
        raise DatasetError(
            f"{folder}: its slides have vectors by {len(header.heads)} heads, in spaces of their "
            f"own; choose one of {known}"
        )
    return chosen[0]


def _columns(
    vectors: Sequence[SlideVectors],
    dataset: str,
    folds: Path | None,
    header: VectorsHeader,
    number: int,
) -> tuple[dict[str, list[str]], set[str]]:
    """Columns of the exported slides, and the slides."""
    slides = [each.header.slide for each in vectors]
    columns: dict[str, list[str]] = {}
    if dataset:
        rows = {row.slide: row for row in read_dataset(dataset)[1]}
        slides = [slide for slide in slides if slide in rows]
        columns["patient"] = [rows[slide].patient for slide in slides]
        columns["label"] = [rows[slide].label for slide in slides]
        if any(rows[slide].split for slide in slides):
            columns["split"] = [rows[slide].split for slide in slides]
        for name in sorted({name for slide in slides for name in rows[slide].subgroups}):
            # A column of the table must not hide one of ours.
            columns.setdefault(name, [rows[slide].subgroups.get(name, "") for slide in slides])
    if folds is not None:
        splits: dict[int, dict[str, str]] = {}
        for row in read_folds(folds):
            splits.setdefault(int(row["fold"]), {})[row["slide"]] = row["split"]
        for fold, of_slide in sorted(splits.items()):
            columns[f"fold_{fold}"] = [of_slide.get(slide, "") for slide in slides]
        # What the chosen head has seen of a slide.
        own = header.heads[number].fold if header.heads else None
        if own in splits:
            columns["split"] = columns[f"fold_{own}"]
    return {"slide": slides, **columns}, set(slides)


def _provenance(header: VectorsHeader, number: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "format": "mil.vectors",
        "tool_version": TOOL_VERSION,
        "encoder": header.encoder,
        "weights_sha256": header.weights_sha256,
        "tiling": header.tiling,
        "slide_encoder": header.slide_encoder,
    }
    if header.stain_norm:
        facts["stain_norm"] = header.stain_norm
    if header.heads:
        facts["head"] = asdict(header.heads[number])
    if header.slide_encoder_sha256:
        facts["slide_encoder_sha256"] = header.slide_encoder_sha256
        facts["slide_encoder_revision"] = header.slide_encoder_revision
    return facts


def _check_installed(file_format: str) -> None:
    """Refuse before vectors are read.

    Raises:
        ConfigError: The package that writes the format is missing.
    """
    try:
        if file_format == "anndata":
            import anndata  # noqa: F401
        else:
            import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{file_format}: needs a package that is not installed; pip install "
            f"'mil[{file_format}]'"
        ) from None


def _write_anndata(table: VectorTable, path: Path) -> None:
    import anndata
    import pandas

    slides = table.columns["slide"]
    obs = pandas.DataFrame(
        {name: values for name, values in table.columns.items() if name != "slide"},
        index=pandas.Index(slides, name="slide"),
        dtype=str,
    )
    names = [f"{table.provenance['slide_encoder']}_{n}" for n in range(table.vectors.shape[1])]
    written = anndata.AnnData(
        X=table.vectors,
        obs=obs,
        var=pandas.DataFrame(index=pandas.Index(names)),
        uns={KEY: table.provenance},
    )
    written.write_h5ad(path)


def _write_parquet(table: VectorTable, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    flat = pyarrow.array(table.vectors.reshape(-1))
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, table.vectors.shape[1])
    texts = {name: pyarrow.array(values, "string") for name, values in table.columns.items()}
    metadata = {KEY: json.dumps(table.provenance)}
    written = pyarrow.table({**texts, "vector": vectors}).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(written, path)
