"""The size of a slide's pixels, and the source of the figure."""

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
PixelSides = tuple[float, float]  # width and height of a pixel, micrometres

# Outside this range a pixel size is a mistake (72 dpi written by an image editor is
# 352.8), micrometres.
PLAUSIBLE_MPP = (0.02, 50.0)
# Pixels are taken for square when their sides differ by less than this share.
SQUARE = 0.01
# Source of a pixel size that the user gives, in the slide table or by --mpp.
TABLE = "table"
# That source in sentences: the column `mpp` of the slide table, or --mpp.
GIVEN = "the given `mpp`"
# Largest relative difference of two sources that state the same pixel size.
TOLERANCE = 0.05
# The same, where one of them is the objective power. It is nominal: scanners of 40x
# have 0.22 to 0.28 µm/px, and only a wrong objective differs by more.
TOLERANCE_NOMINAL = 0.30
NOMINAL = "objective power"
# Field number of an eyepiece over the camera's: what 10x means in practice, micrometres
# per pixel.
MPP_AT_POWER_1 = 10.0
# Micrometres in a unit. The two spellings of µm are different characters: micro sign
# and Greek mu.
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
# Units of OpenSlide's property `tiff.ResolutionUnit`, micrometres.
TIFF_UNITS_UM = {"inch": UM["inch"], "centimeter": UM["cm"]}
# `MPP = 0.2521` between bars, as Aperio writes it into the image description.
APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)")
# OpenSlide's name of Philips' pixel spacing, one property for each level.
PHILIPS_SPACING = re.compile(r"philips\..*\bDICOM_PIXEL_SPACING")
# Attributes of OME's element `Pixels` of the image that is the slide; as properties they
# begin with `ome.`.
OME_SIZES = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "PhysicalSizeYUnit")
# OpenSlide's vendor of TIFFs without a vendor, whose pixel size it takes from the tags.
NO_VENDOR = "generic-tiff"


class Resolution(NamedTuple):
    """Micrometres per pixel of level 0, and the source of the figure."""

    mpp: float
    source: str


def resolve(
    path: Path, properties: Properties, override: float | None, allow_objective_power: bool
) -> Resolution:
    """Find a slide's pixel size.

    In this order: the slide table's `mpp`; OpenSlide's `mpp-x`, `mpp-y`; the vendor's
    text or XML (Philips, OME, Aperio, libvips); the TIFF resolution tags, from which
    OpenSlide takes the size of TIFFs without a vendor; the objective power, as 10 µm over
    it, if the user allows it. Values that cannot be true (72 dpi) count as missing.

    Args:
        path: the slide, for messages.
        properties: OpenSlide's properties of the slide, or the same keys from elsewhere.
        override: `mpp` of the slide table, micrometres per pixel; None: not given.
        allow_objective_power: whether nominal magnification may stand in; real slides
            differ from it by up to 20 %.

    Raises:
        MissingResolutionError: no source states the pixel size, or pixels are not
            square.
    """
    if override is not None:
        return Resolution(override, TABLE)
    chain = list(CHAIN if allow_objective_power else CHAIN[:-1])
    if properties.get(openslide.PROPERTY_NAME_VENDOR) == NO_VENDOR:
        # Its figure is that of the tags.
        chain.insert(1, chain.pop(0))
    implausible = []
    for source, find in chain:
        sides = find(properties)
        if sides is None:
            continue
        if not all(PLAUSIBLE_MPP[0] <= side <= PLAUSIBLE_MPP[1] for side in sides):
            implausible.append(f"{sides[0]:g} µm in {source}, which cannot be true")
            continue
        x, y = sides
        if abs(x - y) > SQUARE * max(x, y):
            raise MissingResolutionError(
                path, f"its pixels are not square: {x:g} by {y:g} µm in {source}"
            )
        return Resolution((x + y) / 2, source)
    reason = _missing_reason(implausible, properties, allow_objective_power)
    raise MissingResolutionError(path, reason)


def sizes_disagree(used: Resolution, stated: Mapping[str, float]) -> list[str]:
    """Pixel sizes of other sources that differ from the one that is used; at most one sentence.

    Args:
        used: pixel size that is used, and its source.
        stated: pixel size by source, micrometres.
    """
    sources_by_mpp: dict[str, list[str]] = {}
    for source, mpp in stated.items():
        tolerance = TOLERANCE_NOMINAL if NOMINAL in (source, used.source) else TOLERANCE
        # Not a statement: many writers leave the TIFF resolution at 72 dpi.
        plausible = PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]
        if plausible and abs(mpp / used.mpp - 1) > tolerance:
            sources_by_mpp.setdefault(f"{mpp:.4g}", []).append(source)
    if not sources_by_mpp:
        return []
    source = GIVEN if used.source == TABLE else used.source
    sizes = ", ".join(f"{mpp} by {' and '.join(names)}" for mpp, names in sources_by_mpp.items())
    return [
        f"its pixel size is {used.mpp:.4g} µm by {source}, but {sizes}; give the right one in the "
        "csv's `mpp`"
    ]


def stated_sizes(properties: Properties) -> dict[str, float]:
    """Every pixel size that a slide states, by source, to compare them; micrometres."""
    sides = {source: find(properties) for source, find in CHAIN}
    return {source: (pair[0] + pair[1]) / 2 for source, pair in sides.items() if pair is not None}


def _missing_reason(implausible: list[str], properties: Properties, power_allowed: bool) -> str:
    reason = "no pixel size in OpenSlide's properties, TIFF tags or vendor's text"
    if implausible:
        reason += f"; {'; '.join(implausible)}"
    power = _objective(properties)
    if power is not None and not power_allowed:
        reason += f"; its objective power would mean {power[0]:g} (tile.objective_power)"
    return reason


def _openslide(properties: Properties) -> PixelSides | None:
    return _pair(
        properties.get(openslide.PROPERTY_NAME_MPP_X),
        properties.get(openslide.PROPERTY_NAME_MPP_Y),
    )


def _tiff(properties: Properties) -> PixelSides | None:
    per_unit = _pair(properties.get("tiff.XResolution"), properties.get("tiff.YResolution"))
    unit_um = TIFF_UNITS_UM.get(properties.get("tiff.ResolutionUnit", ""))
    if per_unit is None or unit_um is None:
        return None
    return unit_um / per_unit[0], unit_um / per_unit[1]


def _vendor(properties: Properties) -> PixelSides | None:
    # OpenSlide takes Philips' XML apart, so that there is no XML left to parse.
    spacings = [text for key, text in properties.items() if PHILIPS_SPACING.fullmatch(key)]
    if spacings:
        return _finest(spacings)
    ome = {key: properties[f"ome.{key}"] for key in OME_SIZES if f"ome.{key}" in properties}
    if ome:
        return ome_sides(ome)
    text = properties.get("tiff.ImageDescription") or properties.get("openslide.comment") or ""
    aperio = APERIO_MPP.search(text)
    if aperio:
        return _pair(aperio[1], aperio[1])
    root = parse_xml(text)
    if root is None:
        return None
    for read in (_philips, _ome, _vips):
        sides = read(root)
        if sides is not None:
            return sides
    return None


def _objective(properties: Properties) -> PixelSides | None:
    power = _number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
    return None if power is None else (MPP_AT_POWER_1 / power, MPP_AT_POWER_1 / power)


# Most trustworthy first; the last only if the user allows it.
CHAIN: tuple[tuple[str, Callable[[Properties], PixelSides | None]], ...] = (
    ("openslide", _openslide),
    ("vendor text", _vendor),
    ("tiff tags", _tiff),
    (NOMINAL, _objective),
)


def parse_xml(text: str) -> Element | None:
    """Root of a vendor's XML; None where a text is none, or is hostile."""
    if not text.lstrip().startswith("<"):
        return None
    try:
        return fromstring(text)
    except (ParseError, DefusedXmlException, ValueError):
        return None


def _philips(root: Element) -> PixelSides | None:
    """DICOM_PIXEL_SPACING of the scanned image that is the slide; millimetres, rows first.

    Level 0 is the one with the smallest pixels among the pyramid's. Macro and label
    state their own.
    """
    for image in root.iter("DataObject"):
        if any(_named(child, "PIM_DP_IMAGE_TYPE") == "WSI" for child in image):
            spacings = [_named(child, "DICOM_PIXEL_SPACING") for child in image.iter("Attribute")]
            return _finest(spacings)
    return None


def _finest(spacings: Iterable[str]) -> PixelSides | None:
    """The smallest of texts such as `"0.00025" "0.00025"`, millimetres, row spacing first."""
    sizes = []
    for text in spacings:
        numbers = re.findall(r"[0-9.eE+-]+", text)
        if len(numbers) != 2:
            continue
        height, width = map(_number, numbers)
        if height is not None and width is not None:
            sizes.append((1e3 * width, 1e3 * height))
    return min(sizes, default=None)


def _named(attribute: Element, name: str) -> str:
    return (attribute.text or "").strip() if attribute.get("Name") == name else ""


def _ome(root: Element) -> PixelSides | None:
    for element in root.iter():
        if local_name(element) == "Pixels":
            return ome_sides(element.attrib)
    return None


def ome_sides(attributes: Mapping[str, str]) -> PixelSides | None:
    """Pixel size from the attributes of OME's element `Pixels`, micrometres."""
    pair = _pair(attributes.get("PhysicalSizeX"), attributes.get("PhysicalSizeY"))
    # The OME schema's default unit is µm.
    unit_x = UM.get(attributes.get("PhysicalSizeXUnit", "µm"))
    unit_y = UM.get(attributes.get("PhysicalSizeYUnit", "µm"))
    if pair is None or unit_x is None or unit_y is None:
        return None
    return pair[0] * unit_x, pair[1] * unit_y


def _vips(root: Element) -> PixelSides | None:
    """Pixel size from libvips, which keeps the properties of the slide that it converted."""
    properties: dict[str, str] = {}
    for element in root.iter():
        if local_name(element) == "property":
            cells = {local_name(child): (child.text or "").strip() for child in element}
            properties[cells.get("name", "")] = cells.get("value", "")
    return _openslide(properties)


def local_name(element: Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _pair(x: str | None, y: str | None) -> PixelSides | None:
    """Two positive numbers; where one is missing the other stands for it."""
    first = _number(x)
    second = _number(y)
    if first is None or second is None:
        only = first or second
        return None if only is None else (only, only)
    return first, second


def _number(text: str | None) -> float | None:
    """A positive finite number; None where a text is none."""
    # Vendors write 0, nan or words for "not known".
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
