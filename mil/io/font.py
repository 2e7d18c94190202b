"""The font of pictures."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache
def picture_font(size_px: float) -> Font:
    """The font that comes with matplotlib, which has µ and ² as Pillow's own has not.

    It is located without importing matplotlib, which takes half a second.

    Args:
        size_px: Size of the letters, pixels.
    """
    package = find_spec("matplotlib")
    if package:
        folder = Path(package.origin or "").parent / "mpl-data" / "fonts" / "ttf"
        path = folder / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size_px)
    return ImageFont.load_default(size_px)
