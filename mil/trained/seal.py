"""Manifest of a trained head: checksums of its files, and a self-test of its predictions.

`seal.json` holds the SHA-256 of each file of the folder, and the head's predictions for
`example.safetensors`, a bag of random numbers: nothing of a patient goes with a head. So
whoever receives a head can verify that its files are unchanged and that their version of
the tool computes the same from them.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mil.bags import join
from mil.config import Section, checked
from mil.errors import FormatError
from mil.io.atomic import atomic_path, write_json
from mil.io.scores import HeadScores
from mil.trained.folder import load_trained
from mil.trained.forward import forward
from mil.trained.record import read_record
from mil.versions import TOOL_VERSION

FORMAT = "mil.seal"
VERSION = 1
MANIFEST = "seal.json"
EXAMPLE = "example.safetensors"
# The model card is not among them: it may be edited.
FILES = ("head.safetensors", "last.safetensors", "recipe.json", "history.json", EXAMPLE)
# The files that predictions depend on. A manifest without one of them proves nothing.
REQUIRED_FILES = ("head.safetensors", "recipe.json", EXAMPLE)
# Tiles of the example lie in a square of so many tiles, which heads over a graph need.
SIDE_TILES = 6
TILE_PX = 224
# Another processor or release of torch adds up in another order.
RTOL = 1e-4
ATOL = 1e-4
READ_BYTES = 1 << 20


class HeadManifest(Section):
    """Content of `seal.json`."""

    tool_version: str
    # Names without a slash: a manifest must not lead to files outside the folder.
    sha256: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")], str]
    # Both for the example bag; the answers are the task's predictions, calibrated.
    logits: list[float]
    answers: list[float]


def write_manifest(folder: Path) -> HeadManifest:
    """Write the example bag and the manifest of a finished head as it is now.

    An older manifest is replaced.

    Raises:
        FormatError: the folder holds no trained head.
    """
    # First: a run that stops half-way must not leave an old manifest with a new example.
    (folder / MANIFEST).unlink(missing_ok=True)
    _write_example(folder, read_record(folder).dim)
    scores = _score_example(folder)
    digests = {name: _digest(folder / name) for name in FILES if (folder / name).exists()}
    manifest = HeadManifest(
        tool_version=TOOL_VERSION,
        sha256=digests,
        logits=scores.logits.tolist(),
        answers=scores.predictions.tolist(),
    )
    content = {"format": FORMAT, "format_version": VERSION, **manifest.model_dump()}
    write_json(folder / MANIFEST, content)
    return manifest


def _write_example(folder: Path, dim: int) -> None:
    # A fixed seed: the same head has the same manifest.
    features = np.random.default_rng(0).standard_normal((SIDE_TILES**2, dim), np.float32)
    positions = torch.arange(SIDE_TILES)
    # (x, y), row by row.
    corners = torch.cartesian_prod(positions, positions).flip(1) * TILE_PX
    example = {"features": torch.from_numpy(features), "coords": corners.contiguous()}
    with atomic_path(folder / EXAMPLE) as scratch:
        # Not save_file, which makes a file that nobody else may read.
        scratch.write_bytes(save(example))


def read_manifest(folder: Path) -> HeadManifest:
    """Read the manifest of a head's folder.

    Raises:
        FormatError: there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name = content.pop("format")
        version = content.pop("format_version")
        if (name, version) != (FORMAT, VERSION):
            raise FormatError(
                f"{path}: expected {FORMAT} version {VERSION}, found {name} version {version}"
            )
        return checked(HeadManifest, content, str(path))
    except FormatError:
        # A ValueError too, so it must not reach the last clause.
        raise
    except FileNotFoundError:
        raise FormatError(
            f"{folder}: has no {MANIFEST}, so nothing to verify it by; `mil heads verify --seal` "
            "writes one for its files as they are now"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(
            f"{path}: not the manifest of a head ({reason}); get the folder again from its source"
        ) from None


def verify(folder: Path) -> list[str]:
    """Differences of a head's folder from its manifest, one line each.

    The predictions for the example are compared only when all files are unchanged.

    Raises:
        FormatError: there is no manifest, or the example is no bag for this head.
    """
    manifest = read_manifest(folder)
    faults = _file_faults(folder, manifest)
    # A changed file explains changed predictions: that is one fault, not two.
    return faults or _prediction_faults(folder, manifest)


def changed_files(folder: Path) -> list[str]:
    """Files of a head's folder that are missing or changed since its manifest, a line each.

    Raises:
        FormatError: There is no manifest.
    """
    return _file_faults(folder, read_manifest(folder))


def _file_faults(folder: Path, manifest: HeadManifest) -> list[str]:
    unlisted = [name for name in REQUIRED_FILES if name not in manifest.sha256]
    faults = [
        f"{folder / MANIFEST}: has no checksum of {name}; get the folder again from its source"
        for name in unlisted
    ]
    for name, digest in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path}: is missing; get the folder again from its source")
        elif _digest(path) != digest:
            faults.append(
                f"{path}: differs from its checksum in {MANIFEST}; get the folder again from its "
                "source"
            )
    return faults


def _prediction_faults(folder: Path, manifest: HeadManifest) -> list[str]:
    scores = _score_example(folder)
    comparisons = (
        ("logits", scores.logits, manifest.logits),
        ("predictions", scores.predictions, manifest.answers),
    )
    faults = []
    for name, computed, recorded in comparisons:
        expected = np.array(recorded, dtype=np.float64)
        same_shape = computed.shape == expected.shape
        if not same_shape or not np.allclose(computed, expected, rtol=RTOL, atol=ATOL):
            faults.append(
                f"{folder}: its files are unchanged since mil {manifest.tool_version}, but the "
                f"example bag gives {name} {_comma_separated(computed)} here (mil {TOOL_VERSION}, "
                f"torch {torch.__version__}), not {_comma_separated(expected)}; use the versions "
                "that the head was trained with"
            )
    return faults


def _score_example(folder: Path) -> HeadScores:
    """Apply the head of a folder to the example bag beside it."""
    head, trained = load_trained(folder)
    path = folder / EXAMPLE
    try:
        example = load_file(path)
        return forward(head, trained, join([example["features"]], [example["coords"]]))
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(f"{path}: is no bag for this head: {reason}") from None


def _comma_separated(values: Float[np.ndarray, " values"]) -> str:
    return ", ".join(f"{value:.6g}" for value in values.tolist())


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        # In blocks: weights may be larger than the memory of a small machine.
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
