"""Facts about a cohort, from which a recipe with `train: auto` is planned."""

from pydantic import Field

from mil.config.base import Section


class Cohort(Section):
    """Facts about training and validation slides; no test slide or test label is used.

    The numbers of slides and patients are means over the folds of folds.csv, so that
    they are the same for all heads of a study. The other facts are those of the head's
    own fold.
    """

    task: str = Field(description="Name of the task.")
    num_slides: int = Field(
        ge=0, description="Number of training and validation slides, mean over the folds, rounded."
    )
    num_patients: int = Field(
        ge=0,
        description="Number of training and validation patients, mean over the folds, rounded.",
    )
    slides_by_class: dict[str, int] = Field(
        {},
        description="Number of training and validation slides by class; empty where the label is a "
        "number.",
    )
    tiles_median: int = Field(gt=0, description="Median number of tiles of a bag.")
    tiles_max: int = Field(gt=0, description="Largest number of tiles of a bag.")
    dim: int = Field(gt=0, description="Number of features per tile.")
    feature_std: tuple[float, float, float] = Field(
        description="Standard deviation of a feature over tiles: its smallest, median and largest "
        "value among the features, to two digits."
    )
    smallest_batch: int = Field(
        1, gt=0, description="Smallest number of bags in a batch from which the task's loss learns."
    )
