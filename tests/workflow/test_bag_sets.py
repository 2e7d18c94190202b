"""From the hub to a trained head in two commands, without a slide and without a GPU."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.interop.hub import REPOSITORY, hub  # noqa: F401  a fixture
from tests.interop.layouts import bags
from tests.synthetic import planted_bags

RECIPE = """name: abmil
options: {hidden: 16, attention: 8, dropout: 0}
losses: {cross_entropy: 1}
train: {epochs: 40, lr: 0.01, weight_decay: 0, select: last}
"""
ENTRY = {
    "title": "Planted set",
    "repository": REPOSITORY,
    "layout": "clam",
    "features": "pt_files/{slide}.pt",
    "encoder": "stranger.v2",
    "dim": 4,
    "dataset": "toy",
    "licence": "CC0-1.0",
    "citation": "Nobody, 2026",
}


def saved(features: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(features), buffer)
    return buffer.getvalue()


@pytest.mark.slow
def test_a_head_is_trained_on_fetched_bags_in_one_further_command(study, hub, monkeypatch):  # noqa: F811
    (study.folder / "bin/mil").unlink()
    study.path = f"{Path(sys.executable).parent}:{study.path}"
    rows = ["slide,label,split"]
    for number, (features, label) in enumerate(planted_bags(12, 9, dim=4, push=20)):
        split = ("test", "val", "train", "train", "train", "train")[number // 2]
        rows.append(f"s{number:02},{('normal', 'tumour')[label]},{split}")
        hub.files[f"pt_files/s{number:02}.pt"] = saved(features)
    (study.folder / "configs/datasets/toy.csv").write_text("\n".join(rows) + "\n")
    (study.folder / "configs/heads").mkdir()
    (study.folder / "configs/heads/quick.yaml").write_text(RECIPE)
    (study.folder / "configs/bag_sets.yaml").write_text(yaml.safe_dump({"planted": ENTRY}))
    monkeypatch.chdir(study.folder)
    code, text = bags("fetch", "planted")
    assert code == 0, text
    assert text.endswith("now: snakemake --cores all --config dataset=planted\n")

    options = ["head=quick", "heatmap={slides: test}", "slides_per_job={score: 64}"]
    done = study.snakemake("--config", "dataset=planted", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    evaluated = study.folder / "results/planted/evaluate/unknownpx_unknownmpp/stranger.v2/quick"
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["test"]["n_slides"] == 2
    assert metrics["test"]["auroc"]["value"] == 1.0
    assert not (study.folder / "results/planted/tile").exists()
    assert not (study.folder / "results/planted/features").exists()
