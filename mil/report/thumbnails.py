"""Small pictures inside the page, so that the page alone can be sent."""

import io
from base64 import b64encode
from pathlib import Path

from PIL import Image

# Width and height of the largest thumbnail, pixels of the page.
SIZE_PX = (300, 200)
QUALITY = 78
# Largest picture that is read, pixels: heatmaps of ours have some 1.5 million.
LARGEST_PX = 40_000_000
# Number of thumbnails in one page: some 12 kB and 25 ms each.
MOST = 120


class Thumbnails:
    """Thumbnails as data URIs, up to a number; a picture is read once."""

    def __init__(self, most: int = MOST) -> None:
        self._left = most
        self._uris: dict[Path, str] = {}

    def uri(self, path: Path | None) -> str:
        """Data URI of a picture's thumbnail; empty for no picture, and past the limit."""
        if path is None:
            return ""
        if path not in self._uris:
            if self._left <= 0:
                return ""
            self._uris[path] = _uri(path)
            self._left -= bool(self._uris[path])
        return self._uris[path]


def _uri(path: Path) -> str:
    """Data URI of a JPEG; empty where the picture cannot be read."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_PX:
                return ""
            # JPEGs are decoded at a fraction of their size.
            image.draft("RGB", SIZE_PX)
            factor = max(min(image.width // SIZE_PX[0], image.height // SIZE_PX[1]), 1)
            small = image.convert("RGB").reduce(factor)
    # A picture that is damaged costs its thumbnail, not the report.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    small.thumbnail(SIZE_PX, Image.Resampling.BILINEAR)
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{b64encode(encoded.getvalue()).decode()}"
