"""Pictures on their way to the disk."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image


def write_jpeg(path: Path, image: Image.Image, **options: Any) -> None:
    """Write a JPEG whole, or raise.

    Pillow's own writing to a file overlooks a short write: where a disk fills up, the end
    of the picture is missing and no error tells.

    Args:
        path: File to write; its name may end otherwise.
        image: Image to write.
        **options: Options of Pillow's JPEG writer.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    encoded = BytesIO()
    image.save(encoded, "JPEG", **options)
    path.write_bytes(encoded.getbuffer())
