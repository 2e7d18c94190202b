"""Digest of what an output was made from, with the facts themselves, as the output states it."""

import platform
from functools import cache

from mil.versions import TOOL_VERSION

# Attributes of HDF5 files and text chunks of PNG files: the digest, the facts that it is
# of, and the releases that the content was computed by.
MADE_FROM = "made_from"
FACTS = "made_from_facts"
MADE_WITH = "made_with"
# An attribute of HDF5 holds 64 kB; longer facts are left out.
LONGEST_FACTS = 60_000
# Packages whose releases may change a number.
PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "timm",
    "h5py",
    "openslide-python",
    "openslide-bin",
    "pillow",
    "torchstain",
)


class Digest(str):
    """Digest of facts, which an output may state beside it.

    Attributes:
        facts: Stage, its version and the facts, as JSON; they name no path, so that the
            same output has the same bytes in every folder.
    """

    facts: str

    def __new__(cls, text: str, facts: str) -> "Digest":
        digest = super().__new__(cls, text)
        digest.facts = facts if len(facts) <= LONGEST_FACTS else ""
        return digest

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return Digest, (str(self), self.facts)

    def and_of(self, more: str) -> "Digest":
        """The digest, a hyphen and another digest."""
        return Digest(f"{self}-{more}", self.facts)


def statements(made_from: str) -> dict[str, str]:
    """Texts that an output carries about its making, by key; none without a digest.

    Args:
        made_from: Digest of what the output depends on.
    """
    if not made_from:
        return {}
    texts = {MADE_FROM: str(made_from)}
    if isinstance(made_from, Digest) and made_from.facts:
        texts |= {FACTS: made_from.facts, MADE_WITH: releases()}
    return texts


@cache
def releases() -> str:
    """Releases of mil, Python and the libraries that may change a number."""
    # Only a job that writes something asks.
    from importlib.metadata import PackageNotFoundError, version

    texts = [f"mil {TOOL_VERSION}", f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            texts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(texts)
