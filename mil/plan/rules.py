"""Names that the workflow shares with what reads its log."""

# In the order of a study.
RULES = [
    "fetch",
    "tile",
    "features",
    "stream",
    "join",
    "bags",
    "split",
    "train",
    "score",
    "score_patients",
    "embed",
    "evaluate",
    "baseline",
    "card",
    "compare",
    "fewshot",
    "heatmap",
    "refine",
    "report",
]

# Attributes of the workflow's own messages: the slides of the jobs by rule; the last words.
SLIDES_RECORD = "mil_slides"
ENDING_RECORD = "mil_ending"


def stage_of(rule: str) -> str:
    """Name of the stage that a rule belongs to; its own for a rule that is not of a study.

    Args:
        rule: Name of the rule; `features_a_b` is `features` for the encoders `a` and `b`.
    """
    return next((name for name in (rule, rule.split("_")[0]) if name in RULES), rule)


def order_of(rule: str) -> tuple[int, str]:
    """Sort key of a rule: as in a study, other rules last."""
    stage = stage_of(rule)
    return (RULES.index(stage) if stage in RULES else len(RULES), rule)
