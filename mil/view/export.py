"""The page of one slide as one self-contained file."""

from pathlib import Path

from mil.view.shown import Shown


def export_slide(shown: Shown, slide: str, out: Path) -> None:
    """Placeholder."""
    raise NotImplementedError
