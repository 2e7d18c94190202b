"""What is said when slides are missing."""

import subprocess
import sys
from pathlib import Path

from mil.config import DatasetConfig
from mil.io.tables.missing import missing_bags_message, missing_message

DATASET = DatasetConfig(
    classes=["a", "b"], size="about 7 GB in 9 files", get="Copy them from the moon."
)


def missing(count: int) -> list[tuple[str, Path]]:
    return [(f"s{i}", Path(f"/data/s{i}.tif")) for i in range(count)]


def test_says_what_is_missing_how_big_it_is_and_what_to_type():
    message = missing_message("moon", DATASET, missing(4), 9, Path("/data"))
    assert message.splitlines() == [
        "dataset moon: 4 of 9 slides are not in /data",
        "  s0: no /data/s0.tif",
        "  s1: no /data/s1.tif",
        "  s2: no /data/s2.tif, and 1 more",
        "The whole set is about 7 GB in 9 files.",
        "Copy them from the moon.",
        "If they are elsewhere: `--config dataset=moon slides_dir=DIR`. "
        "To go on with the other 5: `--config allow_missing=true`.",
    ]


def test_three_are_all_named():
    message = missing_message("moon", DATASET, missing(3), 9, Path("/data"))
    assert "more" not in message
    assert "  s2: no /data/s2.tif\n" in message


def test_without_any_slide_there_is_nothing_to_go_on_with():
    assert "allow_missing" not in missing_message("moon", DATASET, missing(9), 9, Path("/data"))


def test_a_dataset_that_says_nothing_of_itself_gets_no_empty_lines():
    message = missing_message(
        "own", DatasetConfig(classes=["a", "b"]), missing(1), 2, Path("/data")
    )
    assert len(message.splitlines()) == 3
    assert all(message.splitlines())


def test_slides_without_a_bag():
    looked_for = [(slide, path.with_suffix(".h5")) for slide, path in missing(4)]
    assert missing_bags_message("moon", looked_for, 9, ["x", "y"]).splitlines() == [
        "dataset moon: 4 of 9 slides have no bag in /data",
        "  s0: no /data/s0.h5",
        "  s1: no /data/s1.h5",
        "  s2: no /data/s2.h5, and 1 more",
        "2 bags there are of no slide in the table, such as x.h5.",
        "Bring them in by `mil bags import`; a bag is called SLIDE.h5, after the csv's column of "
        "slides. "
        "To go on with the other 5: `--config allow_missing=true`.",
    ]
    assert len(missing_bags_message("moon", looked_for, 4, []).splitlines()) == 5
    assert "allow_missing" not in missing_bags_message("moon", looked_for, 4, [])


def test_imports_nothing_that_would_slow_a_dry_run():
    heavy = "{'torch', 'openslide', 'numpy', 'openpyxl'}"
    code = f"import sys, mil.io.tables.missing; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_bags_whose_names_only_look_like_those_of_slides(tmp_path):
    missing = [("Müller", tmp_path / "Müller.h5")]
    message = missing_bags_message("set", missing, 2, ["Mu\u0308ller", "x"])
    assert "1 of these have the name of a slide in other letters" in message
    assert "such as 'Mu\\u0308ller': rename them in composed letters (NFC)" in message
    assert "look the same" not in missing_bags_message("set", missing, 2, ["x"])
