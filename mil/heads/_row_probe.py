"""Linear classifier of a bag's row, fitted at once: the row differs between heads."""

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mil.bags import Bags, HeadOutput
from mil.config import Section
from mil.heads._at_once import Division, FitProblem, fit_linear, least_left_out, standardisation
from mil.heads._precision import Classifier
from mil.heads._stream import PoolsTiles

# Values of C that are tried: rows of a thousand standardised features are separated by
# weights so small that the least of them counts.
STRENGTHS = tuple(10.0**exponent for exponent in range(-6, 3))
# C without patients to leave out, that of scikit-learn.
DEFAULT_STRENGTH = 1.0


class RowProbeConfig(Section):
    """Options of heads that classify a row linearly."""

    c: float | None = Field(
        None,
        gt=0,
        description="Inverse of the penalty on the weights, C of scikit-learn; if unset, the one "
        "of 0.000001 to 100 that has the least loss on patients left out of the training slides.",
    )


class RowProbe(PoolsTiles):
    """Standardise a bag's row, map it linearly: `mil.heads.FitsAtOnce`.

    Args:
        config: Options.
        width: Length of a row.
        classes: Number of outputs.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: RowProbeConfig, width: int, classes: int) -> None:
        super().__init__()
        self.strength = config.c
        # Buffers: not trained, but saved with the head.
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.classify = Classifier(width, classes)

    def row(self, pooled: Float[Tensor, "bags 1 hidden"]) -> Float[Tensor, "bags width"]:
        """Row of each bag, from what was pooled."""
        return pooled[:, 0]

    def rows(self, bags: Bags) -> Float[Tensor, "bags width"]:
        """See `mil.heads.FitsAtOnce`."""
        return self.row(self.pool(bags).rows)

    def predict(self, pooled: Tensor, scores: Tensor) -> HeadOutput:
        """Logits of the standardised row."""
        row = (self.row(pooled) - self.mean) / self.deviation
        return HeadOutput(self.classify(row), scores)

    @torch.no_grad()
    def fit_rows(self, rows: Float[Tensor, "bags width"], problem: FitProblem) -> str:
        """See `mil.heads.FitsAtOnce`."""
        strength, line = self._strength(rows, problem)
        mean, deviation = standardisation(rows)
        outputs = self.classify.out_features
        scaled = (rows - mean) / deviation
        (fit,) = fit_linear(scaled, problem.targets, problem.loss, outputs, [strength])
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.classify.weight.copy_(fit.weight)
        self.classify.bias.copy_(fit.bias)
        return line

    def _strength(self, rows: Tensor, problem: FitProblem) -> tuple[float, str]:
        """C, and a line about where it comes from."""
        if self.strength is not None:
            return self.strength, f"C {self.strength:g}, as the recipe says"
        if not problem.divisions:
            line = f"C {DEFAULT_STRENGTH:g}, for too few patients to leave some out"
            return DEFAULT_STRENGTH, line
        losses = [self._left_out_losses(rows, problem, each) for each in problem.divisions]
        best, total = least_left_out(np.array(losses))
        mean = total / sum(len(each.left_out) for each in problem.divisions)
        count = len(problem.divisions)
        line = f"C {STRENGTHS[best]:g}, of least loss ({mean:.4f}) over {count} nested folds"
        return STRENGTHS[best], line

    def _left_out_losses(
        self, rows: Tensor, problem: FitProblem, division: Division
    ) -> list[float]:
        """Sum of the losses of bags left out, for each of `STRENGTHS`."""
        fit, left_out = list(division.fit), list(division.left_out)
        # Their mean and deviation too are of the bags that are fitted to.
        mean, deviation = standardisation(rows[fit])
        scaled = (rows - mean) / deviation
        fits = fit_linear(
            scaled[fit], problem.targets[fit], problem.loss, self.classify.out_features, STRENGTHS
        )
        targets = problem.targets[left_out]
        return [float(problem.loss(one.logits(scaled[left_out]), targets).sum()) for one in fits]
