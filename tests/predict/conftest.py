"""A folder to predict in: a small encoder, a slide with tissue, and heads for it."""

from pathlib import Path

import pytest
import torch
import yaml

from mil.config import EncoderConfig, Recipe
from mil.encoders.build import build_encoder
from mil.heads import build_head
from mil.tasks import Classification
from mil.trained import Trained, save_trained
from tests.synthetic import tissue_slide

ENTRY = {
    "timm": "test_resnet",
    "dim": 96,
    "tile_px": 64,
    "mpp": 0.5,
    "weights": "random",
    "licence": "ours",
}


@pytest.fixture(scope="session")
def weights_sha256() -> str:
    entry = EncoderConfig(**ENTRY)
    built = build_encoder("tiny", entry, tile_px=64, device=torch.device("cpu"), precision="fp32")
    return built.identity["weights_sha256"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "encoders.yaml").write_text(yaml.safe_dump({"tiny": ENTRY}))
    settings = {"tile": {"min_tissue": 0.6}, "features": {"batch_size": 5, "precision": "fp32"}}
    (tmp_path / "configs" / "config.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    tissue_slide(tmp_path / "a.tif", (2048, 1536), 0.25)  # 48 tiles on tissue
    return tmp_path


@pytest.fixture
def make_head(place, weights_sha256):
    def make(name: str = "heads/one", seed: int = 1, head: str = "abmil", **changes) -> Path:
        torch.manual_seed(seed)
        recipe = Recipe(name=head, options={}, losses={"cross_entropy": 1})
        said = {
            "recipe_name": head,
            "recipe": recipe,
            "encoder": "tiny",
            "weights_sha256": weights_sha256,
            "fold": 0,
            "tiling": "64px_0.5mpp",
            "dim": 96,
            "dataset": "d",
            "seed": seed,
            "epoch": 1,
            "task": Classification(classes=["normal", "tumour"], positive="tumour"),
        }
        trained = Trained(**{**said, **changes})
        built = build_head(head, {}, dim=trained.dim, classes=2)
        for weight in built.parameters():
            weight.data *= 4  # so that attention and answers are far from even
        save_trained(place / name, trained, built.state_dict(), {})
        return place / name

    return make
