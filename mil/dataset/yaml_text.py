"""Yaml of a new dataset, every key explained in it."""

import json
from pathlib import Path

YAML = """\
# Made by `mil dataset init {name}` from {sheet}.
# The slide table is {name}.csv beside this file; both may be edited by hand.
#
# title: title of the dataset in the report
# task: kind of label: classification (default), multilabel, ordinal, regression,
#   survival_discrete or survival_cox
# classes: the labels, in the order of the head's outputs; empty where labels are numbers
# positive: class of interest for sensitivity and heatmaps
# intervals, ends: number of time intervals of survival_discrete, or their ends
# slides_dir: folder of the slides; `--config slides_dir=DIR` overrides it
# bags: folder of precomputed bags; `--config bags=DIR` overrides it
# columns: our column name: its name in the csv, where they differ
# slide_paths: patterns of the path of a slide whose row has none, such as "{{slide}}.svs"
# annotation_paths: patterns of the path of an annotation whose row has none
# annotation_classes: classes of annotations that are the positive region; default: those named
#   like it
# incomplete_annotations: slides whose annotation leaves out some of the positive region
# tissue_paths, region_paths: patterns of your own masks; default: tissue/ and region/ in the
#   slides' folder
# geojson_frame: origin of GeoJSON: "scanned" part of the slide, as in QuPath, or the whole "slide"
# size, get: size of the slides and how to get them, for the message that they are missing
# licence, notes: for later users
title: {title}
task: {task}
classes: {classes}
positive: {positive}
slides_dir: {slides_dir}
columns: {{}}
slide_paths: ["{{slide}}"]
annotation_paths: []
size: ""
get: ""
licence: ""
notes: ""
"""


def yaml_text(
    name: str, labels: Path, task: str, classes: list[str], positive: str, slides_dir: Path
) -> str:
    """Text of the yaml.

    Args:
        name: Name of the dataset, which is its title too.
        labels: Spreadsheet that it was made from.
        task: Name of the task.
        classes: Names of the classes in order; empty where labels are numbers.
        positive: Class of interest; empty where there are no classes.
        slides_dir: Folder of the slides.
    """
    values = {
        "title": name,
        "task": task,
        "classes": classes,
        "positive": positive or None,
        "slides_dir": str(slides_dir),
    }
    # JSON is YAML, and its quotes keep `0` and `no` strings.
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return YAML.format(name=name, sheet=labels.name, **quoted)
