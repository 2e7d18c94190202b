"""The baseline of a study: a probe that is fitted at once and compared with every head."""

from mil.config.recipes import load_recipe
from mil.errors import ConfigError

# Heads that can be one: nothing of them is trained in steps, so that a job of seconds
# fits, scores and evaluates them.
HEADS = ("linear_probe", "knn")


def check_baseline(recipe: str) -> None:
    """Refuse a recipe that is not fitted at once.

    Args:
        recipe: Name of a recipe.

    Raises:
        ConfigError: Its head is trained, or there is no such recipe.
    """
    head = load_recipe(recipe).name
    if head not in HEADS:
        raise ConfigError(
            f"config: baseline: {recipe} has head {head}, which is trained; name it in `head`, and "
            f"as baseline a recipe of {' or '.join(HEADS)}, or none"
        )
