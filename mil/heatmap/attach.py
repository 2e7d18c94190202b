"""The script that attaches the heatmaps of a study to the images of a QuPath project."""

from pathlib import Path

from mil.io.atomic import write_text

SCRIPT = "attach_heatmaps.groovy"
_SOURCE = Path(__file__).with_name(SCRIPT)


def write_script(path: Path) -> None:
    """Write the script; one that is the same stays, since jobs of a study all write it."""
    text = _SOURCE.read_text(encoding="utf-8")
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)
