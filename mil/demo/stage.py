"""Make one file of the demo data by its name."""

from __future__ import annotations

from pathlib import Path

from mil.demo.annotation import write_annotation
from mil.demo.plan import DemoSlide, demo_slides
from mil.demo.pyramid import write_pyramid
from mil.demo.render import render
from mil.errors import DatasetError
from mil.io.atomic import atomic_path


def make(name: str, out: Path) -> None:
    """Write a demo slide or its annotation; the same name gives the same bytes every time.

    Args:
        name: `demo_07.tif`, `mini_03.xml` and so on; annotations exist for the tumour
            slides only.
        out: file to write, whole or not at all.

    Raises:
        DatasetError: the demo data has no such file.
    """
    slide = _slide_of(name)
    with atomic_path(out) as scratch:
        if name.endswith(".xml"):
            write_annotation(scratch, slide)
        else:
            write_pyramid(scratch, render(slide), slide.mpp)


def _slide_of(name: str) -> DemoSlide:
    slides = {slide.id: slide for plan in ("demo", "mini") for slide in demo_slides(plan)}
    stem, _, suffix = name.partition(".")
    if stem not in slides or suffix not in ("tif", "xml"):
        raise DatasetError(
            f"no demo file named '{name}'; there are demo_01.tif to demo_32.tif, mini_01.tif to "
            "mini_08.tif, and an .xml of the same name for each tumour slide"
        )
    if suffix == "xml" and slides[stem].label == "normal":
        annotated = ", ".join(slide.id for slide in slides.values() if slide.label == "tumour")
        raise DatasetError(
            f"no demo file named '{name}': {stem} has no tumour; annotated are {annotated}"
        )
    return slides[stem]
