"""How long until an event, by comparing slides: whose came first among those who were still there."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mil.config import DatasetConfig
from mil.config.labels import survival_of
from mil.tasks.shared import OfNumbers, refuse_balance
from mil.tasks.survival_discrete import seen_events


class SurvivalCox(OfNumbers):
    """Cox's proportional hazards; the logit is the logarithm of the risk, against nothing in particular.

    As a loss of a network: Faraggi and Simon 1995; Katzman et al. 2018,
    https://arxiv.org/abs/1606.00931. Slides are compared with those of the same step,
    so a step needs several.
    """

    answer: ClassVar[str] = "log_risk"  # larger: sooner
    kind: Literal["survival_cox"] = "survival_cox"

    @classmethod
    def fitted(cls, dataset: DatasetConfig, labels: Sequence[str], balanced: bool) -> "SurvivalCox":
        """The task of a dataset; see `mil.tasks.fit_task`.

        Raises:
            DatasetError: no event is among the training slides.
            ConfigError: it was to be balanced.
        """
        refuse_balance(dataset, balanced)
        seen_events(labels)
        return cls()

    @property
    def least_bags(self) -> int:
        """Two, to be compared."""
        return 2

    def target(self, label: str) -> Float[Tensor, " 2"]:
        """Time, and 1 if the event came then, 0 if censored."""
        return torch.tensor(survival_of(label), dtype=torch.float32)

    def loss(
        self, logits: Float[Tensor, "n outputs"], targets: Float[Tensor, "n 2"]
    ) -> Float[Tensor, " n"]:
        """Minus the logarithm of the partial likelihood, Breslow's for ties; 0 of censored bags. Nats.

        The risk set of a bag with an event is the bags of the batch whose time is not
        less. A bag alone gives 0.
        """
        order = targets[:, 0].argsort(descending=True)
        time = targets[order, 0]
        event = targets[order, 1]
        log_risk = logits[order, 0]
        last = torch.searchsorted(-time, -time, right=True) - 1  # of those with the same time
        at_risk = log_risk.logcumsumexp(0)[last]
        return torch.zeros_like(log_risk).index_copy(0, order, (at_risk - log_risk) * event)

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """The logarithm of the risk."""
        return logits
