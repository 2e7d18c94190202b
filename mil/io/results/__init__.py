"""Results: predictions.csv, metrics.json and comparison.json, written and read here only.

Each is a frozen model that is checked when it is read. A file that is read and written
again has the same bytes.
"""

from mil.io.localisation import Localisation
from mil.io.results.comparison import (
    COMPARISON,
    AgainstBaseline,
    ComparedHead,
    Comparison,
    Pair,
    PairedTests,
    Table,
    read_comparison,
    write_comparison,
)
from mil.io.results.evaluation import (
    BRANCHES,
    METRICS,
    PATIENTS,
    PREDICTIONS,
    Evaluation,
    read_evaluation,
    write_evaluation,
)
from mil.io.results.json_file import using_results
from mil.io.results.metrics import (
    CalibrationMetrics,
    Jaccard,
    Metrics,
    Number,
    RunMetrics,
    SelectionMetrics,
    SetMetrics,
    read_metrics,
    write_metrics,
)
from mil.io.results.predictions import Prediction, read_predictions, write_predictions
from mil.statistics.metric import Metric, Spread

__all__ = [
    "BRANCHES",
    "COMPARISON",
    "METRICS",
    "PATIENTS",
    "PREDICTIONS",
    "AgainstBaseline",
    "CalibrationMetrics",
    "ComparedHead",
    "Comparison",
    "Evaluation",
    "Jaccard",
    "Localisation",
    "Metric",
    "Metrics",
    "Number",
    "Pair",
    "PairedTests",
    "Prediction",
    "RunMetrics",
    "SelectionMetrics",
    "SetMetrics",
    "Spread",
    "Table",
    "read_comparison",
    "read_evaluation",
    "read_metrics",
    "read_predictions",
    "using_results",
    "write_comparison",
    "write_evaluation",
    "write_metrics",
    "write_predictions",
]
