"""Sections of a model card about using the head: commands, tiles and licences."""

from pathlib import Path
from typing import NamedTuple

from mil.config import DatasetConfig, load_encoders
from mil.config.joined import encoder_terms
from mil.trained import Trained
from mil.trained.markdown import escaped

LICENCE_OPEN = (
    "The licence of this head is not stated: nobody but its owner may grant one. `mil heads card "
    "--licence` writes it."
)


class Tissue(NamedTuple):
    """Settings of the section `tile` that a head does not store; None: not known."""

    min_tissue: float | None = None
    min_area_mm2: float | None = None


def use_section(trained: Trained, folder: Path, tissue: Tissue) -> str:
    """Text of the section on how to use the head."""
    name = folder.name or "HEAD"
    terms = encoder_terms(trained.encoder, load_encoders())
    licence = "its licence is not known here"
    cite = ""
    if terms:
        licence = f"licence: {escaped(terms.licence)}"
        if terms.gated:
            licence += "; its weights are given to those who ask on their page"
        if terms.citation:
            cite = f" Cite: {escaped(terms.citation)}."
    stains = f" after stain normalisation ({escaped(trained.stain_norm)})"
    stains = stains if trained.stain_norm else ""
    commands = f"mil heads verify {name}\nmil predict SLIDE... --head {name} --out predicted"
    return (
        f"````bash\n{commands}\n````\n\n"
        f"It needs the encoder {escaped(trained.encoder)} ({licence}) with weights of SHA-256 "
        f"`{trained.weights_sha256 or 'not known'}`, on tiles of "
        f"{escaped(trained.tiling)}{stains}; what that licence forbids, it forbids for this head "
        f"too.{cite}\n\n{_on_tissue(tissue)}"
    )


def licence_section(trained: Trained, dataset: DatasetConfig | None, licence: str) -> str:
    """Which licences bind the user of the head."""
    of_head = f"This head is given away under {escaped(licence)}." if licence else LICENCE_OPEN
    terms = encoder_terms(trained.encoder, load_encoders())
    of_encoder = "The licence of its encoder is not known here."
    if terms:
        gate = ", whose weights are given to those who ask on their page" if terms.gated else ""
        of_encoder = (
            f"The licence of its encoder {escaped(trained.encoder)}{gate} is "
            f"{escaped(terms.licence)}."
        )
    of_data = "That of the data is not known here."
    if dataset and dataset.licence:
        of_data = f"That of the data is {escaped(dataset.licence)}."
    return f"{of_head} {of_encoder} {of_data} What these forbid, they forbid for this head too."


def _on_tissue(tissue: Tissue) -> str:
    """Settings of the tiles, which users of the head must set to the same values."""
    settings = [
        f"`{name}: {setting:g}`"
        for name, setting in tissue._asdict().items()
        if setting is not None
    ]
    section = "section `tile` of `configs/config.yaml`"
    if not settings:
        return (
            "Which settings decided what counts as tissue is not known here; `mil predict` uses "
            f"those in {section}."
        )
    return (
        f"Its tiles were cut with {', '.join(settings)}, which the head does not store; "
        f"`mil predict` uses the settings in {section}."
    )
