"""A trained head is a folder, in which nothing is unpickled.

`head.safetensors` holds the weights of the epoch that is kept, `last.safetensors` those
of the last epoch (absent for imported heads); `recipe.json` is the head's record
(`mil.trained.record`), `history.json` the course of its training.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mil.errors import ConfigError, FormatError, brief
from mil.heads import build_head, head_names
from mil.io.atomic import atomic_path, write_json
from mil.io.disk import raise_of_machine
from mil.trained.assembled import assemble
from mil.trained.manifest import MANIFEST, check_sealed
from mil.trained.record import (
    FILES,
    FORMAT,
    RECORD,
    VERSION,
    Trained,
    Which,
    check_one_recipe,
    read_record,
)
from mil.trained.scaling import FeatureScaling, empty_scaling
from mil.versions import TOOL_VERSION

# Written about the weights afterwards, by `mil.trained.seal` and `mil.trained.card`.
ABOUT_WEIGHTS = (MANIFEST, "MODEL_CARD.md")


def save_trained(
    folder: Path,
    trained: Trained,
    weights: Mapping[str, Tensor],
    history: dict[str, Any],
    last: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a head's folder; one that has weights is complete, for they come last.

    Args:
        folder: Folder to write, created if needed.
        trained: Content of `recipe.json`.
        weights: Weights of the epoch that is kept, by name.
        history: Content of `history.json`.
        last: Weights of the last epoch; None where they are not known.
    """
    # Old weights never stand beside new settings, nor an old card beside new weights.
    for name in (*FILES.values(), *ABOUT_WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / "history.json", history)
    write_json(
        folder / RECORD,
        {
            "format": FORMAT,
            "format_version": VERSION,
            "tool_version": TOOL_VERSION,
            **trained.model_dump(mode="json"),
        },
    )
    if last is not None:
        _write_weights(folder / FILES["last"], last)
    _write_weights(folder / FILES["kept"], weights)


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    # safetensors refuses tensors that are not contiguous.
    tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
    with atomic_path(path) as scratch:
        # Not `save_file`, which creates a file that no other user may read.
        scratch.write_bytes(save(tensors))


def load_trained(folder: Path, which: Which = "kept") -> tuple[nn.Module, Trained]:
    """Rebuild a head from its folder, in evaluation mode.

    Args:
        folder: Folder of the head.
        which: Weights to load: those of the kept epoch, or of the last one.

    Raises:
        FormatError: a file is missing, of another format or version, does not fit, holds
            no numbers, or differs from its checksum in `seal.json`.
    """
    trained = read_record(folder)
    check_sealed(folder, (RECORD, FILES[which]))
    path = folder / RECORD
    weights = folder / FILES[which]
    try:
        tensors = load_file(weights)
        _check_members(trained, tensors)
        head = _build(trained)
        head.load_state_dict(tensors)
    except ConfigError as error:
        missing = trained.recipe.name not in head_names()
        hint = "; a head of another package needs that to be installed" if missing else ""
        raise FormatError(f"{path}: {error}{hint}") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        raise_of_machine(error, weights)
        # Torch lists every tensor that does not fit, on a line each.
        reason = brief(error)
        raise FormatError(
            f"{weights}: does not fit recipe.json: {reason}; get the folder again from its source, "
            "or train the head again"
        ) from None
    # A training that diverged leaves NaN, which would be in every prediction.
    if not all(tensor.isfinite().all() for tensor in head.state_dict().values()):
        raise FormatError(f"{weights}: holds values that are not numbers; train the head again")
    return head.eval(), trained


def _check_members(trained: Trained, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a record with other members than the file, before any is built."""
    # A record of somebody else must not make a machine build heads without end.
    saved = {name.split(".")[1] for name in tensors if name.startswith("members.")}
    if trained.is_assembled and len(saved) != trained.num_members:
        raise RuntimeError(f"{trained.num_members} members there, {len(saved)} here")


def _build(trained: Trained) -> nn.Module:
    """The head of a record before its weights are loaded."""

    def build() -> nn.Module:
        return build_head(
            trained.recipe.name,
            trained.recipe.options,
            dim=trained.recipe.train.scaled_dim(trained.dim),
            classes=trained.task.outputs,
        )

    if not trained.is_assembled:
        return build()
    members = [build() for _ in range(trained.num_members)]
    scalings = [_empty_scaling(trained) for _ in members]
    return assemble(members, [scaling for scaling in scalings if scaling is not None])


def _empty_scaling(trained: Trained) -> FeatureScaling | None:
    train = trained.recipe.train
    return empty_scaling(trained.dim, whiten=train.whiten, zscore=train.zscore)


def load_heads(folders: Sequence[Path], which: Which = "kept") -> list[tuple[nn.Module, Trained]]:
    """Load heads of one recipe, its seeds and folds, whose predictions may be averaged.

    Raises:
        FormatError: see `load_trained`.
        DatasetError: see `mil.trained.record.check_one_recipe`.
    """
    loaded = [load_trained(folder, which) for folder in folders]
    check_one_recipe(folders, [trained for _, trained in loaded])
    return loaded
