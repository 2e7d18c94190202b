"""Remedies are true for the cause that they are given for; the causes are made, not quoted."""

import os

import numpy as np
import pytest
import tifffile

from mil.encoders.runner import state_after_reading
from mil.errors import CorruptRegionsError, SlideError
from mil.io.bags.advice import (
    ADVICE,
    ADVICE_OF_BAGS,
    CONVERT,
    DAMAGED_FILE,
    GIVE_FILE,
    LOOK_AT_PATH,
    remedy,
    remedy_before_run,
    remedy_of_one,
)
from mil.io.bags.status import SlideState
from mil.io.slides import SlideReader
from mil.io.tiles import STATES
from mil.tile.checks import check_loss


def reason_of(path):
    """The reason why a slide does not open."""
    with pytest.raises(SlideError) as caught, SlideReader(path):
        pass
    return caught.value.reason


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (None, LOOK_AT_PATH),
        ("folder", GIVE_FILE),
        ("pipe", GIVE_FILE),
        (b"%PDF-1.4", GIVE_FILE),
        (b"<html>gone", GIVE_FILE),
        (b"", DAMAGED_FILE),
        (b"II*\0\x08\0\0\0", DAMAGED_FILE),
        ("strips", CONVERT),
        (b"no slide", ADVICE["unreadable"]),
    ],
)
def test_a_file_that_does_not_open(tmp_path, content, advice):
    path = tmp_path / "a.tif"
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content == "strips":
        tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    elif content is not None:
        path.write_bytes(content)
    reason = reason_of(path)
    assert remedy("unreadable", reason) == advice
    assert remedy_of_one("unreadable", reason) == advice
    assert remedy_before_run("unreadable", reason, dataset="d", slides_dir="s") == advice


@pytest.mark.parametrize("state", [state for state in STATES if state != "ok"])
def test_every_state_has_a_remedy_at_every_door(state):
    assert remedy(state, "")
    assert remedy_before_run(state, "", dataset="d", slides_dir="s")
    assert remedy_of_one(state, "")


def test_a_file_without_permission_is_not_damaged():
    reason = "cannot be read: Permission denied"
    assert remedy("unreadable", reason).startswith("look at its permissions")


def test_what_must_be_converted_is_not_copied_again():
    for reason in (
        "level 0 is stored in pieces of 900 MB; write it again with tiles of 512 px",
        "an OME-TIFF in several files; write it again as one",
        "an OME-TIFF of (3, 9, 9) (CYX, uint16); only 8-bit RGB is read",
        "pixels at (0, 0) cannot be decoded: Failure in TIFFRGBAImageOK: Sorry, can not handle "
        "images with 32-bit samples",
    ):
        assert remedy("unreadable", reason) == CONVERT


def test_no_setting_is_named_where_none_helps(tmp_path):
    with pytest.raises(CorruptRegionsError) as caught:
        check_loss(tmp_path / "a.tif", 0.2)
    assert remedy("corrupt_regions", caught.value.reason) == DAMAGED_FILE
    for valid in (np.zeros(7, bool), np.zeros(12, bool)):
        state, reason = state_after_reading(valid, len(valid), max_corrupt=1.0)
        assert remedy(state, reason) == DAMAGED_FILE
    state, reason = state_after_reading(np.arange(7) > 2, 7, max_corrupt=0.01)
    assert remedy(state, reason).endswith("or raise features.max_corrupt")


@pytest.mark.parametrize("state", ["no_tissue", "no_mpp", "unreadable", "corrupt_regions"])
def test_a_precomputed_bag_is_not_mended_by_settings_of_tiling(state):
    assert SlideState("a", state, "why", precomputed=True).advice == ADVICE_OF_BAGS
    assert SlideState("a", "no_bag", "why", precomputed=True).advice == ADVICE["no_bag"]
    assert SlideState("a", "ok", precomputed=True).advice == ""


def test_before_a_run_commands_name_the_folder_of_the_slides():
    text = remedy_before_run("not_fetched", "", dataset="d", slides_dir="my slides")
    assert "`snakemake --cores all --until fetch --config dataset=d slides_dir='my slides'`" in text
    # There is no QC image before the run.
    text = remedy_before_run("no_tissue", "", dataset="d", slides_dir="s")
    assert "run `--until tile` and look at its QC image" in text


def test_a_pixel_size_for_one_slide_is_not_given_to_all():
    assert "predict this one by itself" in remedy_of_one("no_mpp", "no pixel size")
