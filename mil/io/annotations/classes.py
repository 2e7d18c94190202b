"""Classes of annotations: which outline the positive region, and which are cut out."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

# Class of an object: its group or layer, outermost first; empty: none.
Names = tuple[str, ...]

# Names of regions that are cut out of others: classes of QuPath, groups of ASAP.
# CAMELYON16 calls its holes `_2`.
CUT_OUT = {
    "ignore",
    "ignored",
    "hole",
    "holes",
    "exclude",
    "excluded",
    "exclusion",
    "exclusions",
    "_2",
}
# Letters of a class that are read.
LONGEST_NAME = 80
# Regions inside the positive one that are not: groups `normal` of CAMELYON17.
NORMAL = {"normal", "benign", "healthy"}
# Groups of CAMELYON16 that are tumour.
CAMELYON16 = {"_0", "_1"}
# Names that viewers give by themselves, and that say nothing.
UNNAMED = re.compile(
    r"(none|null|default|unclassified|region|roi|((annotation|my)\s*)?(group|layer)|"
    r"annotations?)?[\s_*#\d]*"
)
POSITIVE = {
    *("tumor", "tumour", "tumors", "tumours", "tumoral", "tumorous", "cancer", "cancerous"),
    *("carcinoma", "metastasis", "metastases", "metastatic", "lesion", "lesions", "malignant"),
    *("malignancy", "neoplasm", "neoplastic", "mets", "met"),
}
ENDINGS = ("carcinoma", "carcinomas", "sarcoma", "melanoma", "karzinom", "metastase", "metastasen")
# Beside one of the words above, they turn its meaning: `tumour stroma`, `no tumour`.
OTHERWISE = {
    *("no", "non", "not", "without", "free", "peri", "normal", "benign", "healthy", "stroma"),
    *("stromal", "necrosis", "necrotic", "lymphocyte", "lymphocytes", "til", "tils", "immune"),
    *("inflammation", "inflammatory", "associated", "adjacent", "surrounding", "bed", "margin"),
    *("infiltrating", "background", "artefact", "artifact", "fat", "mucosa", "muscle"),
}


class PositiveClasses(NamedTuple):
    """Rule by which classes of an annotation are the positive region.

    Attributes:
        chosen: `annotation_classes` of the dataset; empty: those named like it.
        own: Name of the dataset's own positive class; empty: none.
    """

    chosen: tuple[str, ...] = ()
    own: str = ""

    def of(self, classes: Iterable[Names]) -> list[Names]:
        """The classes of one file that are its positive region.

        Without a choice, regions of no class are positive where no class is named like it.

        Args:
            classes: Classes of all regions of the file.
        """
        known = list(dict.fromkeys(classes))
        if self.chosen:
            chosen = {_plain(name) for name in self.chosen}
            return [names for names in known if chosen & _spellings(names)]
        named = [names for names in known if self._is_positive(names)]
        return named or [names for names in known if not names]

    def inside(self, classes: Iterable[Names]) -> list[Names]:
        """Classes whose regions, drawn inside larger positive ones, are not positive."""
        if self.chosen:
            return []
        return [
            names
            for names in dict.fromkeys(classes)
            if not self._is_positive(names) and NORMAL & {_plain(name) for name in names}
        ]

    def _is_positive(self, names: Names) -> bool:
        if self.own and _plain(self.own) in _spellings(names):
            return True
        plain = [_plain(name) for name in names]
        # `Stroma: Positive` of QuPath are stained cells.
        if plain[:1] == ["positive"] or CAMELYON16 & set(plain):
            return True
        words = {word for name in plain for word in re.findall(r"[^\W\d_]+", name)}
        positive = words & POSITIVE or any(word.endswith(ENDINGS) for word in words)
        return bool(positive) and not words & OTHERWISE


def class_name(names: Names) -> str:
    """Name of a class in messages, groups as QuPath writes them: `Tumor: Positive`."""
    return ": ".join(names) or "no class"


def meaningful(names: Iterable[object]) -> Names:
    """Class of an object without the names that viewers give by themselves."""
    texts = (_read_name(str(name)[:LONGEST_NAME]) for name in names if name is not None)
    return tuple(text for text in texts if text)


# A file has few classes, and many objects of each.
@lru_cache(maxsize=1024)
def _read_name(name: str) -> str:
    """A name in one form and one line; empty if it says nothing."""
    text = unicodedata.normalize("NFC", name)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    plain = _plain(text)
    return "" if plain not in CAMELYON16 | CUT_OUT and UNNAMED.fullmatch(plain) else text


def cut_from(names: Names) -> Names | None:
    """Class that an object of this class is cut out of; empty: of all; None: of none."""
    for number, name in enumerate(names):
        if _plain(name) in CUT_OUT:
            return names[:number]
    return None


def _spellings(names: Names) -> set[str]:
    """The forms in which a choice may name a class; the empty one is of no class."""
    return {_plain(name) for name in names} | {_plain(": ".join(names))}


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    # QuPath marks classes that it ignores by `*`.
    return unicodedata.normalize("NFKC", name).strip().rstrip("*").strip().casefold()
