"""Names of slide encoders: what makes one vector of a slide's tiles."""

from collections.abc import Sequence

from mil.errors import ConfigError

# Slide encoders without weights: statistics of the tiles' features.
STATISTICS = ("mean", "mean_std")
# Published ones, which are refused with a reason (docs/reference/slide-vectors.md).
PUBLISHED = ("titan", "prism", "gigapath", "chief", "madeleine")


def check_slide_encoder(name: str) -> None:
    """Refuse a published slide encoder, which mil does not have.

    Raises:
        ConfigError: It is one, in one line with a remedy.
    """
    if name.lower() in PUBLISHED:
        raise ConfigError(
            f"slide_encoder {name}: is not built in, since its weights could not be compared with "
            f"their authors' code here (docs/reference/slide-vectors.md); use one of "
            f"{', '.join(STATISTICS)}, or a recipe of `head`"
        )


def check_slide_encoders(names: Sequence[str], recipes: Sequence[str]) -> None:
    """Check the slide encoders of a run.

    Args:
        names: Slide encoders.
        recipes: Recipes of the run, whose heads are trained.

    Raises:
        ConfigError: One is neither a statistic of the tiles nor a recipe of the run.
    """
    for name in names:
        check_slide_encoder(name)
        if name not in STATISTICS and name not in recipes:
            raise ConfigError(
                f"config: slide_encoder: {name} is neither one of {', '.join(STATISTICS)} nor a "
                f"recipe of this run (head: {', '.join(recipes)}); add it to head, so that its "
                "heads are trained"
            )
