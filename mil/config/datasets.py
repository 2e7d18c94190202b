"""Datasets: the yaml files of configs/datasets."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from mil.config.base import Section, checked, named_file, read_yaml

# What GeoJSON counts from: the corner of the scanned part of a slide, as QuPath does, or of the whole slide.
GeojsonFrame = Literal["scanned", "slide"]
DRAWN = (".geojson", ".xml", ".png", ".tif")


class DatasetConfig(Section):
    """One yaml of configs/datasets; the slide table of the same name lies beside it."""

    title: str = ""
    classes: list[str] = Field(min_length=1, description="labels, in the order of the head's outputs")
    positive: str | None = Field(
        None, description="the class that sensitivity and heatmaps speak of; default: the last"
    )
    columns: dict[str, str] = Field({}, description="our column name: the name in the csv")
    slides_dir: str = Field("", description="where the slides are; the run's slides_dir goes before it")
    slide_paths: list[str] = Field(["{slide}"], description="patterns tried in turn when the csv has no path")
    annotation_paths: list[str] = Field([], description="patterns tried in turn when the csv has no annotation")
    tissue_paths: list[str] = Field(
        [f"tissue/{{slide}}{kind}" for kind in DRAWN],
        description="the same for a mask of the tissue, which goes before the tissue that would be found",
    )
    region_paths: list[str] = Field(
        [f"region/{{slide}}{kind}" for kind in DRAWN],
        description="the same for the region that tiles are taken from",
    )
    geojson_frame: GeojsonFrame = Field(
        "scanned", description="what GeoJSON counts from: the scanned part, as QuPath does, or the whole slide"
    )
    size: str = Field("", description="how big the slides are, for the message that they are missing")
    get: str = Field("", description="how to get the slides, for the message that they are missing")
    licence: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "DatasetConfig":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes holds a name twice")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive: {self.positive!r} is not among classes {self.classes}")
        return self

    @property
    def positive_class(self) -> str:
        """The class of interest: `positive`, or the last of `classes`."""
        return self.positive or self.classes[-1]


def dataset_path(name: str) -> Path:
    """The yaml of a dataset, given its name or its path."""
    return named_file("datasets", name, "dataset")


def load_dataset(name: str) -> DatasetConfig:
    """The yaml of a dataset, by name or by path."""
    path = dataset_path(name)
    return checked(DatasetConfig, read_yaml(path), str(path))
