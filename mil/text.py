"""Text of tables and file names as it is compared: letters, empty cells, numbers, look-alikes."""

import re
import unicodedata

# Words that stand for an empty cell, in small letters: of spreadsheets, R, pandas, SQL, SAS.
EMPTY_WORDS = frozenset(
    {
        *("", "-", "--", "–", "—", ".", "?"),
        *("na", "n/a", "n. a.", "n.a.", "n/a.", "k.a.", "k. a.", "nan", "nat", "<na>"),
        *("null", "(null)", "<null>", "none", "nil", "(blank)", "(leer)", "undefined"),
        *("#n/a", "#na", "#nv"),
    }
)
# Errors of formulas in any language: #REF!, #WERT!, #DIV/0!, #NAME?
FORMULA_ERROR = re.compile(r"#[^\s#]+[!?]")

# Letters without width that are not of the category of formatting characters.
FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
FILLER_RANGES = (("\u180b", "\u180f"), ("\ufe00", "\ufe0f"), ("\U000e0100", "\U000e01ef"))

NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
# A comma before three digits may part thousands: 1,234. After a zero it cannot: 0,234.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+", re.ASCII)

# Letters of Cyrillic and Greek that look like Latin ones.
LATIN = str.maketrans(
    "аеіорсухАВЕІКМНОРСТУХΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "aeiopcyxABEIKMHOPCTYXABEZHIKMNOPTYXo"
)


def clean(text: str) -> str:
    """Text in one form: composed letters (NFC), no invisible ones, plain blanks, none around it.

    macOS writes `ü` as `u` and two dots; text copied from web pages, PDF and Word holds soft
    hyphens, zero-width and no-break blanks. Such texts look equal and must be equal.
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    visible = "".join(_visible(char) for char in text)
    return unicodedata.normalize("NFC", visible).strip()


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Zs", "Zl", "Zp") or char in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85":
        return " "
    if category in ("Cc", "Cf") or char in FILLERS:
        return ""
    return "" if any(first <= char <= last for first, last in FILLER_RANGES) else char


def is_empty(text: str) -> bool:
    """Whether a cell is empty, or holds a word for it such as `NA`, `NULL`, `-` or `#REF!`."""
    return text.lower() in EMPTY_WORDS or bool(FORMULA_ERROR.fullmatch(text))


def number_in(text: str) -> float | None:
    """The number that a cell holds, with a point or a comma before decimals; None: none.

    `1,234` is none: it may be a thousand or one and a bit.
    """
    if THOUSANDS.fullmatch(text) or not NUMBER.fullmatch(text):
        return None
    return float(text.replace(",", "."))


def look(text: str) -> str:
    """Key that is equal for texts that look alike, or differ in case or blanks only."""
    plain = unicodedata.normalize("NFKC", clean(text)).translate(LATIN)
    dashes = "".join("-" if unicodedata.category(char) == "Pd" else char for char in plain)
    return " ".join(dashes.casefold().split())


def escaped(text: str) -> str:
    r"""Text in quotes; letters beyond ASCII as `\u00fc`, so that look-alikes are told apart."""
    return ascii(text)
