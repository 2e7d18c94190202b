"""A dataset of slides that the doctor's tests make."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mil.config import TileConfig
from mil.doctor.findings import SlideFinding
from mil.doctor.inspect import inspect_slide
from mil.doctor.requirements import Requirements
from mil.io.tables import Slide
from tests.synthetic import glass, stain, write_slide


def requirements(*tilings, tissue=True, max_corrupt=0.01, **tile) -> Requirements:
    return Requirements(tilings or ((224, 0.5),), TileConfig(**tile), max_corrupt, tissue)


def look_at(
    file: Path, mpp: float | None = None, url: str = "", tilings=(), **settings
) -> SlideFinding:
    return inspect_slide(
        Slide(file.stem, "p", "a", path=file.name, mpp=mpp, url=url),
        file,
        requirements(*tilings, **settings),
    )


def full_slide(path: Path, size_px=(1024, 1024), mpp=0.5) -> Path:
    """Tissue from edge to edge, without a pyramid."""
    write_slide(path, _tissue(size_px), mpp, (1,), compression="jpeg")
    return path


def cut_slide(path: Path, share: float, size_px=(1024, 1024)) -> Path:
    """Tissue from edge to edge; of level 0, which comes last in the file, only this share is there.

    OpenSlide refuses a file whose smallest level is not whole.
    """
    level0 = Image.fromarray(_tissue(size_px))
    small = level0.resize((size_px[0] // 4, size_px[1] // 4))
    with tifffile.TiffWriter(path) as file:
        for number, level in enumerate(
            (small, level0)
        ):  # OpenSlide takes the pixel size of the first
            file.write(
                np.asarray(level),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                metadata=None,
                maxworkers=1,
                subfiletype=number,
                resolution=(1e4 / 0.5,) * 2,
                resolutionunit="CENTIMETER",
            )
    with tifffile.TiffFile(path) as file:
        page = file.pages[1]
        start = page.dataoffsets[0]
        end = page.dataoffsets[-1] + page.databytecounts[-1]
    path.write_bytes(path.read_bytes()[: int(start + share * (end - start))])
    return path


def _tissue(size_px: tuple[int, int]) -> np.ndarray:
    picture = glass(size_px)
    stain(picture, np.ones(size_px[::-1], bool))
    return picture


def aperio_slide(path: Path, text: str) -> Path:
    """Tissue from edge to edge in an Aperio slide that says `text` of itself."""
    description = f"Aperio Image Library v1\r\n512x512|{text}"
    with tifffile.TiffWriter(path) as file:
        file.write(
            _tissue((512, 512)),
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            metadata=None,
            maxworkers=1,
            description=description,
        )
    return path


def write_dataset(folder: Path, rows: list[str], header: str = "slide,path,label") -> Path:
    (folder / "set.csv").write_text("\n".join([header, *rows]) + "\n")
    yaml = folder / "set.yaml"
    yaml.write_text(f"classes: [a]\nslides_dir: {folder}\n")
    return yaml
