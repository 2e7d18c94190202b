"""Section of the report: the flow diagram and the sentences below it."""

from mil.errors import some
from mil.report.flow import Flow, count, flows_of
from mil.report.flow_svg import flow_svg
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles


def section(study: StudyFiles) -> PageSection:
    """Diagram for each encoder whose counts differ from those of the ones before."""
    flows = flows_of(study)
    return PageSection(
        "flow",
        "Flow of patients, slides and tiles",
        {
            "diagrams": [(flow.title, flow_svg(flow)) for flow in flows],
            "several": len(flows) > 1,
            "notes": notes_of(flows[0]),
        },
    )


def notes_of(flow: Flow) -> list[str]:
    """Sentences below the diagram."""
    notes = [
        f"{exclusion.state}{': ' if exclusion.reason else ''}{exclusion.reason} "
        f"({some(exclusion.slides)})."
        for exclusion in flow.excluded
    ]
    lost = sum(exclusion.patients_lost for exclusion in flow.excluded)
    if lost:
        notes.append(f"{count(lost, 'patient')} without any usable slide left the study.")
    if flow.num_folds > 1:
        tested = next((split.union for split in flow.splits if split.name == "test"), None)
        if tested is not None:
            notes.append(
                f"Cross-validation with {flow.num_folds} folds: over all folds "
                f"{count(tested.slides, 'slide')} of {count(tested.patients, 'patient')} are test "
                "slides once or more. In each fold the slides of a patient are in one split."
            )
    elif flow.splits:
        notes.append("The slides of a patient are in one split.")
    return notes
