"""The seal of a trained head that is given away: checksums of its files, a self-test.

`seal.json` holds the SHA-256 of each file of the folder and the head's outputs for
`example.safetensors`, a bag of random numbers: no data of a patient go with a head.
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
from mil.versions import TOOL_VERSION

FORMAT = "mil.seal"
VERSION = 1
SEAL = "seal.json"
EXAMPLE = "example.safetensors"
FILES = ("head.safetensors", "last.safetensors", "recipe.json", "history.json", EXAMPLE)
# Files on which the outputs depend.
NEEDED = ("head.safetensors", "recipe.json", EXAMPLE)
# Tiles of the example lie in a square of this many a side.
SIDE = 6
TILE_PX = 224
# Another processor or release of torch adds up in another order.
RTOL = 1e-4
ATOL = 1e-4


class Seal(Section):
    """Content of `seal.json`."""

    tool_version: str
    sha256: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")], str]
    # Outputs for the example: logits, and calibrated predictions.
    logits: list[float]
    answers: list[float]


def seal(folder: Path) -> Seal:
    """Seal a finished head as it is now; a seal that it had is replaced.

    Raises:
        FormatError: the folder is not that of a trained head.
    """
    (folder / SEAL).unlink(missing_ok=True)
    dim = load_trained(folder)[1].dim
    features = np.random.default_rng(0).standard_normal((SIDE * SIDE, dim), np.float32)
    corners = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).flip(1) * TILE_PX
    with atomic_path(folder / EXAMPLE) as scratch:
        scratch.write_bytes(
            save({"features": torch.from_numpy(features), "coords": corners.contiguous()})
        )
    scores = _score_example(folder)
    sealed = Seal(
        tool_version=TOOL_VERSION,
        sha256={name: _digest(folder / name) for name in FILES if (folder / name).exists()},
        logits=scores.logits.tolist(),
        answers=scores.predictions.tolist(),
    )
    write_json(folder / SEAL, {"format": FORMAT, "format_version": VERSION, **sealed.model_dump()})
    return sealed


def read_seal(folder: Path) -> Seal:
    """Read the seal of a folder.

    Raises:
        FormatError: there is none, or it is of another format.
    """
    path = folder / SEAL
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        name, version = raw.pop("format"), raw.pop("format_version")
        if (name, version) != (FORMAT, VERSION):
            raise FormatError(
                f"{path}: expected {FORMAT} version {VERSION}, found {name} version {version}"
            )
        return checked(Seal, raw, str(path))
    except FileNotFoundError:
        raise FormatError(
            f"{folder}: has no {SEAL}, so that nobody knows what it was when it was made; `mil "
            "heads verify --seal` seals it as it is now"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        reason = " ".join(str(error).split())
        raise FormatError(f"{path}: not the seal of a head ({reason}); get it again") from None


def verify(folder: Path) -> list[str]:
    """Find the differences of a folder from its seal, one line each.

    Raises:
        FormatError: it was never sealed.
    """
    known = read_seal(folder)
    faults = [
        f"{folder / SEAL}: does not speak of {name}; get it again"
        for name in NEEDED
        if name not in known.sha256
    ]
    for name, digest in known.sha256.items():
        if not (folder / name).is_file():
            faults.append(f"{folder / name}: is missing; get the folder again from where it came")
        elif _digest(folder / name) != digest:
            faults.append(
                f"{folder / name}: is not the file that was sealed; get it again from where it came"
            )
    # Files of someone else are not loaded before their digests are right.
    if faults:
        return faults
    scores = _score_example(folder)
    for name, computed, sealed in (
        ("logits", scores.logits, known.logits),
        ("predictions", scores.predictions, known.answers),
    ):
        expected = np.array(sealed, dtype=np.float64)
        if computed.shape != expected.shape or not np.allclose(
            computed, expected, rtol=RTOL, atol=ATOL
        ):
            faults.append(
                f"{folder}: its files are as sealed (by mil {known.tool_version}), but the "
                f"example bag gives {name} {_listed(computed)} here (mil {TOOL_VERSION}, torch "
                f"{torch.__version__}), not {_listed(expected)}; use the versions that it was made "
                "with"
            )
    return faults


def _score_example(folder: Path) -> HeadScores:
    """Apply the head of a folder to the example bag that lies in it."""
    head, trained = load_trained(folder)
    path = folder / EXAMPLE
    try:
        example = load_file(path)
        return forward(head, trained, join([example["features"]], [example["coords"]]))
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise FormatError(
            f"{path}: is no bag for this head: {' '.join(str(error).split())}"
        ) from None


def _listed(values: Float[np.ndarray, " values"]) -> str:
    return ", ".join(f"{value:.6g}" for value in values.tolist())


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
