"""Every entry of configs/slide_encoders: architecture, size, licence, documentation."""

from pathlib import Path

import pytest
import torch

from mil.config import load_encoders
from mil.config.slide_encoders import load_slide_encoder, published_slide_encoders
from mil.slide_encoders.build import new_model

NAMES = published_slide_encoders()
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "slide-vectors.md"


@pytest.mark.parametrize("name", NAMES)
def test_as_many_parameters_as_its_entry_says(name):
    with torch.device("meta"):
        model = new_model(name)
    entry = load_slide_encoder(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters
    assert entry.encoder in load_encoders()
    assert entry.citation
    assert entry.hub is not None or entry.page


def test_the_documentation_says_the_same():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in DOCS.read_text().splitlines()
        if line[:3] == "| `"
    ]
    documented = {row[0].strip("`"): row[1:6] for row in rows if row[0].strip("`") in NAMES}
    entries = {name: load_slide_encoder(name) for name in NAMES}
    assert documented == {
        name: [
            f"`{entry.encoder}`, tiles of {entry.tile_um:g} µm",
            str(entry.dim),
            f"{entry.parameters / 1e6:.1f} M",
            entry.licence,
            "yes" if entry.gated else "",
        ]
        for name, entry in entries.items()
    }
