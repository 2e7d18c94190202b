"""Heads of one recipe in memory, and what identifies them."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from torch import nn

from mil.config.stages import Evidence
from mil.errors import DatasetError
from mil.heads import Remover
from mil.io.scores import ScoringHead
from mil.trained.evidence import remover_of
from mil.trained.folder import load_heads
from mil.trained.record import FILES, RECORD, Trained


class LoadedHead(NamedTuple):
    """A head in memory, with its weights of the last epoch where those were kept."""

    files: ScoringHead
    trained: Trained
    head: nn.Module
    last: nn.Module | None
    # None: the head cannot remove tiles.
    remover: Remover | None
    # Whether the evidence of tiles is computed.
    has_evidence: bool

    @property
    def checksums(self) -> list[str]:
        """What scores of the head depend on: its record and its weights.

        The record holds calibration, threshold and class of interest, which change where
        the weights do not.
        """
        record = sha256(self.files.record.encode()).hexdigest()
        return [record, self.files.sha256, self.files.last_sha256]


def loaded_heads(folders: Sequence[Path], evidence: Evidence) -> list[LoadedHead]:
    """Load the heads; the last epoch takes part only if all heads have its weights.

    Args:
        folders: Folders of trained heads of one recipe.
        evidence: Evidence of tiles to compute; `exact`: of heads that can remove tiles alone.

    Raises:
        DatasetError: One is given twice, or they are of several recipes.
        FormatError: One cannot be used.
    """
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        # In a mean, and in a count of trainings, it would weigh double.
        if places.count(place) > 1:
            raise DatasetError(f"{folder}: this head is given twice; give it once")
    kept = load_heads(folders)
    last: Sequence[nn.Module | None] = [None] * len(kept)
    # Imported heads have no last epoch.
    if all((folder / FILES["last"]).exists() for folder in folders):
        last = [head for head, _ in load_heads(folders, "last")]
    loaded = []
    for folder, (head, trained), head_of_last in zip(folders, kept, last, strict=True):
        files = _files(folder, with_last=head_of_last is not None)
        remover = None if evidence == "none" else remover_of(head)
        has_evidence = evidence == "all" or remover is not None
        loaded.append(LoadedHead(files, trained, head, head_of_last, remover, has_evidence))
    return loaded


def _files(folder: Path, *, with_last: bool) -> ScoringHead:
    return ScoringHead(
        record=(folder / RECORD).read_text(encoding="utf-8"),
        sha256=_sha256(folder / FILES["kept"]),
        last_sha256=_sha256(folder / FILES["last"]) if with_last else "",
    )


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
