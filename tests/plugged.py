"""A package of somebody else that plugs in heads, as pip would install it."""

import sys
from pathlib import Path

GOOD = '''"""Sum of the tiles' logits, Someone et al. 2024, https://example.org/sum."""

import torch
from pydantic import Field
from torch import nn

from mil.bags import per_bag
from mil.config import Section
from mil.types import HeadOutput


class Config(Section):
    """Options."""

    scale: float = Field(1.0, gt=0, description="of the sum")


class Head(nn.Module):
    """Sum."""

    def __init__(self, config, dim, classes):
        super().__init__()
        self.classify, self.scale = nn.Linear(dim, classes), config.scale

    def forward(self, bags):
        """Classify each bag."""
        logits = self.classify(bags.features) * self.scale
        sums = torch.stack([bag.sum(0) for bag in per_bag(logits, bags.offsets)])
        return HeadOutput(sums, torch.zeros_like(logits[:, :1]))
'''


def put(
    root: Path, package: str, code: str = GOOD, heads: tuple[str, ...] = ("of_others",)
) -> None:
    """Write a package with one module in a folder of the path, which plugs in these heads."""
    (root / package).mkdir()
    (root / package / "__init__.py").write_text("")
    (root / package / "head.py").write_text(code)
    info = root / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    points = "".join(f"{head} = {package}.head\n" for head in heads)
    (info / "entry_points.txt").write_text(f"[mil.heads]\n{points}")


def imported() -> list[str]:
    """Which modules of such packages, named strange_…, have been imported."""
    return [name for name in sys.modules if name.startswith("strange_")]


def forget() -> None:
    """Take them out of Python's memory."""
    for name in imported():
        del sys.modules[name]
