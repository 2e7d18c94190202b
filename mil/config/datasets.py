"""Datasets: the yaml files of configs/datasets."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mil.config.base import Section, config_path, named_file, named_files
from mil.config.encoders import Positive
from mil.config.labels import known_task
from mil.errors import some
from mil.text import clean

# Origin of GeoJSON coordinates: the corner of the scanned part of a slide, as in
# QuPath, or of the whole slide.
GeojsonFrame = Literal["scanned", "slide"]
# Names are compared with cells of the slide table, which are cleaned too.
CleanText = Annotated[str, AfterValidator(clean)]
MASK_FORMATS = (".geojson", ".xml", ".annotations", ".png", ".tif")


class DatasetConfig(Section):
    """One yaml of configs/datasets; the slide table of the same name lies beside it."""

    title: str = Field("", description="Title of the dataset in the report.")
    task: Annotated[str, AfterValidator(known_task)] = Field(
        "classification", description="Kind of label, which sets loss, predictions and metrics."
    )
    classes: list[CleanText] = Field(
        [],
        description="Names of the classes in the order of the head's outputs, from low to high "
        "for an ordinal task; empty for tasks whose labels are numbers.",
    )
    positive: CleanText | None = Field(
        None,
        description="Class of interest for sensitivity and heatmaps; if unset, the last class.",
    )
    intervals: int = Field(
        4,
        ge=1,
        le=100,
        description="Number of time intervals of survival_discrete; they end at quantiles of the "
        "training event times.",
    )
    ends: list[Positive] = Field(
        [],
        description="Ends of the time intervals of survival_discrete; they override `intervals`.",
    )
    columns: dict[str, str] = Field(
        {}, description="Names of the csv's columns, by the name that mil uses."
    )
    # All paths are relative to this folder, so that slides can be moved as one.
    slides_dir: str = Field(
        "", description="Folder of the slides; the run's slides_dir overrides it."
    )
    bags: str = Field(
        "",
        description="Folder of precomputed bags that a run trains on; the run's bags overrides it.",
    )
    slide_paths: list[str] = Field(
        ["{slide}"],
        description="Patterns of a slide's path, tried in turn where the csv has no path.",
    )
    annotation_paths: list[str] = Field(
        [],
        description="Patterns of an annotation's path, tried in turn where the csv has none.",
    )
    annotation_classes: list[CleanText] = Field(
        [],
        description="Classes of annotations that outline the positive region; if empty, those "
        "named like it (tumour, carcinoma, metastasis, lesion, `positive`) and, where a file has "
        "none of these, regions without a class.",
    )
    incomplete_annotations: list[CleanText] = Field(
        [],
        description="Slides whose annotation leaves out some of the positive region: they count "
        "by their label, and for nothing about tiles and lesions.",
    )
    tissue_paths: list[str] = Field(
        [f"tissue/{{slide}}{ending}" for ending in MASK_FORMATS],
        description="Patterns of the path of a tissue mask, which replaces tissue detection.",
    )
    region_paths: list[str] = Field(
        [f"region/{{slide}}{ending}" for ending in MASK_FORMATS],
        description="Patterns of the path of a region that tiles are restricted to.",
    )
    geojson_frame: GeojsonFrame = Field(
        "scanned",
        description="Origin of GeoJSON coordinates: the scanned part (QuPath), or the whole slide.",
    )
    size: str = Field(
        "", description="Size of all slides on disk, for the message that they are missing."
    )
    get: str = Field(
        "",
        description="Instructions to download the slides, for the message that they are missing.",
    )
    licence: str = Field("", description="Licence of the slides.")
    notes: str = Field(
        "",
        description="Free text for later users of the dataset; shown in the report.",
    )

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "DatasetConfig":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes contains a name twice")
        if self.ends != sorted(set(self.ends)):
            raise ValueError("ends: the times must increase")
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(
                f"positive: {self.positive!r} is not among classes {some(self.classes)}"
            )
        return self

    @property
    def positive_class(self) -> str:
        """Class of interest: `positive`, or the last; empty where labels are numbers."""
        return self.positive or (self.classes[-1] if self.classes else "")

    def folder(self, name: str) -> Path:
        """Folder of the slides, where neither a run nor an option names another.

        Args:
            name: Name of the dataset, or path of its yaml.
        """
        return Path(self.slides_dir or f"data/{dataset_path(name).stem}")


def dataset_path(name: str) -> Path:
    """Path of a dataset's yaml, given its name or its path."""
    return named_file("datasets", name, "dataset")


def dataset_argument(yaml: Path) -> str:
    """Dataset in a command line: its name where that leads to its yaml, else the path.

    Args:
        yaml: Yaml of the dataset, which exists.
    """
    by_name = config_path(f"datasets/{yaml.stem}.yaml")
    leads_to_it = by_name.exists() and by_name.samefile(yaml)
    return yaml.stem if leads_to_it else quote(str(yaml))


def subsets_of(name: str) -> list[str]:
    """Names of a dataset's subsets: NAME_mini is the subset `mini` of NAME.

    Args:
        name: Name of the dataset.
    """
    return sorted(
        file.stem.removeprefix(f"{name}_")
        for file in named_files("datasets")
        if file.stem.startswith(f"{name}_")
    )
