"""Every entry of configs/encoders.yaml: built offline, as large as published, `dim` features."""

import re
import socket
from pathlib import Path

import pytest
import torch
from torch import nn

from mil.config import EncoderConfig, load_encoders
from mil.encoders.build import build_encoder, build_shell, with_pooling
from mil.encoders.precision import choose_precision

CPU = torch.device("cpu")
DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "encoders.md"
ENTRIES = load_encoders(DOCS.parents[2] / "configs" / "encoders.yaml")
# Millions of parameters, without a classifier: of their papers, pages, or the size of
# their weights file over four; of models that read texts too, by hand: those of the image
# tower, pooling and projection (a CLIP's ViT-B/32 has 87.5).
PUBLISHED = {
    "efficientnet_lite0": 3.4,
    "resnet18": 11.2,
    "resnet50": 23.5,
    "lunit_vits16": 21.7,
    "phikon": 85.8,
    "phikon_v2": 303.3,
    "uni": 303.3,
    "uni2_h": 681.4,
    "virchow": 631.2,
    "virchow2": 631.2,
    "h_optimus_0": 1134.8,
    "h_optimus_1": 1134.8,
    "gigapath": 1135.0,
    "hibou_b": 85.7,
    "hibou_l": 303.7,
    "conch": 86.2 + 1.4,
    "conch_v1_5": 303.9 + 2.8,
    "musk": 303.9,
    "plip": 87.5 + 0.4,
    "ctranspath": 27.5,
    "chief_ctranspath": 27.5,
    "midnight": 1134.8,
    "h0_mini": 85.7,
    "gpfm": 303.2,
    "keep": 303.3 + 1.4,
}
# Gigabytes of noise in forty blocks show no more than in two.
DEPTH = 2
LARGE = [name for name in ENTRIES if PUBLISHED.get(name, 0) > 50]
# A shell of them takes some of a second.
WIDE = [name for name in ENTRIES if PUBLISHED.get(name, 0) > 86]
# Of entries that are the same model with other weights one is enough to be run.
RUN = list(
    {
        (
            str(ENTRIES[name].args),
            ENTRIES[name].timm,
            ENTRIES[name].pooling,
            ENTRIES[name].projection,
            str(ENTRIES[name].scales),
        ): name
        for name in LARGE
    }.values()
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def random(name: str) -> EncoderConfig:
    return ENTRIES[name].model_copy(update={"weights": "random"})


def tiles(entry: EncoderConfig) -> torch.Tensor:
    shape = (2, entry.tile_px, entry.tile_px, 3)
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_each_entry_has_a_published_size_and_weights_that_stay():
    assert PUBLISHED.keys() == ENTRIES.keys()
    hub = {name: entry.hub for name, entry in ENTRIES.items() if entry.hub is not None}
    # CHIEF's authors share theirs in a folder.
    assert hub.keys() == ENTRIES.keys() - {"efficientnet_lite0", "chief_ctranspath"}
    assert all(re.fullmatch("[0-9a-f]{40}", file.revision) and file.file for file in hub.values())
    assert all(entry.citation for entry in ENTRIES.values())


def test_the_documentation_says_the_same():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in DOCS.read_text().splitlines()
        if line[:3] == "| `"
    ]
    documented = {}
    for names, _model, dims, tile, pooling, licence, gated in rows:
        for name, dim in zip(names.split(", "), dims.split(", "), strict=True):
            documented[name.strip("`")] = (
                int(dim),
                tile,
                pooling == "class token and mean",
                pooling == "attention",
                licence,
                gated == "yes",
            )
    assert documented == {
        name: (
            entry.dim,
            f"{entry.tile_px}, {entry.mpp:.3g}",
            entry.pooling == "cls+mean",
            entry.pooling == "attention",
            entry.licence,
            entry.gated,
        )
        for name, entry in ENTRIES.items()
    }


def test_a_tile_of_conch_is_256_um_wide():
    # As TITAN takes it: 512 px at 20x.
    for name in ("conch", "conch_v1_5"):
        assert ENTRIES[name].tile_px * ENTRIES[name].mpp == pytest.approx(256, abs=1e-6)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in WIDE else []) for name in ENTRIES],
)
def test_as_large_as_published(name):
    shell = build_shell(name, ENTRIES[name], ENTRIES[name].tile_px)
    assert all(parameter.is_meta for parameter in shell.parameters())  # it took no memory
    millions = sum(parameter.numel() for parameter in shell.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[name], abs=0.06)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if PUBLISHED[name] > 25 else [])
        for name in ENTRIES
        if name not in LARGE
    ],
)
def test_small_ones_built_and_run(name):
    entry = random(name)
    encoder = build_encoder(name, entry, tile_px=entry.tile_px, device=CPU, precision="fp32")
    features = encoder(tiles(entry))
    assert features.shape == (2, entry.dim)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 0


def filled(shell: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Memory for a model on device meta, filled with the same million random numbers: cheap."""
    model = shell.to(dtype).to_empty(device="cpu")
    noise = (torch.randn(1 << 20, generator=torch.Generator().manual_seed(1)) * 0.05).to(dtype)
    for tensor in model.state_dict().values():
        for part in tensor.view(-1).split(len(noise)):
            part.copy_(noise[: len(part)])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
@torch.inference_mode()
def test_large_ones_run_with_two_blocks(name):
    entry = ENTRIES[name]
    entry = entry.model_copy(update={"args": {**entry.args, "depth": DEPTH}})
    dtype = torch.bfloat16 if choose_precision("auto", None, CPU) == "bf16" else torch.float32
    model = with_pooling(name, entry, filled(build_shell(name, entry, entry.tile_px), dtype)).eval()
    features = model((tiles(entry)[:1] / 255).permute(0, 3, 1, 2).to(dtype))
    assert features.shape == (1, entry.dim)
    assert features.isfinite().all()
    assert features.float().std() > 0
