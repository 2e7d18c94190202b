"""How large a slide's pixels are, and who says so."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import openslide
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from mil.errors import MissingResolutionError

Properties = Mapping[str, str]

# Outside this range a pixel size is a mistake (72 dpi written by an image editor is
# 352.8), micrometres.
PLAUSIBLE_MPP = (0.02, 50.0)
# Pixels are taken for square when their sides differ by less than this share.
SQUARE = 0.01
# Field number of an eyepiece over the camera's: what 10x means in practice, micrometres
# per pixel.
MPP_AT_POWER_1 = 10.0
UM = {
    "nm": 1e-3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
}


class Resolution(NamedTuple):
    """Micrometres per pixel of level 0, and where the figure comes from."""

    mpp: float
    source: str


def resolve(
    path: Path, properties: Properties, override: float | None, allow_objective_power: bool
) -> Resolution:
    """Find a slide's pixel size.

    In this order: the slide table's `mpp`; OpenSlide's `mpp-x`, `mpp-y`; the TIFF
    resolution tags; the vendor's text or XML (Philips, OME, Aperio, libvips); the
    objective power, as 10 µm over it, if the user allows it. What cannot be true (72
    dpi) counts as missing.

    Args:
        path: the slide, for messages.
        properties: what OpenSlide says of it, or the same keys from elsewhere.
        override: the table's value.
        allow_objective_power: whether nominal magnification may stand in; real slides
            differ from it by up to 20 %.

    Raises:
        MissingResolutionError: nobody says it, or its pixels are not square.
    """
    if override is not None:
        return Resolution(override, "table")
    chain = CHAIN if allow_objective_power else CHAIN[:-1]
    refused = []
    for source, find in chain:
        found = find(properties)
        if found is None:
            continue
        if not all(PLAUSIBLE_MPP[0] <= side <= PLAUSIBLE_MPP[1] for side in found):
            refused.append(f"{found[0]:g} µm in {source}, which cannot be true")
            continue
        x, y = found
        if abs(x - y) > SQUARE * max(x, y):
            raise MissingResolutionError(
                path, f"its pixels are not square: {x:g} by {y:g} µm in {source}"
            )
        return Resolution((x + y) / 2, source)
    raise MissingResolutionError(path, _nobody(refused, properties, allow_objective_power))


def all_said(properties: Properties) -> dict[str, float]:
    """Every pixel size that a slide states, by who says it; to see whether they agree."""
    found = {source: find(properties) for source, find in CHAIN}
    return {source: (pair[0] + pair[1]) / 2 for source, pair in found.items() if pair is not None}


def _nobody(refused: list[str], properties: Properties, allowed: bool) -> str:
    said = f"; {'; '.join(refused)}" if refused else ""
    power = _objective(properties)
    hint = (
        ""
        if power is None or allowed
        else f"; its objective power would mean {power[0]:g} (tile.objective_power)"
    )
    return f"no pixel size in OpenSlide's properties, TIFF tags or vendor's text{said}{hint}"


Pair = tuple[float, float]


def _openslide(properties: Properties) -> Pair | None:
    return _pair(
        properties.get(openslide.PROPERTY_NAME_MPP_X), properties.get(openslide.PROPERTY_NAME_MPP_Y)
    )


def _tiff(properties: Properties) -> Pair | None:
    per_unit = _pair(properties.get("tiff.XResolution"), properties.get("tiff.YResolution"))
    unit = {"inch": UM["inch"], "centimeter": UM["cm"]}.get(
        properties.get("tiff.ResolutionUnit", "")
    )
    if per_unit is None or unit is None:
        return None
    return unit / per_unit[0], unit / per_unit[1]


def _vendor(properties: Properties) -> Pair | None:
    # OpenSlide takes Philips' XML apart.
    spacings = [
        text
        for key, text in properties.items()
        if re.fullmatch(r"philips\..*\bDICOM_PIXEL_SPACING", key)
    ]
    if spacings:
        return _finest(spacings)
    text = properties.get("tiff.ImageDescription") or properties.get("openslide.comment") or ""
    aperio = re.search(r"\|\s*MPP\s*=\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)", text)
    if aperio:
        return _pair(aperio[1], aperio[1])
    root = _xml(text)
    if root is None:
        return None
    return next(
        (pair for reader in (_philips, _ome, _vips) if (pair := reader(root)) is not None), None
    )


def _objective(properties: Properties) -> Pair | None:
    power = _number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
    return None if power is None else (MPP_AT_POWER_1 / power, MPP_AT_POWER_1 / power)


CHAIN: tuple[tuple[str, Callable[[Properties], Pair | None]], ...] = (
    ("openslide", _openslide),
    ("tiff tags", _tiff),
    ("vendor text", _vendor),
    ("objective power", _objective),
)


def _xml(text: str) -> Element | None:
    if not text.lstrip().startswith("<"):
        return None
    try:
        return fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):
        return None


def _philips(root: Element) -> Pair | None:
    """DICOM_PIXEL_SPACING, millimetres, rows before columns, of the scanned image that is the slide.

    Level 0 is the one with the smallest pixels among the pyramid's; macro and label say
    their own.
    """
    for image in root.iter("DataObject"):
        if any(_named(child, "PIM_DP_IMAGE_TYPE") == "WSI" for child in image):
            return _finest(
                [_named(child, "DICOM_PIXEL_SPACING") for child in image.iter("Attribute")]
            )
    return None


def _finest(spacings: Iterable[str]) -> Pair | None:
    """The smallest of texts such as `"0.00025" "0.00025"`."""
    pairs = [re.findall(r"[0-9.eE+-]+", text) for text in spacings]
    sides = [(_number(x), _number(y)) for y, x in (pair for pair in pairs if len(pair) == 2)]
    return min(
        ((1e3 * x, 1e3 * y) for x, y in sides if x is not None and y is not None), default=None
    )


def _named(attribute: Element, name: str) -> str:
    return (attribute.text or "").strip() if attribute.get("Name") == name else ""


def _ome(root: Element) -> Pair | None:
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            pair = _pair(element.get("PhysicalSizeX"), element.get("PhysicalSizeY"))
            units = [UM.get(element.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
            if pair is None or units[0] is None or units[1] is None:
                return None
            return pair[0] * units[0], pair[1] * units[1]
    return None


def _vips(root: Element) -> Pair | None:
    """Libvips keeps the properties of the slide that it converted."""
    local = {name.rpartition("}")[2]: name for name in {element.tag for element in root.iter()}}
    if "property" not in local:
        return None
    known: dict[str, str] = {}
    for element in root.iter(local["property"]):
        cells = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in element}
        known[cells.get("name", "")] = cells.get("value", "")
    return _openslide(known)


def _pair(x: str | None, y: str | None) -> Pair | None:
    """Two positive numbers; where one is missing the other stands for it."""
    first = _number(x)
    second = _number(y)
    if first is None or second is None:
        one = first or second
        return None if one is None else (one, one)
    return first, second


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
