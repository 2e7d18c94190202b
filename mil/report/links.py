"""Links between the pages of a report and the files of the study."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from mil.io.scores import score_path


def link(target: Path, page: Path) -> str:
    """Relative link, quoted, so that results can be moved or copied as a whole.

    Args:
        target: File that the link leads to.
        page: File that the link stands in.
    """
    return quote(Path(os.path.relpath(target, page.parent)).as_posix())


def page_path(pages: Path, slide: str) -> Path:
    """File of a slide's page; its name is that of the slide's score file."""
    return pages / f"{score_path(pages, slide).stem}.html"


def qc_images(slides: Sequence[str], tiles_dirs: Sequence[Path]) -> dict[str, Path]:
    """QC image of each slide that has one, of the first encoder that has it."""
    images: dict[str, Path] = {}
    for folder in tiles_dirs:
        # A folder is listed once: thousands of questions take long on a network.
        names = {path.name for path in (folder / "grid").glob("*.jpg")}
        for slide in slides:
            if slide not in images and f"{slide}.jpg" in names:
                images[slide] = folder / "grid" / f"{slide}.jpg"
    return images
