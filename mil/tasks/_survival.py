"""Parts that both survival tasks share."""

from collections.abc import Sequence

from mil.config.labels import Survival, survival_of
from mil.errors import DatasetError


def seen_events(labels: Sequence[str]) -> list[Survival]:
    """Labels with an event.

    Raises:
        DatasetError: all labels are censored.
    """
    events = [followed for followed in map(survival_of, labels) if followed.event]
    if not events:
        raise DatasetError(
            f"all {len(labels)} training slides are censored; survival cannot be learnt without "
            "events"
        )
    return events
