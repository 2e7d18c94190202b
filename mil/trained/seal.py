"""Manifest of a trained head: checksums of its files, and a self-test of its predictions.

`seal.json` holds the SHA-256 of each file of the folder, and the head's predictions for
`example.safetensors`, a bag of random numbers: nothing of a patient goes with a head. So
whoever receives a head can verify that its files are unchanged and that their version of
the tool computes the same from them.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mil.bags import join
from mil.errors import FormatError, brief
from mil.io.atomic import atomic_path, write_json
from mil.io.scores import HeadScores
from mil.trained.folder import load_trained
from mil.trained.forward import forward
from mil.trained.manifest import (
    EXAMPLE,
    FILES,
    FORMAT,
    MANIFEST,
    VERSION,
    HeadManifest,
    file_digest,
    file_faults,
    read_manifest,
)
from mil.trained.record import read_record
from mil.versions import TOOL_VERSION

# Tiles of the example lie in a square of so many tiles, which heads over a graph need.
SIDE_TILES = 6
TILE_PX = 224
# Another processor or release of torch adds up in another order.
RTOL = 1e-4
ATOL = 1e-4


def write_manifest(folder: Path) -> HeadManifest:
    """Write the example bag and the manifest of a finished head as it is now.

    An older manifest is replaced.

    Raises:
        FormatError: the folder holds no trained head, or one that predicts no number.
    """
    # First: a run that stops half-way must not leave an old manifest with a new example.
    (folder / MANIFEST).unlink(missing_ok=True)
    _write_example(folder, read_record(folder).dim)
    scores = _score_example(folder)
    # Finite weights may still be so large that they overflow.
    if not np.isfinite([*scores.logits, *scores.predictions]).all():
        raise FormatError(
            f"{folder}: its weights predict no number for an ordinary bag; they are damaged, or "
            "its training diverged"
        )
    digests = {name: file_digest(folder / name) for name in FILES if (folder / name).exists()}
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


def verify(folder: Path) -> list[str]:
    """Differences of a head's folder from its manifest, one line each.

    The predictions for the example are compared only when all files are unchanged.

    Raises:
        FormatError: there is no manifest, or the example is no bag for this head.
    """
    manifest = read_manifest(folder)
    faults = file_faults(folder, manifest)
    # A changed file explains changed predictions: that is one fault, not two.
    return faults or _prediction_faults(folder, manifest)


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
        reason = brief(error)
        raise FormatError(f"{path}: is no bag for this head: {reason}") from None


def _comma_separated(values: Float[np.ndarray, " values"]) -> str:
    return ", ".join(f"{value:.6g}" for value in values.tolist())
