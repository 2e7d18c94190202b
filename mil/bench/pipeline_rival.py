"""The pipeline as one script over other packages: hs2p, timm in float32, torchmil's ABMIL.

It imports nothing of `mil` and runs in a process of its own: python -m mil.bench.pipeline_rival
WEIGHTS SLIDES OUT, where SLIDES is a csv of slide, path, label and split.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from hs2p import SegmentationConfig, SlideSpec, TilingConfig, tile_slide
from hs2p.tiling.result import TilingResult
from openslide import OpenSlide
from PIL import Image
from torch import Tensor
from torchmil.models import ABMIL

TILE_PX = 224
MPP = 0.5
BATCH = 16
# Smallest share of tissue in a tile, as ours.
MIN_TISSUE = 0.25
EPOCHS = 50
OVERVIEW_PX = 1200
OPACITY = 0.55


def build_encoder(weights: str) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """The encoder with its weights, and mean and standard deviation of its pixels."""
    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stored = torch.load(weights, weights_only=True)
    # The file names its tensors otherwise; their order is the same.
    model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    model.reset_classifier(0)
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    return model.eval(), mean, std


def lay_tiles(path: Path) -> TilingResult:
    """Tiles on the tissue of a slide."""
    tiling = TilingConfig(
        backend="openslide",
        requested_spacing_um=MPP,
        requested_tile_size_px=TILE_PX,
        tolerance=0.07,
        overlap=0.0,
    )
    spec = SlideSpec(sample_id=path.stem, image_path=path)
    return tile_slide(
        spec, tiling=tiling, segmentation=SegmentationConfig(method="hsv", downsample=16)
    )


def corners_of(tiles: TilingResult) -> np.ndarray:
    """Corners of the tiles with enough tissue, level-0 pixels, int [tiles, 2]."""
    return np.stack([tiles.x, tiles.y], axis=1)[tiles.tissue_fractions >= MIN_TISSUE]


@torch.no_grad()
def embed(
    path: Path, tiles: TilingResult, encoder: tuple[torch.nn.Module, Tensor, Tensor]
) -> Tensor:
    """Features of the tiles, float32 [tiles, dim]."""
    model, mean, std = encoder
    features = []
    size = (tiles.read_tile_size_px,) * 2
    with OpenSlide(path) as slide:
        corners = [(x, y) for x, y in corners_of(tiles).tolist()]
        for start in range(0, len(corners), BATCH):
            images = [
                slide.read_region(corner, tiles.read_level, size)
                .convert("RGB")
                .resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
                for corner in corners[start : start + BATCH]
            ]
            pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
            features.append(model((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std))
    return torch.cat(features)


def train(bags: list[Tensor], labels: list[float], splits: list[str]) -> ABMIL:
    """The head of the epoch with the least validation loss."""
    torch.manual_seed(1)
    dim = bags[0].shape[1]
    layer = torch.nn.Sequential(torch.nn.Linear(dim, dim // 2), torch.nn.ReLU())
    head = ABMIL(in_shape=(dim,), gated=True, feat_ext=layer)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-4, weight_decay=1e-5)
    best, kept = float("inf"), head.state_dict()
    for _ in range(EPOCHS):
        losses = []
        for bag, label, split in zip(bags, labels, splits, strict=True):
            if split == "test":
                continue
            with torch.set_grad_enabled(split == "train"):
                logit = head(bag[None])
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    logit, torch.tensor([label])
                )
            if split == "train":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            else:
                losses.append(float(loss))
        if np.mean(losses) < best:
            best = float(np.mean(losses))
            kept = {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    return head


def draw(path: Path, tiles: TilingResult, attention: np.ndarray, out: Path) -> None:
    """The slide with the rank of each tile's attention laid over it."""
    with OpenSlide(path) as slide:
        image = slide.get_thumbnail((OVERVIEW_PX, OVERVIEW_PX)).convert("RGB")
        scale = slide.dimensions[0] / image.width
    pixels = np.asarray(image).astype(np.float32)
    ranks = attention.argsort().argsort() / max(len(attention) - 1, 1)
    side = tiles.tile_size_lv0 / scale
    for (x, y), rank in zip(corners_of(tiles) / scale, ranks, strict=True):
        window = pixels[round(y) : round(y + side), round(x) : round(x + side)]
        window *= 1 - OPACITY
        window += OPACITY * 255 * np.array([rank, 0.2, 1 - rank])
    Image.fromarray(pixels.astype(np.uint8)).save(out)


def main(weights: str, slides: str, out: str) -> None:
    """Slides of a csv to a heatmap of each in a folder."""
    with Path(slides).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    paths = [Path(row["path"]) for row in rows]
    encoder = build_encoder(weights)
    tilings = [lay_tiles(path) for path in paths]
    bags = [embed(path, tiles, encoder) for path, tiles in zip(paths, tilings, strict=True)]
    labels = [float(row["label"] == "tumour") for row in rows]
    head = train(bags, labels, [row["split"] for row in rows]).eval()
    Path(out).mkdir(parents=True, exist_ok=True)
    for path, tiles, bag in zip(paths, tilings, bags, strict=True):
        with torch.no_grad():
            _, scores = head(bag[None], return_att=True)
        draw(path, tiles, scores[0].softmax(0).numpy(), Path(out) / f"{path.stem}.png")
    print(sum(map(len, bags)))


if __name__ == "__main__":
    main(*sys.argv[1:])
