"""The undisturbed run that all others are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.moments import STAGES, paths_of
from tests.chaos.results import File, files_of, left_behind
from tests.chaos.study import Study, new_study

# Of a seed's training the checkpoint stays until the last seed's: there is one to damage.
# Pictures of two slides are as good as those of eight, and take a fourth of the time.
CONFIG = ("dataset=demo_mini", "head=abmil", "seeds=2", "heatmap={slides: test}")


@dataclass
class Undisturbed:
    """Results of an undisturbed run.

    Attributes:
        slides: Study that has its slides and nothing else.
        end: Study after its run.
        files: Files of results and data at the end.
        num_files: Number of files that each stage writes.
        kilobytes: Size of all that the run wrote.
    """

    slides: Study
    end: Study
    files: Mapping[str, File]
    num_files: Mapping[str, int]
    kilobytes: int


class DisturbedError(Exception):
    """The run that should be undisturbed is not."""


def run_undisturbed(folder: Path) -> Undisturbed:
    """Run the demo at one go; a run that is there from before is taken as it is.

    Args:
        folder: Folder for the study with its slides, and for its run.

    Raises:
        DisturbedError: The run fails, or leaves something behind.
    """
    slides = Study(folder / "slides", CONFIG)
    end = Study(folder / "whole", CONFIG)
    if not (end.folder / "results/demo_mini/report.html").exists():
        new_study(slides.folder)
        slides.copied(end.folder)
        code, shown = end.run()
        if code:
            raise DisturbedError(f"the undisturbed run ends with {code}:\n{shown}")
    if left := left_behind(end):
        raise DisturbedError("\n".join(left))
    files = files_of(end)
    num_files = {stage: len(set(paths_of(end, stage))) for stage in STAGES}
    written = [end.folder / name for name in files_of(end, "results", "logs", ".snakemake")]
    kilobytes = sum(-(-path.stat().st_size // 4096) * 4 for path in written)
    return Undisturbed(slides, end, files, num_files, kilobytes)
