"""The vectors file: one slide as a vector, by a slide encoder.

Written by `mil embed`. A slide encoder whose heads are trained in the run has a vector
for each head, of every seed and fold of its recipe: heads of different folds have seen
other slides, and their vectors lie in different spaces.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from mil.errors import FormatError
from mil.io.checksums import check_arrays, write_arrays
from mil.io.h5 import dataset_of, reading, writing
from mil.io.json_record import read_json_record
from mil.io.tables import valid_id
from mil.io.tiles import STATES

FORMAT = "mil.vectors"
VERSION = 1
# A record takes some hundred bytes for each head; a longer one is not ours.
LONGEST_RECORD_BYTES = 16 << 20


@dataclass(frozen=True)
class VectorHead:
    """A trained head whose pooled row is a vector.

    Attributes:
        recipe: Name of its recipe.
        seed: Random seed of its training.
        fold: Fold whose training slides it was trained on.
        sha256: SHA-256 of its `head.safetensors`.
    """

    recipe: str
    seed: int
    fold: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class VectorsHeader:
    """What vectors are made of.

    Attributes:
        slide: The slide's id.
        slide_encoder: `mean`, `mean_std`, the recipe of trained heads, or the name of a
            published slide encoder.
        encoder: Name of the encoder of the tiles.
        weights_sha256: Checksum of that encoder's weights.
        tiling: Name of the tiling, such as `224px_0.5mpp`.
        bag_digest: See `mil.io.bags.fingerprint.bag_digest`.
        tiles: Number of valid tiles of the bag.
        state: Named state of the slide; unless it is `ok` there are no vectors.
        reason: Reason of the state.
        heads: Heads in the order of the vectors; empty for a slide encoder without heads.
        slide_encoder_sha256: Checksum of a published slide encoder's weights; else empty.
        slide_encoder_revision: Source of those weights, `OWNER/NAME@COMMIT` on the hub, or
            the name of the file.
    """

    slide: str
    slide_encoder: str
    encoder: str
    weights_sha256: str
    tiling: str
    bag_digest: str
    tiles: int
    state: str = "ok"
    reason: str = ""
    heads: tuple[VectorHead, ...] = ()
    slide_encoder_sha256: str = ""
    slide_encoder_revision: str = ""

    @property
    def count(self) -> int:
        """Number of vectors of a slide whose state is `ok`."""
        return max(len(self.heads), 1)


@dataclass(frozen=True, eq=False)
class SlideVectors:
    """Content of a vectors file.

    Attributes:
        header: What the vectors are made of.
        vectors: A row for each head, float32, [rows, dim]; a single row without heads;
            none of a slide whose state is not `ok`. Rows of heads that average fewer
            members than others are filled up with NaN.
    """

    header: VectorsHeader
    vectors: Float[np.ndarray, "rows dim"]

    def vector(self, number: int) -> Float[np.ndarray, " dim"]:
        """Vector of one head, without what fills it up.

        Args:
            number: Row of the head.
        """
        row = self.vectors[number]
        return row[~np.isnan(row)]


def write_vectors(path: Path, vectors: SlideVectors, *, made_from: str = "") -> None:
    """Write a vectors file whole or not at all, with checksums.

    Args:
        path: File to write.
        vectors: Vectors of a slide.
        made_from: Digest of what they depend on; see `mil.io.provenance`.
    """
    record = json.dumps(asdict(vectors.header)).encode()
    arrays: dict[str, np.ndarray] = {
        "record": np.frombuffer(record, np.uint8),
        "vectors": np.asarray(vectors.vectors, np.float32),
    }
    with writing(path, FORMAT, VERSION, made_from=made_from) as file:
        write_arrays(file, arrays)
        file["record"].attrs.update(axes="byte", unit="UTF-8", meaning="header, as JSON")
        file["vectors"].attrs.update(axes="head feature", unit="that of the features")


def read_vectors(path: Path) -> SlideVectors:
    """Read a vectors file.

    Raises:
        FormatError: The file is missing, damaged, or holds something that cannot be.
    """
    with reading(path, FORMAT, VERSION) as file:
        header = _header(file, path)
        data = dataset_of(file, "vectors", path)
        if data.dtype != np.float32 or data.ndim != 2:
            raise _damaged(path, "its vectors are not rows of float32")
        vectors = np.asarray(data)
        check_arrays(file, {"vectors": vectors}, path)
    rows = header.count if header.state == "ok" else 0
    if len(vectors) != rows:
        raise _damaged(path, f"it has {len(vectors)} vectors, not {rows}")
    if not all(_is_vector(row) for row in vectors):
        raise _damaged(path, "its vectors hold values that are not numbers")
    return SlideVectors(header, vectors)


def read_vectors_header(path: Path) -> VectorsHeader:
    """What vectors are made of, without the vectors.

    Raises:
        FormatError: See `read_vectors`.
    """
    with reading(path, FORMAT, VERSION) as file:
        return _header(file, path)


def vector_files(folder: Path) -> list[Path]:
    """Vectors files of a folder, by name.

    Raises:
        FormatError: There is none.
    """
    # Names that begin with a dot are scratch files of a run that was killed.
    files = sorted(file for file in folder.glob("*.h5") if file.name[0] != ".")
    if not files:
        raise FormatError(
            f"{folder}: no vectors of slides (.h5); run with slide_encoder=mean, or `mil embed`"
        )
    return files


def _is_vector(row: Float[np.ndarray, " dim"]) -> bool:
    """Whether a row is numbers, then nothing but NaN that fills it up."""
    known = np.isfinite(row)
    length = int(known.sum())
    return length > 0 and bool(known[:length].all()) and bool(np.isnan(row[length:]).all())


_CHECKED = TypeAdapter(VectorsHeader)


def _header(file: h5py.File, path: Path) -> VectorsHeader:
    header = read_json_record(
        file, path, _CHECKED.validate_json, max_bytes=LONGEST_RECORD_BYTES, damaged=_damaged
    )
    if header.state not in STATES:
        raise _damaged(path, f"no state is called {header.state!r}")
    if not valid_id(header.slide):
        raise _damaged(path, f"{header.slide!r} is no id of a slide")
    return header


def _damaged(path: Path, reason: str) -> FormatError:
    return FormatError(f"{path}: {reason}; delete it and run `mil embed` again")
