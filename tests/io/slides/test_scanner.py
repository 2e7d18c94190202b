"""The scanner of a slide is its vendor and, where the file states one, its model."""

import pytest

from mil.io.slides.scanner import LONGEST, scanner_of


@pytest.mark.parametrize(
    ("vendor", "properties", "scanner"),
    [
        ("hamamatsu", {"hamamatsu.Product": "C13210", "tiff.Model": "x"}, "hamamatsu C13210"),
        ("aperio", {"aperio.ScanScope ID": "SS1302"}, "aperio SS1302"),
        ("generic-tiff", {"tiff.Model": " a \n b "}, "generic-tiff a b"),
        ("mirax", {}, "mirax"),
        ("", {}, ""),
    ],
)
def test_vendor_and_model(vendor, properties, scanner):
    assert scanner_of(vendor, properties) == scanner


def test_a_file_cannot_state_a_book():
    assert len(scanner_of("v", {"tiff.Model": "x" * 9999})) == LONGEST + 2
