"""Datasets: the yaml files of configs/datasets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mil.config.base import Section, named_file
from mil.config.encoders import Positive
from mil.config.labels import known_task

# What GeoJSON counts from: the corner of the scanned part of a slide, as QuPath does,
# or of the whole slide.
GeojsonFrame = Literal["scanned", "slide"]
DRAWN = (".geojson", ".xml", ".png", ".tif")


class DatasetConfig(Section):
    """One yaml of configs/datasets; the slide table of the same name lies beside it."""

    title: str = ""
    task: Annotated[str, AfterValidator(known_task)] = Field(
        "classification", description="what a label is, and what a head is trained to say"
    )
    classes: list[str] = Field(
        [],
        description="the classes, in the order of the head's outputs (ordinal: from low to high); empty for numbers",
    )
    positive: str | None = Field(
        None, description="the class that sensitivity and heatmaps speak of; default: the last"
    )
    intervals: int = Field(
        4,
        ge=1,
        le=100,
        description="of survival_discrete: how many, ending at quantiles of the training event times",
    )
    ends: list[Positive] = Field(
        [], description="of survival_discrete: when intervals end; goes before `intervals`"
    )
    columns: dict[str, str] = Field({}, description="our column name: the name in the csv")
    slides_dir: str = Field(
        "", description="where the slides are; the run's slides_dir goes before it"
    )
    slide_paths: list[str] = Field(
        ["{slide}"], description="patterns tried in turn when the csv has no path"
    )
    annotation_paths: list[str] = Field(
        [], description="patterns tried in turn when the csv has no annotation"
    )
    tissue_paths: list[str] = Field(
        [f"tissue/{{slide}}{kind}" for kind in DRAWN],
        description="the same for a mask of the tissue, which goes before the tissue that would be found",
    )
    region_paths: list[str] = Field(
        [f"region/{{slide}}{kind}" for kind in DRAWN],
        description="the same for the region that tiles are taken from",
    )
    geojson_frame: GeojsonFrame = Field(
        "scanned",
        description="what GeoJSON counts from: the scanned part, as QuPath does, or the whole slide",
    )
    size: str = Field(
        "", description="how big the slides are, for the message that they are missing"
    )
    get: str = Field("", description="how to get the slides, for the message that they are missing")
    licence: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "DatasetConfig":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes holds a name twice")
        if self.ends != sorted(set(self.ends)):
            raise ValueError("ends: the times must rise")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive: {self.positive!r} is not among classes {self.classes}")
        return self

    @property
    def positive_class(self) -> str:
        """The class of interest: `positive`, or the last of `classes`; empty where labels are numbers."""
        return self.positive or (self.classes[-1] if self.classes else "")


def dataset_path(name: str) -> Path:
    """The yaml of a dataset, given its name or its path."""
    return named_file("datasets", name, "dataset")
