"""From what another tool's file says to a bag of ours: what nobody knows stays unknown."""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mil.config import NAME
from mil.errors import ConfigError, FormatError
from mil.interop.coordinates import from_um
from mil.interop.external import Foreign, Source
from mil.io.bags import Bag
from mil.io.bags.folder import LONGEST_NAME

OF_ENCODER = ("encoder", "encoder_revision", "weights_sha256", "transform", "precision")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the user says of all bags, over what the files say; None or empty: nothing."""

    encoder: str = ""
    weights_sha256: str = ""
    tile_px: int | None = None
    target_mpp: float | None = None
    side_level0_px: float | None = None
    dtype: Literal["float16", "float32"] = "float16"

    def header(self) -> dict[str, Any]:
        """Fields of a bag's header."""
        said = {
            name: getattr(self, name)
            for name in ("encoder", "weights_sha256", "tile_px", "target_mpp")
        }
        said["side_level0_px"] = self.side_level0_px
        return {name: value for name, value in said.items() if value}


def as_bag(source: Source, found: Foreign, known: Known, mpp: float | None) -> Bag:
    """A bag of one slide.

    Args:
        source: where it was read.
        found: what was read.
        known: what the user says.
        mpp: micrometres per pixel of level 0; None: only what our own header in the
            file says.

    Raises:
        FormatError: the bag's numbers cannot hold what was read.
        ConfigError: nobody says which encoder it was.
    """
    passport = found.passport.header() if found.passport else {}
    mpp = mpp or passport.get("mpp_level0")
    said = {name: value for name, value in found.said.items() if value}
    if found.side_um and mpp:
        said["side_level0_px"] = found.side_um / mpp
    header = _believed(passport, said) | {"mpp_level0": mpp} | known.header()
    if not passport:
        header = {name: value for name, value in found.implied.items() if value} | header
    _check_encoder(header.get("encoder", ""), source)
    empty: dict[str, Any] = {
        "state": "no_tissue",
        "reason": f"no tiles in the file of {source.tool}",
    }
    coords = from_um(found.coords_um, mpp) if found.coords_um is not None and mpp else found.coords
    return Bag(
        slide=source.slide,
        source=source.tool,
        **header,
        **({} if len(found.features) else empty),
        features=_stored(found.features, known.dtype, source.where),
        valid=np.ones(len(found.features), bool),
        coords=coords,
        coords_um=found.coords_um,
    )


def _believed(passport: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Our header, but the file where it says something else."""
    if "encoder" in said and passport.get("encoder", said["encoder"]) != said["encoder"]:
        passport = {name: value for name, value in passport.items() if name not in OF_ENCODER}
    return passport | {
        name: value for name, value in said.items() if not _same(name, passport.get(name), value)
    }


def _same(name: str, ours: Any, theirs: Any) -> bool:
    if ours is None or isinstance(ours, str):
        return bool(ours == theirs)
    if name == "side_level0_px":  # CLAM rounds it to whole pixels
        return abs(ours - theirs) <= 0.5
    return math.isclose(ours, theirs, rel_tol=1e-6)


def _check_encoder(name: str, source: Source) -> None:
    if not name:
        raise ConfigError(
            f"{source.tool} does not say which encoder made the features; say it with --encoder "
            "NAME"
        )
    if not re.fullmatch(NAME, name) or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{source.where}: encoder {name[:60]!r} cannot name a folder; give it one: --encoder "
            "NAME"
        )


def _stored(
    features: Float[np.ndarray, "tiles dim"], dtype: str, where: str
) -> Float[np.ndarray, "tiles dim"]:
    with np.errstate(over="ignore"):
        stored = features.astype(dtype)
    if not np.isfinite(stored).all():
        raise FormatError(
            f"{where}: features up to {np.abs(features).max():.3g}, which {dtype} cannot hold"
            + ("; keep them with --dtype float32" if dtype == "float16" else "")
        )
    return stored
