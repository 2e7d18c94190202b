"""What an OME description claims; tifffile takes time and memory for all of it."""

from math import inf
from xml.etree.ElementTree import Element

from mil.io.slides.resolution import parse_xml

# A slide has a few planes and images; tifffile takes a second or so for this many.
IMPOSSIBLE_PLANES = 1_000_000
IMPOSSIBLE_IMAGES = 1000
# Axes of an image, and a number that needs no more counting.
MOST_AXES = 9
MOST_COUNTED = 10**18


def impossible_claim(description: str) -> str:
    """Why a description cannot be that of a slide; empty: it can."""
    root = parse_xml(description)
    if root is None:
        return ""
    images = sum(element.tag.endswith("Image") for element in root)
    if images > IMPOSSIBLE_IMAGES:
        return f"{images} images"
    planes = sum((_planes(element, None, 1) for element in root.iter()), 0.0)
    if planes > IMPOSSIBLE_PLANES:
        return f"over {IMPOSSIBLE_PLANES} planes"
    return ""


def claimed_planes(description: str, page_px: int, pages: int) -> float:
    """Planes that tifffile counts one by one; infinite where that cannot be known.

    Args:
        description: the OME description of a file.
        page_px: area of the smallest page of the file, pixels.
        pages: pages of the file.
    """
    root = parse_xml(description)
    if root is None or any("Along" in element.tag for element in root.iter()):
        return inf
    return sum((_planes(element, page_px, pages) for element in root.iter()), 0.0)


def _planes(element: Element, page_px: int | None, pages: int) -> float:
    if element.tag.endswith("TiffData"):
        counts = [_whole(element.get(name, "0")) for name in ("PlaneCount", "NumPlanes")]
        return float(min(max(counts) or pages, MOST_COUNTED))
    if not element.tag.endswith("Pixels"):
        return 0.0
    axes = element.get("DimensionOrder", "XYCZT")
    if len(axes) > MOST_AXES:
        return inf
    if page_px is None:
        axes = axes.replace("X", "").replace("Y", "")
    # Whole numbers of any length, up to where a float ends.
    return float(min(_product(element, axes) // (page_px or 1), MOST_COUNTED))


def _product(element: Element, axes: str) -> int:
    product = 1
    for axis in axes:
        product *= _whole(element.get(f"Size{axis}", "1"))
    return product


def _whole(text: str) -> int:
    # Where tifffile meets no number, it leaves the description aside.
    try:
        return abs(int(text))
    except ValueError:
        return 1
