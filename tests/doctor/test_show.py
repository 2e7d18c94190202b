"""How a diagnosis looks, whatever is in it."""

from dataclasses import replace

from mil.doctor.diagnosis import Diagnosis
from mil.doctor.findings import EncoderFinding, LevelFinding, SlideFinding, TilingFinding
from mil.doctor.show import show

TILING = "224px_0.5mpp"


def diagnosis(*slides, free=10**12, bags=10**9):
    encoder = EncoderFinding("e", TILING, 8, "none", "file", True, "w.pth", bags, bags, "big")
    return Diagnosis(
        "set", "dir", "results/set", free, True, list(slides), [encoder], {TILING: 5}, "", []
    )


def test_hostile_text_does_not_reach_the_terminal():
    evil = "\x1b[2J\x07[red]\u202egnp.exe\nnew"
    slide = SlideFinding(
        "s",
        "f",
        "unreadable",
        evil,
        warnings=[evil],
        vendor=evil,
        levels=[LevelFinding(1, 1, 1.0, "X", 0)],
    )
    shown = show(diagnosis(slide), 120)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "  s  \ufffd[2J\ufffd[red]\ufffdgnp.exe\ufffdnew\n" in shown


def test_warnings_mark_the_slide_and_have_a_line_each():
    fine = TilingFinding("ok", "", num_tiles=5, tissue_mm2=1.25)
    slide = SlideFinding(
        "s",
        "f",
        "ok",
        vendor="aperio",
        size_px=(100, 200),
        levels=[LevelFinding(100, 200, 1.0, "JPEG", 0)],
        mpp=0.25,
        mpp_source="openslide",
        tilings={TILING: fine},
        warnings=["first", "second"],
    )
    shown = show(diagnosis(slide), None).splitlines()
    assert (
        " ".join(shown[3].split())
        == "s ok ! aperio JPEG 100 x 200 0.03 x 0.05 1 0.25 openslide 1.25 5"
    )
    assert shown[5:8] == ["warnings (2)", "  s  first", "  s  second"]
    assert shown[-1] == "Ready."


def test_slides_that_cannot_be_used_have_a_line_each_however_many():
    shown = show(
        diagnosis(*(SlideFinding(f"s{i}", "f", "unreadable", f"why {i}") for i in range(20))), None
    )
    assert all(f"  {f's{i}':3}  why {i}\n" in shown for i in range(20))


def test_colours_only_where_asked():
    slide = SlideFinding("s", "f", "unreadable", "why")
    assert "\x1b[1;31munreadable (1)" in show(diagnosis(slide), 80, colour=True)
    assert "\x1b[" not in show(diagnosis(slide), 80)


def test_sizes_have_units():
    shown = show(
        diagnosis(SlideFinding("s", "f", "unreadable", "why"), free=1_500_000_000, bags=2_000_000),
        120,
    )
    assert (
        "disk     2 MB of bags for e (the largest 2 MB, of big); 1.5 GB free at results/set\n"
        in shown
    )


def test_notes_on_the_slide_table_have_a_line_each():
    found = replace(
        diagnosis(), table_notes=["no column for the patient", "column 'site': 1 empty"]
    )
    assert "slide table (2)\n  no column for the patient\n  column 'site': 1 empty\n" in show(
        found, None
    )
    assert found.as_json()["table_notes"] == found.table_notes
