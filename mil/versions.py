"""Version numbers of the tool and of the output of each stage."""

TOOL_VERSION = "0.1.0"

# Raise a number when the stage's output changes: the workflow then recomputes its
# files, and all that follow from them.
STAGE_VERSION = {
    "fetch": 1,
    "tile": 3,
    "features": 4,
    "join": 1,
    "split": 2,
    "train": 5,
    "score": 3,
    "embed": 1,
    "evaluate": 8,
    "compare": 2,
    "fewshot": 1,
    "heatmap": 9,
    "refine": 1,
    "card": 4,
    "report": 8,
}
