"""Who says how large a pixel is: each source, their order, and what cannot be true."""

from pathlib import Path

import pytest

from mil.errors import MissingResolutionError
from mil.io.slides.resolution import resolve, stated_sizes
from tests.messages import one_line

SLIDE = Path("a.svs")
OPENSLIDE = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
TAGS = {
    "tiff.XResolution": "25000",
    "tiff.YResolution": "25000",
    "tiff.ResolutionUnit": "centimeter",
}  # 0.4
DPI_72 = {"tiff.XResolution": "72", "tiff.YResolution": "72", "tiff.ResolutionUnit": "inch"}
APERIO = {
    "tiff.ImageDescription": "Aperio Image Library v12\r\n10x10|AppMag = 20|MPP = 0.4990|Left = 1"
}
POWER = {"openslide.objective-power": "40"}


def text(said: str) -> dict[str, str]:
    return {"tiff.ImageDescription": said}


def ome(
    x: str = 'PhysicalSizeX="0.5"', y: str = 'PhysicalSizeY="0.5"', unit: str = ""
) -> dict[str, str]:
    name = f'PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"' if unit else ""
    return {
        "tiff.ImageDescription": '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" SizeX="9" {x} {y} {name}/></Image><Image ID="Image:1">'
        '<Pixels PhysicalSizeX="7" PhysicalSizeY="7"/></Image></OME>'
    }


def philips(*spacings: str) -> dict[str, str]:
    levels = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        f'<Attribute Name="DICOM_PIXEL_SPACING">{text}</Attribute></DataObject>'
        for text in spacings
    )
    return {
        "tiff.ImageDescription": '<DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject ObjectType="DPScannedImage">'
        '<Attribute Name="PIM_DP_IMAGE_TYPE">MACROIMAGE</Attribute>'
        '<Attribute Name="DICOM_PIXEL_SPACING">"0.0000315" "0.0000315"</Attribute></DataObject>'
        '<DataObject ObjectType="DPScannedImage">'
        '<Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>'
        f'<Attribute Name="SEQUENCE"><Array>{levels}</Array></Attribute>'
        "</DataObject></Array></Attribute></DataObject>"
    }


def vips(value: str = "0.37") -> dict[str, str]:
    return {
        "tiff.ImageDescription": '<?xml version="1.0"?>'
        '<image xmlns="http://www.vips.ecs.soton.ac.uk//dzsave"><properties>'
        "<property><name>openslide.vendor</name><value "
        "type='VipsRefString'>aperio</value></property>"
        "<property><name>openslide.mpp-x</name><value "
        f"type='VipsRefString'>{value}</value></property>"
        "<property><name>openslide.mpp-y</name><value "
        f"type='VipsRefString'>{value}</value></property>"
        "</properties></image>"
    }


SAID = {
    "openslide": (OPENSLIDE, 0.25, "openslide"),
    "one axis only": ({"openslide.mpp-y": "0.25"}, 0.25, "openslide"),
    "tags, centimetres": (TAGS, 0.4, "tiff tags"),
    "tags, inches": (
        {**DPI_72, "tiff.XResolution": "50800", "tiff.YResolution": "50800"},
        0.5,
        "tiff tags",
    ),
    "Aperio": (APERIO, 0.499, "vendor text"),
    "Aperio as a comment": (
        {"openslide.comment": APERIO["tiff.ImageDescription"]},
        0.499,
        "vendor text",
    ),
    "Aperio, no spaces": (text("Aperio|MPP=0.25"), 0.25, "vendor text"),
    "Aperio, exponent": (text("Aperio|MPP = 2.5e-1|"), 0.25, "vendor text"),
    "OME": (ome(), 0.5, "vendor text"),
    "OME, µm": (ome(unit="µm"), 0.5, "vendor text"),
    "OME, the other mu": (ome(unit="μm"), 0.5, "vendor text"),
    "OME, nm": (ome('PhysicalSizeX="500"', 'PhysicalSizeY="500"', "nm"), 0.5, "vendor text"),
    "OME, mm": (ome('PhysicalSizeX="0.0005"', 'PhysicalSizeY="5e-4"', "mm"), 0.5, "vendor text"),
    "Philips": (philips('"0.00022" "0.00022"', '"0.00044" "0.00044"'), 0.22, "vendor text"),
    "Philips, coarse first": (
        philips('"0.00044" "0.00044"', '"2.2E-4" "2.2E-4"'),
        0.22,
        "vendor text",
    ),
    "Philips, without quotes": (philips("0.00025 0.00025"), 0.25, "vendor text"),
    "Philips through OpenSlide": (
        {
            "philips.SEQUENCE[0].DICOM_PIXEL_SPACING": '"0.00025" "0.00025"',
            "philips.SEQUENCE[1].DICOM_PIXEL_SPACING": '"0.0005" "0.0005"',
        },
        0.25,
        "vendor text",
    ),
    "libvips": (vips(), 0.37, "vendor text"),
    "72 dpi, then Aperio": ({**DPI_72, **APERIO}, 0.499, "vendor text"),
    "72 dpi twice, then OME": ({**DPI_72, "openslide.mpp-x": "352.8", **ome()}, 0.5, "vendor text"),
    "OpenSlide before tags": ({**TAGS, **OPENSLIDE, **APERIO, **POWER}, 0.25, "openslide"),
    "text before tags": ({**TAGS, **APERIO, **POWER}, 0.499, "vendor text"),
    "text before tags that OpenSlide repeats": (
        {**TAGS, **APERIO, "openslide.vendor": "generic-tiff", "openslide.mpp-x": "0.4"},
        0.499,
        "vendor text",
    ),
    "tags that OpenSlide repeats": (
        {**TAGS, "openslide.vendor": "generic-tiff", "openslide.mpp-x": "0.4"},
        0.4,
        "openslide",
    ),
    "OME's own image": (
        {
            **TAGS,
            "ome.PhysicalSizeX": "250",
            "ome.PhysicalSizeXUnit": "nm",
            "ome.PhysicalSizeYUnit": "nm",
        },
        0.25,
        "vendor text",
    ),
    "zero is missing": ({"openslide.mpp-x": "0", "openslide.mpp-y": "0", **TAGS}, 0.4, "tiff tags"),
    "not a number is missing": (
        {"openslide.mpp-x": "nan", "openslide.mpp-y": "?", **TAGS},
        0.4,
        "tiff tags",
    ),
    "too small": (
        {"openslide.mpp-x": "1e-6", "openslide.mpp-y": "1e-6", **APERIO},
        0.499,
        "vendor text",
    ),
    "no unit": ({**TAGS, "tiff.ResolutionUnit": "none", **APERIO}, 0.499, "vendor text"),
    "nearly square": (
        {"openslide.mpp-x": "0.2500", "openslide.mpp-y": "0.2510"},
        0.2505,
        "openslide",
    ),
}


@pytest.mark.parametrize("kind", SAID)
def test_each_source_and_their_order(kind):
    properties, mpp, source = SAID[kind]
    assert resolve(SLIDE, properties, None, False) == (pytest.approx(mpp), source)


@pytest.mark.parametrize("kind", SAID)
def test_the_table_is_over_all(kind):
    assert resolve(SLIDE, SAID[kind][0], 0.123, False) == (0.123, "table")


def refused(properties: dict[str, str], **more) -> str:
    with one_line(MissingResolutionError) as caught:
        resolve(SLIDE, properties, None, more.get("allow", False))
    assert caught.value.state == "no_mpp"
    message = str(caught.value)
    assert message.startswith("a.svs: ")
    return message


def test_objective_power_only_when_allowed():
    assert "its objective power would mean 0.25 (tile.objective_power)" in refused(POWER)
    assert resolve(SLIDE, POWER, None, True) == (0.25, "objective power")
    assert resolve(SLIDE, {**POWER, **TAGS}, None, True) == (0.4, "tiff tags")
    assert "no pixel size" in refused({"openslide.objective-power": "0"}, allow=True)


def test_nothing_and_what_cannot_be_true():
    assert refused({}).endswith(
        "no pixel size in OpenSlide's properties, TIFF tags or vendor's text"
    )
    message = refused({**DPI_72, "openslide.mpp-x": "352.777", "openslide.mpp-y": "352.777"})
    assert (
        "352.777 µm in openslide, which cannot be true; 352.778 µm in tiff tags, which cannot be "
        "true" in message
    )


def test_pixels_that_are_not_square():
    assert "not square: 0.25 by 0.5 µm in openslide" in refused(
        {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"}
    )
    assert "not square: 0.5 by 1 µm in vendor text" in refused(ome(y='PhysicalSizeY="1.0"'))
    assert "not square: 0.3 by 0.2 µm in vendor text" in refused(
        philips('"0.0002" "0.0003"')
    )  # rows come first


SAYS_NOTHING = {
    "OME without a size": ome("", ""),
    "OME in another unit": ome(unit="pixel"),
    "OME of zero": ome('PhysicalSizeX="0"', ""),
    "Philips without spacing": philips(),
    "Philips with one number": philips('"0.00025"'),
    "vips without it": vips(""),
    "not XML": text("<OME><Image></OME>"),
    "another text": text("MPP is 0.25"),
    "a decimal comma": text("A|MPP = 0,25"),
    "numbers run together": text("A|MPP = 0.2.5"),
    "unknown encoding": text('<?xml version="1.0" encoding="klingon"?><OME/>'),
    "other bytes than it says": text('<?xml version="1.0" encoding="utf-16"?><OME/>'),
    "a null inside": text("<OME>\0</OME>"),
    "half a surrogate": text("<O>\udc80</O>"),
}


@pytest.mark.parametrize("kind", SAYS_NOTHING)
def test_texts_that_say_nothing(kind):
    assert refused(SAYS_NOTHING[kind]).startswith("a.svs: no pixel size in ")


def bomb() -> str:
    entities = "".join(f'<!ENTITY a{k + 1} "{f"&a{k};" * 10}">' for k in range(12))
    return (
        f'<!DOCTYPE OME [<!ENTITY a0 "boom">{entities}]>'
        '<OME><Image><Pixels PhysicalSizeX="&a12;"/></Image></OME>'
    )


HOSTILE = {
    "billion laughs": bomb(),
    "a file from outside": '<!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/passwd">]><OME>&x;</OME>',
    "very deep": "<a>" * 100_000 + "</a>" * 100_000,
    "very long": "<OME>" + "<x/>" * 300_000 + "</OME>",
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind == "very long" else [])
        for kind in HOSTILE
    ],
)
def test_hostile_text_is_harmless(kind):
    message = refused(text(HOSTILE[kind]))
    assert message.startswith("a.svs: no pixel size in ")
    assert "boom" not in message
    assert "root:" not in message


def test_all_that_is_said_can_be_compared():
    said = stated_sizes({**OPENSLIDE, **TAGS, **APERIO, **POWER})
    assert said == {
        "openslide": 0.25,
        "tiff tags": pytest.approx(0.4),
        "vendor text": 0.499,
        "objective power": 0.25,
    }
    assert stated_sizes({}) == {}
