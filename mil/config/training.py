"""Settings of a head's training: the section `train` of a recipe."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from mil.config.base import Section


class TrainConfig(Section):
    """Settings of a head's training."""

    # An option that is off changes no bit of a trained head.

    # Steps of the optimiser.
    epochs: int = Field(
        50, gt=0, le=100_000, description="Number of passes over the training bags."
    )
    # One bag a step, as in the published codes; planned recipes train on four.
    batch_bags: int = Field(
        1, gt=0, description="Number of bags in a batch; their tiles are concatenated, not padded."
    )
    accumulate: int = Field(
        1, gt=0, description="Number of batches whose gradients are summed for one optimiser step."
    )
    lr: float = Field(
        1e-4,
        gt=0,
        description="Learning rate after warm-up; it falls along a cosine to `min_lr`, step by "
        "step.",
    )
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the last step.")
    warmup_epochs: float = Field(
        0.0, ge=0, description="Length of the linear rise of the learning rate from 0, in epochs."
    )
    weight_decay: float = Field(1e-5, ge=0, description="Weight decay of AdamW.")
    clip_norm: float | None = Field(
        None,
        gt=0,
        description="Largest norm of the gradient of all parameters; if unset, it is not clipped.",
    )

    # Bags and tiles of a step.
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="Weights of the bags in the losses; balanced: in inverse proportion to the "
        "frequency of their class in training.",
    )
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle",
        description="Bags of an epoch; shuffle: each bag once; balanced: each class equally often.",
    )
    max_tiles: int | None = Field(
        None,
        gt=0,
        description="Largest number of tiles of a bag in a training step, sampled at each step; "
        "if unset, all tiles.",
    )
    feature_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of the feature dimensions set to zero in all tiles of a bag, "
        "sampled at each step.",
    )

    # bf16 is twice as fast and gave the same tables within seeds, but by default
    # results must not depend on the processor that a study met (docs/decisions).
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="Precision of the matrix products in training; auto: bf16 where the processor "
        "has instructions for it; fp16: on a GPU only, with loss scaling. Parameters, scores, "
        "softmax, losses and optimiser are fp32 in any case.",
    )

    # The epoch that is kept.
    # ACMIL's code selects by f1_auc until October 2024, by f1_micro_auc since then
    # (its torchmetrics' default is micro). Of equal epochs the first is kept.
    select: Literal["loss", "f1_auc", "f1_micro_auc", "last"] = Field(
        "loss",
        description="Epoch that is kept; loss: smallest validation loss; f1_auc: largest macro-F1 "
        "+ AUROC; f1_micro_auc: largest micro-F1 + AUROC; last: the last.",
    )
    patience: int | None = Field(
        None,
        gt=0,
        description="Number of epochs without improvement of `select` after which training "
        "stops; the learning rate still falls as if for `epochs`; if unset, training never stops "
        "early.",
    )

    # Several trainings of one head.
    restarts: int = Field(
        1,
        gt=0,
        le=1000,
        description="Number of trainings from different initialisations; the one of least "
        "validation loss is kept.",
    )
    keep_within: float = Field(
        0.0,
        ge=0,
        description="Margin above the least validation loss, nats, within which other restarts "
        "are kept too and averaged; 0: only the best is kept.",
    )
    # 1 would leave nothing to train on, and is refused below.
    inner_folds: int = Field(
        0,
        ge=0,
        le=1000,
        description="Number of parts into which training and validation slides are divided "
        "together; heads are trained without each part, validated on it, and averaged; 0: the "
        "validation slides of the fold.",
    )

    # Scaling of the features.
    zscore: bool = Field(
        False,
        description="Standardisation of features by mean and standard deviation of the training "
        "tiles.",
    )
    whiten: int | None = Field(
        None,
        gt=0,
        description="Number of principal components of the training tiles to which features are "
        "reduced, each scaled to variance 1; if unset, features are used as they are.",
    )

    # Warm start. Another head's features are scaled as that head scales them: `mil.train.initial`.
    init: str = Field(
        "",
        description="Folder of a trained head of the same encoder, whose weights training starts "
        "from; its classifier too where the classes are the same; if empty, from random weights.",
    )
    init_frozen: bool = Field(
        False,
        description="Training of the classifier alone; all other weights stay those of `init`.",
    )

    auto: bool = Field(
        False,
        description="Planning of all settings that the recipe does not write, from facts about the "
        "training and validation slides; `train: auto` stands for `train: {auto: true}`.",
    )

    @property
    def scales_features(self) -> bool:
        """Whether features are scaled before a head, by what is saved with it."""
        return self.zscore or self.whiten is not None

    def scaled_dim(self, dim: int) -> int:
        """Number of features per tile after scaling.

        Args:
            dim: Number of features per tile of the bags.
        """
        return dim if self.whiten is None else min(self.whiten, dim)

    @model_validator(mode="after")
    def _check_one_scaling(self) -> Self:
        if self.zscore and self.whiten is not None:
            raise ValueError("zscore and whiten: choose one; whitened features are standardised")
        return self

    @model_validator(mode="after")
    def _check_frozen_has_init(self) -> Self:
        if self.init_frozen and not self.init:
            raise ValueError("init_frozen: needs init, the head whose weights stay fixed")
        return self

    @field_validator("inner_folds")
    @classmethod
    def _check_inner_folds(cls, inner_folds: int) -> int:
        if inner_folds == 1:
            raise ValueError("must be 0, or 2 or more")
        return inner_folds

    @field_validator("patience")
    @classmethod
    def _check_patience(cls, patience: int | None, info: ValidationInfo) -> int | None:
        if patience is not None and info.data.get("select") == "last":
            raise ValueError("must be empty where select is last")
        return patience


def _auto_as_section(value: Any) -> Any:
    """Let a recipe write `train: auto` for `train: {auto: true}`."""
    return {"auto": True} if value == "auto" else value


# The section as a recipe may write it.
WrittenTraining = Annotated[TrainConfig, BeforeValidator(_auto_as_section)]
