"""Facts about the data of a study in sentences, by name."""

from mil.report import flow_section, setup
from mil.report.composition import Composition
from mil.report.flow import Flow, count, flows_of
from mil.report.study_files import StudyFiles


def data_facts(study: StudyFiles, composed: Composition) -> dict[str, str]:
    """Sentences about slides, splits and features; empty where nothing is known.

    Args:
        study: The study.
        composed: Slides of each split.
    """
    flow = flows_of(study)[0]
    return {
        "data_source": _joined(study.settings.notes, _licence(study)),
        "task": _task(study),
        "flow": _flow(flow),
        "exclusions": _exclusions(flow),
        "missing": _missing(flow),
        "preprocessing": _joined(*setup.encoder_statements(study), _tiling(study)),
        "splits": _splits(flow),
        "partition": _joined(*flow_section.notes_of(flow), *composed.notes),
        "characteristics": _characteristics(composed),
        "outcomes": _outcomes(flow),
        "annotation": _annotations(study),
        "software": _software(),
    }


def _joined(*sentences: str) -> str:
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())


def _licence(study: StudyFiles) -> str:
    return f"Licence of the slides: {study.settings.licence}." if study.settings.licence else ""


def _task(study: StudyFiles) -> str:
    classes = ", ".join(study.task.classes)
    interest = f"; class of interest: {study.task.positive}" if study.task.positive else ""
    return f"{study.task.kind} of whole slides{f' into {classes}' if classes else ''}{interest}."


def _flow(flow: Flow) -> str:
    table, usable = flow.table, flow.usable
    return (
        f"{count(table.patients, 'patient')} with {count(table.slides, 'slide')} in the slide "
        f"table; {count(usable.patients, 'patient')} with {count(usable.slides, 'slide')} and "
        f"{count(usable.tiles or 0, 'tile')} have features."
    )


def _exclusions(flow: Flow) -> str:
    if not flow.excluded:
        return "No slide was excluded."
    parts = flow.exclusions
    return f"Not used: {'; '.join(parts)}."


def _missing(flow: Flow) -> str:
    lost = sum(len(exclusion.slides) for exclusion in flow.excluded)
    tiles = f" {count(flow.unreadable_tiles, 'unreadable tile')} were left out."
    return (
        f"Slides without features are left out of training and test ({lost:,}); nothing is "
        f"imputed.{tiles if flow.unreadable_tiles else ''}"
    )


def _tiling(study: StudyFiles) -> str:
    tile = study.config.get("tile")
    if not isinstance(tile, dict):
        return ""
    return (
        f"Tiles need at least {tile.get('min_tissue')} of their area in tissue; tissue regions "
        f"under {tile.get('min_area_mm2')} mm² are left out."
    )


def _splits(flow: Flow) -> str:
    if not flow.splits:
        return ""
    parts = [f"{split.title}: {', '.join(split.lines)}" for split in flow.splits]
    return f"{'; '.join(parts)}."


def _outcomes(flow: Flow) -> str:
    if flow.num_folds != 1:
        return ""
    parts = []
    for split in flow.splits:
        labels = ", ".join(f"{number:,} {label}" for label, number in split.labels[0].items())
        parts.append(f"{split.title}: {labels}" if len(split.labels[0]) <= 20 else "")
    return f"{'; '.join(part for part in parts if part)}." if any(parts) else ""


def _characteristics(composed: Composition) -> str:
    if not composed.properties:
        return ""
    return f"Table by split of {', '.join(one.name for one in composed.properties)}."


def _annotations(study: StudyFiles) -> str:
    if not any(slide.annotation for slide in study.slides):
        return ""
    number = sum(bool(slide.annotation) for slide in study.slides)
    return f"{count(number, 'slide')} with annotated regions, which no head was trained on."


def _software() -> str:
    versions = [f"{name} {text}" for name, text in setup.versions() if name != "stages"]
    return f"{', '.join(versions)}."
