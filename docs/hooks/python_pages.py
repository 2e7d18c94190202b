"""The Python reference: a page of the public names, and one for each package of nouns."""

from collections.abc import Iterator

import mil

PUBLIC_HEAD = """# Python

`import mil` offers these names. Each is imported when it is first used.
[From Python](../start/notebook.md) shows them at work, in code that is executed.
"""
PUBLIC_ORDER = {
    "Slides and tiles": ("open_slide", "SlideReader", "tile_slide", "read_tiles", "Tiles"),
    "Features and bags": ("extract_features", "read_bag", "write_bag", "Bag", "collate", "Bags"),
    "Heads": ("load_head", "TrainedHead", "score_bag", "SlideScore", "build_head", "HeadOutput"),
    "Results": ("read_scores", "BagScores", "read_evaluation", "Evaluation"),
    "Names and settings": ("head_names", "load_encoders", "load_recipe", "MilError"),
}
# What a notebook needs of a large class; all members are on the page of its package.
SHOWN_MEMBERS = {"SlideReader": ("size_px", "resolution", "read", "read_box")}
# Modules that people read or build on, by page. A package is documented by its own names
# and those of the modules named here.
PACKAGES = {
    "heads": ("mil.bags", "mil.heads", "mil.losses.terms"),
    "files": (
        "mil.io.tiles",
        "mil.io.bags.content",
        "mil.io.bags.file",
        "mil.io.scores.content",
        "mil.io.scores.read",
        "mil.io.scores.write",
        "mil.io.scores.sources",
        "mil.io.results.evaluation",
        "mil.io.results.predictions",
        "mil.io.results.metrics",
        "mil.io.results.comparison",
        "mil.io.h5",
        "mil.io.atomic",
    ),
    "slides": ("mil.io.slides.reader", "mil.io.slides.resolution", "mil.io.slides.stream"),
    "config": (
        "mil.config.base",
        "mil.config.run",
        "mil.config.stages",
        "mil.config.recipes",
        "mil.config.losses",
        "mil.config.training",
        "mil.config.heads",
        "mil.config.encoders",
    ),
    "statistics": (
        "mil.statistics.delong",
        "mil.statistics.bootstrap",
        "mil.statistics.intervals",
        "mil.statistics.calibration",
        "mil.statistics.scaling",
        "mil.statistics.threshold",
        "mil.statistics.multiple",
        "mil.statistics.power",
    ),
    "kernels": (
        "mil.kernels",
        "mil.kernels.attn_pool",
        "mil.kernels.gated_scores",
        "mil.kernels.gated_attn_pool",
        "mil.kernels.neighbour_attn",
        "mil.kernels.bag_attn",
        "mil.kernels.window_attn",
        "mil.kernels.topk_mask",
    ),
    "errors": ("mil.errors",),
}


def python_pages() -> Iterator[tuple[str, str]]:
    """Path under docs/ and content of each page."""
    yield "reference/python.md", _public()
    for name, modules in PACKAGES.items():
        blocks = "\n".join(f"::: {module}\n" for module in modules)
        yield f"reference/python/{name}.md", f"# {name.capitalize()}\n\n{blocks}"


def _public() -> str:
    ordered = {name for names in PUBLIC_ORDER.values() for name in names}
    if ordered != set(mil.PUBLIC):
        raise ValueError(f"public names without a section: {sorted(ordered ^ set(mil.PUBLIC))}")
    parts = [PUBLIC_HEAD]
    for heading, names in PUBLIC_ORDER.items():
        parts.append(f"## {heading}\n")
        parts += [_block(name) for name in names]
    return "\n".join(parts)


def _block(name: str) -> str:
    """Instruction to document one public name, at the place of its definition."""
    # What a private module defines is documented as a name of its package.
    module = getattr(mil, name).__module__.partition("._")[0]
    options = [f"heading: mil.{name}", f"toc_label: {name}"]
    if any(module in modules for modules in PACKAGES.values()):
        # References to the name lead to the page of its package, which has it too.
        options.append("skip_local_inventory: true")
    if name in SHOWN_MEMBERS:
        options.append(f"members: [{', '.join(SHOWN_MEMBERS[name])}]")
    return "\n".join([f"::: {module}.{name}", "    options:", *(f"      {o}" for o in options), ""])
