"""Heads that are fitted to all training bags at once: what they are fitted to, and by what.

Rows are standardised by the training bags. The strength of a probe, such as the inverse
penalty C of the linear one, is the one of least loss on bags of patients left out.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# Logits and targets to the loss of each bag.
BagLoss = Callable[[Tensor, Tensor], Tensor]
# The gradient of a mean over bags at which a fit ends, and its largest number of steps.
GRADIENT_TOLERANCE = 1e-7
MAX_STEPS = 2000


class Division(NamedTuple):
    """Training bags divided by patient: indices of those to fit to, and of those left out."""

    fit: Sequence[int]
    left_out: Sequence[int]


class FitProblem(NamedTuple):
    """What a head is fitted to.

    Attributes:
        targets: Target of each training bag.
        loss: Loss of the task for each bag, of logits and targets.
        divisions: Nested folds of the training bags; none where there are too few
            patients.
    """

    targets: Shaped[Tensor, "bags ..."]
    loss: BagLoss
    divisions: Sequence[Division]


class LinearFit(NamedTuple):
    """Weights and bias, float64."""

    weight: Float[Tensor, "outputs width"]
    bias: Float[Tensor, " outputs"]

    def logits(self, rows: Float[Tensor, "bags width"]) -> Float[Tensor, "bags outputs"]:
        """Logits of rows."""
        return rows @ self.weight.T + self.bias


def standardisation(
    rows: Float[Tensor, "bags width"],
) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Mean and standard deviation of rows; 1 for a column without variance."""
    deviation = rows.std(0, correction=0)
    # Rounding of a constant is no variance.
    smallest = rows.abs().amax(0) * 1e-6
    return rows.mean(0), torch.where(deviation > smallest, deviation, 1.0)


def least_left_out(
    losses: Float[np.ndarray, "divisions strengths"],
) -> tuple[int, float]:
    """Index of the strength of least loss over the divisions, and that loss; ties: the first.

    Args:
        losses: Sum of the losses of the bags left out, by division and strength.
    """
    totals = losses.sum(0)
    best = int(totals.argmin())
    return best, float(totals[best])


def fit_linear(
    rows: Float[Tensor, "bags width"],
    targets: Shaped[Tensor, "bags ..."],
    loss: BagLoss,
    outputs: int,
    strengths: Sequence[float],
) -> list[LinearFit]:
    """Linear maps of least ``|W|² / 2 + C sum_i loss_i``, one for each C.

    The problem of scikit-learn's LogisticRegression, by the solver that it uses (L-BFGS),
    for the loss of any task: its ridge regression has ``alpha = 1 / (2 C)``, its logistic
    regression of two classes, which has one row of weights, twice this C. The bias is not
    penalised.

    Args:
        rows: Standardised rows, float64.
        targets: Target of each.
        loss: Convex loss of each bag.
        outputs: Number of outputs.
        strengths: Values of C, rising: each fit starts from the one before.
    """
    # Here: other heads train without SciPy, which is slow to import.
    from scipy.optimize import minimize

    # Weights lie in the span of the rows: as many numbers as bags, not as features.
    left, singular, right = torch.linalg.svd(rows, full_matrices=False)
    reduced = left * singular
    width = reduced.shape[1]
    start = np.zeros(outputs * (width + 1))
    fits = []
    for strength in strengths:
        penalty = 1 / (strength * len(rows))
        with torch.enable_grad():
            solution = minimize(
                _objective,
                start,
                (reduced, targets, loss, penalty),
                jac=True,
                method="L-BFGS-B",
                options={"gtol": GRADIENT_TOLERANCE, "ftol": 1e-14, "maxiter": MAX_STEPS},
            )
        start = solution.x
        numbers = torch.from_numpy(solution.x.copy()).view(outputs, width + 1)
        fits.append(LinearFit(numbers[:, :width] @ right, numbers[:, width]))
    return fits


def _objective(
    values: np.ndarray, rows: Tensor, targets: Tensor, loss: BagLoss, penalty: float
) -> tuple[float, np.ndarray]:
    """Mean loss and penalty of weights and biases laid end to end, and the gradient."""
    width = rows.shape[1]
    numbers = torch.from_numpy(values).view(-1, width + 1).requires_grad_()
    weight = numbers[:, :width]
    logits = rows @ weight.T + numbers[:, width]
    mean = loss(logits, targets).mean() + 0.5 * penalty * weight.square().sum()
    (gradient,) = torch.autograd.grad(mean, numbers)
    return float(mean.detach()), gradient.numpy().ravel()
