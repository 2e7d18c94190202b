"""200 slides, half of them damaged in a dozen ways: each ends in its state and harms no other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from mil.config import EncoderConfig, FeaturesConfig, TileConfig
from mil.features import stage as features_stage
from mil.io.bags.status import gather, summary
from mil.tile import stage as tile_stage
from tests.synthetic import glass, tissue_slide, write_slide

SIZE = (384, 320)
TILE_PX = 32
MPP = 0.5
ENTRY = EncoderConfig(
    timm="none", dim=6, tile_px=TILE_PX, mpp=MPP, weights="random", licence="ours"
)
TILE = TileConfig(min_tissue=0.5, min_area_mm2=0.002)
FEATURES = FeaturesConfig(batch_size=32, max_corrupt=0.05, precision="fp32")
IDENTITY = {
    "encoder": "fake",
    "encoder_revision": "1",
    "weights_sha256": "0" * 64,
    "transform": "none",
    "precision": "fp32",
}


class Fake:
    """Mean and spread of each colour."""

    name = "fake"
    identity = IDENTITY
    model = None
    device = torch.device("cpu")
    dtype = torch.float32

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        flat = pixels.flatten(1, 2).float()
        return torch.cat([flat.mean(1), flat.std(1)], dim=1)


def good(path: Path, seed: int = 0) -> None:
    tissue_slide(path, SIZE, MPP, seed, box_px=(64, 64, 320, 288), levels=(1, 2))


def cut(share: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        good(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return make


def spoilt(levels: int, blocks: range) -> Callable[[Path], None]:
    """Zeros over blocks of the first levels."""

    def make(path: Path) -> None:
        good(path)
        with tifffile.TiffFile(path) as file:
            places = [
                (page.dataoffsets[index], page.databytecounts[index])
                for page in file.pages[:levels]
                for index in blocks
                if index < len(page.dataoffsets)
            ]
        with path.open("r+b") as file:
            for offset, count in places:
                file.seek(offset)
                file.write(b"\0" * count)

    return make


def dpi_72(path: Path) -> None:
    tissue_slide(path, SIZE, 25400 / 72)


def jpeg(path: Path) -> None:
    Image.fromarray(glass((64, 64))).save(path, "jpeg")


KINDS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty": (lambda path: path.touch(), "unreadable", "an empty file"),
    "missing": (lambda path: None, "unreadable", "no such file"),
    "text": (lambda path: path.write_text("a,b\n" * 50), "unreadable", "not a slide"),
    "jpeg": (jpeg, "unreadable", "a JPEG image"),
    "page": (lambda path: path.write_text("<!DOCTYPE html><p>Sign in"), "unreadable", "a web page"),
    "cut30": (cut(0.3), "unreadable", "cut short"),
    "cut90": (cut(0.9), "unreadable", ""),
    "lost": (spoilt(2, range(99)), "unreadable", "cannot be decoded"),
    "no_mpp": (lambda path: tissue_slide(path, SIZE, None), "no_mpp", "no pixel size"),
    "dpi72": (dpi_72, "no_mpp", "352.778 µm"),
    "glass": (
        lambda path: write_slide(path, glass(SIZE), MPP, (1, 2)),
        "no_tissue",
        "no tile with enough tissue",
    ),
    "tiny": (lambda path: tissue_slide(path, (24, 24), MPP), "too_small", "smaller than one tile"),
    "spot": (spoilt(1, range(1, 2)), "corrupt_regions", "cannot be decoded"),
}


@pytest.fixture(
    scope="module", params=[(1, 16), pytest.param((8, 200), marks=pytest.mark.slow)], ids=str
)
def cohort(request, tmp_path_factory) -> tuple[int, dict[str, Path]]:
    """So many slides of each damaged kind, and slides in all; mixed."""
    each, total = request.param
    folder = tmp_path_factory.mktemp("slides")
    patterns = tmp_path_factory.mktemp("patterns")
    for kind, (make, _, _) in KINDS.items():
        make(patterns / f"{kind}.tif")
    patterns_of_good = min(20, total - each * len(KINDS))
    for seed in range(patterns_of_good):
        good(patterns / f"good{seed}.tif", seed)
    names = [f"{kind}_{number}" for number in range(each) for kind in KINDS]
    names += [f"good{number % patterns_of_good}_{number}" for number in range(total - len(names))]
    order = np.random.default_rng(0).permutation(len(names))
    for name in names:
        pattern = patterns / f"{name.rpartition('_')[0]}.tif"
        if pattern.exists():
            shutil.copy(pattern, folder / f"{name}.tif")
    return each, {names[k]: folder / f"{names[k]}.tif" for k in order}


def work(slides: dict[str, Path], out: Path) -> None:
    for name, path in slides.items():
        tiles = out / "tile" / f"{name}.h5"
        tile_stage.run(path, name, tiles, tile_px=TILE_PX, target_mpp=MPP, mpp=None, config=TILE)
        target = features_stage.Target("fake", ENTRY, out / "features" / f"{name}.h5")
        features_stage.run(path, tiles, [target], config=FEATURES, threads=2, device="cpu")


def files_of(folder: Path, names: set[str]) -> dict[str, bytes]:
    """All files about some slides."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*.*"))
        if p.stem in names
    }


def test_each_slide_ends_in_its_state_and_harms_no_other(cohort, tmp_path, monkeypatch, capfd):
    each, slides = cohort
    monkeypatch.setattr("mil.encoders.build.build_encoder", lambda *_, **__: Fake())
    work(slides, tmp_path / "all")
    states = gather(list(slides), [tmp_path / "all" / "tile"], [tmp_path / "all" / "features"])
    assert [state.slide for state in states] == list(slides)
    for state in states:
        kind = state.slide.rpartition("_")[0]
        _, expected, why = KINDS.get(kind, (None, "ok", ""))
        assert (state.slide, state.state) == (state.slide, expected)
        assert why in state.reason
        assert "\n" not in state.reason
        assert bool(state.reason) == (expected != "ok")
    lines = summary(states).splitlines()
    damaged = each * len(KINDS)
    assert lines[0] == (
        f"{len(slides)} in, {len(slides) - damaged} out, "
        f"{each} corrupt_regions, {2 * each} no_mpp, "
        f"{each} no_tissue, {each} too_small, {8 * each} unreadable"
    )
    # Slides of one state and reason share a line.
    lost = {(state.state, state.reason) for state in states if state.state != "ok"}
    assert len(lines) == 1 + len(lost)
    assert "Traceback" not in capfd.readouterr().err
    clean = {name: path for name, path in slides.items() if name.startswith("good")}
    work(clean, tmp_path / "clean")
    found = files_of(tmp_path / "all", set(clean))
    assert len(found) >= 4 * len(clean)
    assert found == files_of(tmp_path / "clean", set(clean))
