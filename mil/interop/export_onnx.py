"""Export of trained heads as ONNX, for programs without torch and without mil."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mil.bags import join
from mil.config import load_encoders
from mil.config.joined import encoder_terms
from mil.errors import ConfigError, FormatError
from mil.heads import Streams, head_module, head_names
from mil.interop.onnx_graph import OPSET, OnnxHead, run_onnx, to_onnx
from mil.io.atomic import atomic_path
from mil.io.scores import HeadScores
from mil.trained import Trained, load_trained
from mil.trained.forward import forward
from mil.trained.manifest import MANIFEST, file_digest
from mil.trained.record import FILES, threshold_of
from mil.versions import TOOL_VERSION

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT = "mil.onnx"
VERSION = 1
# Tiles of the bag that the file is checked with, and the largest difference.
CHECKED_TILES = 36
TOLERANCE = 1e-4
# Protocol Buffers, of which a file without attachments is one message, end at 2 GiB.
MAX_BYTES = 2**31 - 2**20
DESCRIPTIONS = {
    "features": "features of the tiles of one slide, float32, as the encoder gives them",
    "logits": "outputs of the head before calibration",
    "predictions": "calibrated predictions, in the order of `columns`",
    "attention": "share of the bag's attention of each tile, sums to 1",
    "branch_attention": "attention by branch or class; each column sums to 1",
}


@dataclass(frozen=True)
class OnnxExportResult:
    """File that was written: its head, its outputs with their axes, and its size."""

    trained: Trained
    outputs: list[str]
    num_bytes: int


def run(folder: Path, file: Path, *, force: bool = False) -> OnnxExportResult:
    """Write a trained head as one ONNX file, checked against mil's own output.

    Args:
        folder: Folder of the trained head.
        file: File to write.
        force: Overwrite an existing file.

    Raises:
        FormatError: The folder holds no trained head, or the file exists.
        ConfigError: ONNX is not installed, the head does not pool or holds its training
            slides, or its graph computes something else.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise ConfigError("--onnx: needs the packages onnx and onnxscript; pip install 'mil[onnx]'")
    if file.is_dir():
        raise FormatError(f"{file}: is a folder; give the file, such as {file}/head.onnx")
    if file.exists() and not force:
        raise FormatError(f"{file}: exists; choose another file, or overwrite it with --force")
    head, trained = load_trained(folder)
    if not isinstance(head, Streams):
        raise ConfigError(
            f"{folder}: head {trained.recipe.name} does not pool tiles one by one, and has no "
            f"ONNX form; heads that have one: {', '.join(heads_that_pool())}"
        )
    if getattr(head_module(trained.recipe.name).Head, "keeps_slides", False):
        raise ConfigError(
            f"{folder}: head {trained.recipe.name} holds the mean features of its training slides, "
            f"and has no ONNX form; heads that have one: {', '.join(heads_that_pool())}"
        )
    model = OnnxHead(head, trained)
    proto = to_onnx(model, folder)
    _check(model, proto, folder)
    _describe(proto, trained, folder)
    content = proto.SerializeToString(deterministic=True)
    with atomic_path(file) as scratch:
        scratch.write_bytes(content)
    return OnnxExportResult(trained, _outputs(proto), len(content))


def heads_that_pool() -> list[str]:
    """Names of the heads that process each tile by itself, and hold no slides."""
    names = []
    for name in head_names():
        # A head of another package may be broken, which is no fault of this one.
        with suppress(ConfigError):
            head = head_module(name).Head
            if issubclass(head, Streams) and not getattr(head, "keeps_slides", False):
                names.append(name)
    return names


def _check(model: OnnxHead, proto: "ModelProto", folder: Path) -> None:
    """Refuse a graph that computes something else than the head, by ONNX's own reference.

    Raises:
        ConfigError: An output differs, or the graph is too large for one file.
    """
    if proto.ByteSize() > MAX_BYTES:
        raise ConfigError(
            f"{folder}: takes {proto.ByteSize() / 1e9:.1f} GB, more than the 2 GB that one ONNX "
            "file holds; export a head of fewer members"
        )
    rng = np.random.default_rng(0)
    features = rng.standard_normal((CHECKED_TILES, model.trained.dim), np.float32)
    scores = forward(model.head, model.trained, join([torch.from_numpy(features)]))
    expected = _by_name(scores)
    for name, computed in run_onnx(proto, features).items():
        if not np.allclose(computed, expected[name], rtol=TOLERANCE, atol=TOLERANCE):
            difference = np.abs(computed - expected[name]).max()
            raise ConfigError(
                f"{folder}: the ONNX graph of head {model.trained.recipe.name} gives {name} that "
                f"differ by {difference:.2g} from mil's; nothing was written"
            )


def _by_name(scores: HeadScores) -> Mapping[str, np.ndarray]:
    outputs = {
        "logits": scores.logits,
        "predictions": scores.predictions,
        "attention": scores.attention,
    }
    if scores.branch_attention is not None:
        outputs["branch_attention"] = scores.branch_attention
    return outputs


def _describe(proto: "ModelProto", trained: Trained, folder: Path) -> None:
    """Write what a user of the file must know into it."""
    proto.producer_name = "mil"
    proto.producer_version = TOOL_VERSION
    proto.graph.name = trained.recipe_name
    proto.doc_string = (
        f"MIL head {trained.recipe.name}: features of the tiles of a slide to "
        f"{trained.task.kind}. For research; not a medical device."
    )
    for value in (*proto.graph.input, *proto.graph.output):
        value.doc_string = DESCRIPTIONS[value.name]
    for key, text in metadata(trained, folder).items():
        proto.metadata_props.add(key=key, value=text)


def metadata(trained: Trained, folder: Path) -> dict[str, str]:
    """Facts about a head as texts, by key; a fact that is not known is left out.

    Args:
        trained: Record of the head.
        folder: Folder of the head.
    """
    threshold = threshold_of([trained])
    tile_px, _, mpp = trained.tiling.removesuffix("mpp").partition("px_")
    terms = encoder_terms(trained.encoder, load_encoders())
    seal = folder / MANIFEST
    facts = {
        "format": f"{FORMAT} {VERSION}",
        "mil_version": TOOL_VERSION,
        "opset": str(OPSET),
        "recipe": trained.recipe_name,
        "head": trained.recipe.name,
        "task": trained.task.kind,
        "classes": json.dumps(trained.classes),
        "class_of_interest": trained.positive,
        "columns": json.dumps(list(trained.task.columns)),
        "threshold": "" if threshold is None else repr(threshold),
        "calibrated": json.dumps(trained.calibration is not None),
        "encoder": trained.encoder,
        "encoder_licence": "" if terms is None else terms.licence,
        "encoder_weights_sha256": trained.weights_sha256,
        "tile_px": tile_px if tile_px.isdigit() else "",
        "mpp": "" if mpp == "unknown" else mpp,
        # What runs the file must normalise too.
        **({"stain_norm": trained.stain_norm} if trained.stain_norm else {}),
        "features": str(trained.dim),
        "dataset": trained.dataset,
        "seed": str(trained.seed),
        "fold": str(trained.fold),
        "members": str(trained.num_members),
        "head_sha256": file_digest(folder / FILES["kept"]),
        "seal_sha256": file_digest(seal) if seal.is_file() else "",
    }
    return {key: text for key, text in facts.items() if text}


def _outputs(proto: "ModelProto") -> list[str]:
    """Each output with its axes, such as `attention [tiles]`."""
    lines = []
    for output in proto.graph.output:
        axes = output.type.tensor_type.shape.dim
        lengths = [axis.dim_param or str(axis.dim_value) for axis in axes]
        lines.append(f"{output.name} [{', '.join(lengths)}]")
    return lines
