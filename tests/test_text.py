"""Text as it is compared: what is equal, what is empty, what is a number."""

import pytest

from mil.text import clean, escaped, is_empty, look, number_in


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Mu\u0308ller", "Müller"),
        ("\ufeffslide", "slide"),
        ("se\u00adrous", "serous"),
        ("a\u200bb\u200d\u2060", "ab"),
        ("a\u00a0b", "a b"),
        ("\u2009a\u3000", "a"),
        ("slide\nname", "slide name"),
        ("a\x07b", "ab"),
        ("\u202eabc\u202c", "abc"),
        ("e\u200b\u0301", "é"),
        ("a\ufe0f", "a"),
        (" a  b ", "a  b"),
        ("日本", "日本"),
    ],
)
def test_clean(text, cleaned):
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    "word",
    [
        *("", "NA", "n/a", "NaN", "NULL", "None", "-", "–", "#REF!", "#VALUE!", "#N/A", "#WERT!"),
        *("<NA>", "#DIV/0!", "#NAME?", "(null)", "NaT", "."),
    ],
)
def test_words_for_empty(word):
    assert is_empty(word)


@pytest.mark.parametrize("word", ["0", "no", "N", "negative", "nano", "+", "#1", "A-", "unknown"])
def test_words_that_are_not_empty(word):
    assert not is_empty(word)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("0.0", 0), ("1e0", 1), ("01", 1), ("0,25", 0.25), ("-.5", -0.5)),
        *(("1234,5", 1234.5), ("0,250", 0.25)),
        *(("1,234", None), ("1_0", None), ("nan", None), ("40x", None), ("", None)),
    ],
)
def test_numbers(text, number):
    assert number_in(text) == number


def test_look_alikes():
    assert look("Se\u0301rous") == look("SÉROUS")
    assert look("non\u2011tumour") == look("non-tumour") == look("non–tumour ")
    assert look("\u0421erous") == look("Cerous")  # a Cyrillic letter
    assert look("a  b") == look("a b")
    assert look("a") != look("b")
    assert escaped("\u0421a") == "'\\u0421a'"
