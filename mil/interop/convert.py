"""From another tool's features to a bag: units of coordinates, and which source of a field wins.

A field that no source knows stays unknown; nothing is guessed. What the user states
goes before what the file states, and that goes before a header that we embedded.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from mil.config import EncoderConfig, by_alias, load_encoders
from mil.config.base import LONGEST_NAME
from mil.config.joined import ENCODERS
from mil.errors import ConfigError, FormatError
from mil.interop.external import ExternalFeatures, FeatureFile
from mil.interop.header import FIELD_NAMES, HeaderFields
from mil.io.bags import Bag

FeatureDtype = Literal["float16", "float32"]
# Fields that describe the encoder: they hold together, or not at all.
ENCODER_FIELDS = (
    "encoder",
    "encoder_revision",
    "weights_sha256",
    "transform",
    "precision",
    "stain_norm",
    "stain",
)


def whole_pixels(
    coords: Shaped[np.ndarray, "tiles 2"], location: str
) -> Int[np.ndarray, "tiles 2"]:
    """Corners in level-0 pixels as whole numbers.

    Args:
        coords: corners as the file has them, of any numeric type.
        location: the file, and the group in it, for messages.

    Raises:
        FormatError: some are fractions, so they are not the pixels that the format
            promises.
    """
    # As floats, since some files keep whole pixels as float64.
    rounded = np.rint(coords.astype(float))
    if not (rounded == coords).all():
        raise FormatError(
            f"{location}: coords are fractions, so not pixels of level 0; are they in another unit?"
        )
    return rounded.astype(np.int32)


def pixels_from_um(
    coords_um: Float[np.ndarray, "tiles 2"], mpp: float
) -> Int[np.ndarray, "tiles 2"]:
    """Corners in level-0 pixels, rounded to the nearest.

    Args:
        coords_um: corners in micrometres.
        mpp: micrometres per pixel of level 0.
    """
    return np.rint(coords_um.astype(float) / mpp).astype(np.int32)


def um_from_pixels(
    coords: Int[np.ndarray, "tiles 2"], mpp: float, location: str
) -> Float[np.ndarray, "tiles 2"]:
    """Corners in micrometres, float32 as STAMP keeps them.

    Args:
        coords: corners in level-0 pixels.
        mpp: micrometres per pixel of level 0.
        location: the slide, for messages.

    Raises:
        FormatError: float32 is too coarse to tell these pixels apart.
    """
    coords_um = (coords.astype(float) * mpp).astype(np.float32)
    # The way back must give the same pixels: float32 has 24 bits.
    if not (pixels_from_um(coords_um, mpp) == coords).all():
        raise FormatError(
            f"{location}: pixels of {mpp} µm so far from the corner do not fit STAMP's float32 "
            "coordinates"
        )
    return coords_um


def bag_from_external(
    file: FeatureFile,
    external: ExternalFeatures,
    *,
    stated: HeaderFields,
    mpp: float | None,
    dtype: FeatureDtype,
    encoders: Mapping[str, EncoderConfig],
) -> Bag:
    """Bag of one slide.

    Args:
        file: file that was read.
        external: features that were read from it.
        stated: header fields that the user states for all bags.
        mpp: micrometres per pixel of level 0; None: as the embedded header has it, if
            there is one.
        dtype: type of the stored features.
        encoders: entries by name: a name of another tool becomes that of its entry.

    Raises:
        FormatError: the type of the bag's features cannot hold what was read.
        ConfigError: no source names the encoder.
    """
    if external.embedded is not None and mpp is None:
        mpp = external.embedded.mpp_level0
    fields = stated.filled_from(_file_fields(external, mpp))
    fields = replace(fields, encoder=entry_name(fields.encoder, encoders))
    _check_encoder(fields.encoder, file)
    # Micrometres become pixels only with a pixel size that is known.
    coords = external.coords
    if external.coords_um is not None and mpp:
        coords = pixels_from_um(external.coords_um, mpp)
    tiles = len(external.features)
    return Bag(
        slide=file.slide,
        source=file.tool,
        state="ok" if tiles else "no_tissue",
        reason="" if tiles else f"no tiles in the file of {file.tool}",
        **asdict(fields),
        features=_as_dtype(external.features, dtype, file.location),
        # Other tools do not write tiles that they could not read.
        valid=np.ones(tiles, bool),
        coords=coords,
        coords_um=external.coords_um,
    )


def entry_name(encoder: str, encoders: Mapping[str, EncoderConfig]) -> str:
    """Name of the entry that an encoder of another tool is; its own name if there is none.

    TRIDENT's `uni_v1` and STAMP's `mahmood-uni` are `uni` here: heads, recipes and
    comparisons must see one encoder.
    """
    # The comparison passes over punctuation: a path is no name.
    if ".." in encoder:
        return encoder
    return by_alias(encoder, encoders) or encoder


def known_encoders() -> dict[str, EncoderConfig]:
    """Entries of configs/encoders.yaml; none where that file cannot be used."""
    try:
        return load_encoders()
    except ConfigError:
        # Bags of any encoder can be imported; what runs encoders reports the file's faults.
        return {}


def _file_fields(external: ExternalFeatures, mpp: float | None) -> HeaderFields:
    """Header fields by the file alone: what it states, and what we embedded in it."""
    # STAMP states the side in micrometres alone.
    stated = external.stated
    if external.side_um and mpp:
        stated = replace(stated, side_level0_px=external.side_um / mpp)
    if external.embedded is None:
        merged = stated.filled_from(external.fallback)
    else:
        merged = _reconciled(external.embedded.header_fields(), stated)
    return replace(merged, mpp_level0=mpp)


def _reconciled(embedded: HeaderFields, stated: HeaderFields) -> HeaderFields:
    """The embedded header, corrected wherever the file itself states something else."""
    names = list(FIELD_NAMES)
    if stated.encoder and embedded.encoder and stated.encoder != embedded.encoder:
        # The features were replaced: weights and transform of the old encoder go too.
        names = [name for name in FIELD_NAMES if name not in ENCODER_FIELDS]
    remaining = HeaderFields(**{name: getattr(embedded, name) for name in names})
    corrections = {
        name: value
        for name, value in stated.known().items()
        if not _agree(name, getattr(remaining, name), value)
    }
    return HeaderFields(**corrections).filled_from(remaining)


def _agree(name: str, embedded: Any, stated: Any) -> bool:
    """Whether a stated value is the embedded one, but for the rounding of its format."""
    if embedded is None or isinstance(embedded, str):
        return bool(embedded == stated)
    if name == "side_level0_px":
        # CLAM's file of patches has the side in whole pixels.
        return bool(abs(embedded - stated) <= 0.5)
    # Other formats keep such numbers as float32, or divide and multiply them.
    return math.isclose(embedded, stated, rel_tol=1e-6)


def _check_encoder(name: str, file: FeatureFile) -> None:
    if not name:
        raise ConfigError(
            f"{file.tool} does not say which encoder made the features; name it with --encoder NAME"
        )
    # The encoder's name becomes a folder of the results.
    if not re.fullmatch(ENCODERS, name) or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{file.location}: encoder {name[:60]!r} cannot be a folder's name; give another one "
            "with --encoder NAME"
        )


def _as_dtype(
    features: Float[np.ndarray, "tiles dim"], dtype: FeatureDtype, location: str
) -> Float[np.ndarray, "tiles dim"]:
    with np.errstate(over="ignore"):
        converted = features.astype(dtype)
    if not np.isfinite(converted).all():
        hint = "; keep them with --dtype float32" if dtype == "float16" else ""
        raise FormatError(
            f"{location}: features up to {np.abs(features).max():.3g}, which {dtype} cannot "
            f"hold{hint}"
        )
    return converted
