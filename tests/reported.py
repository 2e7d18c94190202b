"""A small study on disk, with names that are hostile to HTML, for tests of its report."""

import json
from pathlib import Path

import numpy as np

from mil.io.tables import write_csv
from mil.io.tiles import write_tiles
from tests.synthetic import bag_file, make_tiles

EVIL = "<script>alert('µ')</script>"
SLIDES = {  # slide: label, split, state
    "a 1#%": ("normal", "test", "ok"),
    "b": (EVIL, "test", "ok"),
    "c": ("normal", "train", "ok"),
    "d": (EVIL, "test", "no_tissue"),
    "e": ("normal", "train", "not reached"),
}
PROBABILITY = {
    "abmil": {"a 1#%": 0.125, "b": 0.875, "c": 0.25},
    "acmil": {"a 1#%": 0.625, "b": 0.375, "c": 0.5},
}


def make_study(tmp_path: Path) -> Path:
    """Five slides, of which three came through, evaluated with two recipes of two seeds."""
    quoted = EVIL.replace('"', '\\"')
    (tmp_path / "d.yaml").write_text(
        f'title: "A & B {quoted}"\nclasses: [normal, "{quoted}"]\nnotes: "see <b>here</b>"\n',
        encoding="utf-8",
    )
    rows = [
        {"slide": name, "patient": f"<i>p{name[0]}</i>", "label": label, "split": split}
        for name, (label, split, _) in SLIDES.items()
    ]
    write_csv(tmp_path / "d.csv", rows)
    for name, (_, _, state) in SLIDES.items():
        if state != "not reached":
            reason = "" if state == "ok" else f"nothing {EVIL} found"
            tiles = make_tiles(np.zeros((0, 2)), slide=name, state=state, reason=reason)
            write_tiles(tmp_path / "tile" / f"{name}.h5", tiles)
            (tmp_path / "tile" / "grid").mkdir(exist_ok=True)
            (tmp_path / "tile" / "grid" / f"{name}.jpg").touch()
        if state == "ok":
            bag_file(tmp_path / "features" / f"{name}.h5", name, np.ones((1, 4)))
    for recipe, values in PROBABILITY.items():
        metric = {"value": 0.75, "ci95": [0.5, 1.0]}
        test = {"auroc_macro": metric, "f1_macro": metric, "accuracy": {"value": 0.5, "ci95": None}}
        whole = {**test, "n_slides": 2, "n_patients": 2}
        tiles = {"tile_auroc_mean": 0.8125, "tile_auroc_min": 0.5, "n_slides": 1, "per_slide": {}}
        metrics = {
            "recipe": recipe,
            "encoder": "tiny",
            "dataset": "d",
            "task": "classification",
            "classes": ["normal", EVIL],
            "positive": EVIL,
            "localisation": tiles,
            "test": whole,
            "test_patients": whole,
            "runs": [{"seed": seed, "fold": 0, "n_slides": 2} for seed in (1, 2)],
            "over_runs": {"auroc_macro": {"mean": 0.6875, "sd": 0.0625}},
            "calibration": {
                "note": "Probabilities are not calibrated: too few validation slides (4).",
                "temperature": {"mean": 1.0, "sd": None},
                "threshold": {"mean": 0.25, "sd": 0.0},
                "before": {"brier": 0.2, "ece": 0.1},
                "after": {"brier": 0.2, "ece": 0.1},
                "reliability": [],
            },
        }
        folder = tmp_path / "evaluate" / recipe
        predictions = [
            {
                "slide": name,
                "patient": f"<i>p{name[0]}</i>",
                "split": SLIDES[name][1],
                "label": SLIDES[name][0],
                "p_normal": 1 - p - step,
                f"p_{EVIL}": p + step,
                "recipe": recipe,
                "encoder": "tiny",
                "seed": seed,
                "fold": 0,
                "threshold": 0.25,
            }
            for seed, step in ((1, -0.0625), (2, 0.0625))
            for name, p in values.items()
        ]
        write_csv(folder / "predictions.csv", predictions)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        pictures = tmp_path / "heatmap" / recipe
        pictures.mkdir(parents=True)
        for name in values:
            (pictures / f"{name}.png").touch()
    return tmp_path
