"""N in, N out, and why."""

import numpy as np
import pytest

from mil.errors import (
    ConfigError,
    FormatError,
    SlideError,
)
from mil.io.bags.advice import ADVICE
from mil.io.bags.status import SlideState, gather, gather_by_encoder, summary
from mil.io.tiles import STATES, write_tiles
from tests.synthetic import bag_file, make_tiles


@pytest.fixture
def folders(tmp_path):
    tiles = tmp_path / "tile"
    bags = tmp_path / "features"
    for name, state in {"a": "ok", "b": "no_tissue", "c": "ok", "d": "ok"}.items():
        coords = np.zeros((int(state == "ok"), 2))
        write_tiles(
            tiles / f"{name}.h5",
            make_tiles(coords, slide=name, state=state, reason=state.replace("ok", "")),
        )
    bag_file(bags / "a.h5", "a", np.ones((1, 4)))
    bag_file(
        bags / "c.h5",
        "c",
        np.ones((9, 4)),
        state="corrupt_regions",
        reason="5 of 9 tiles cannot be decoded",
    )
    return [tiles], [bags]


def test_the_bag_speaks_before_the_tiles(folders):
    assert gather(["a", "b", "c", "d", "e"], *folders) == [
        SlideState("a", "ok"),
        SlideState("b", "no_tissue", "no_tissue"),
        SlideState("c", "corrupt_regions", "5 of 9 tiles cannot be decoded"),
        SlideState("d", "not reached"),
        SlideState("e", "not reached"),
    ]


def test_a_slide_is_ok_if_it_is_so_for_all_encoders(folders, tmp_path):
    (tiles,), (bags,) = folders
    other = tmp_path / "other"
    bag_file(other / "a.h5", "a", np.ones((2, 4)), state="corrupt_regions", reason="2 of 2")
    bag_file(other / "c.h5", "c", np.ones((2, 4)))
    states = gather(["a", "c"], [tiles, tiles], [bags, other])
    assert [state.state for state in states] == ["corrupt_regions", "corrupt_regions"]


def test_ready_bags_have_no_tiles(folders):
    _, (bags,) = folders
    assert gather(["a", "c", "d"], [], [bags]) == [
        SlideState("a", "ok"),
        SlideState("c", "corrupt_regions", "5 of 9 tiles cannot be decoded"),
        SlideState("d", "no_bag", f"there is no {bags}/d.h5"),
    ]


def test_a_ready_bag_is_of_the_slide_that_its_name_says(folders):
    _, (bags,) = folders
    (bags / "a.h5").rename(bags / "d.h5")
    with pytest.raises(
        FormatError,
        match=r"d\.h5: is the bag of slide 'a'; give it that name, or make the bag of d again",
    ):
        gather(["d"], [], [bags])


def test_a_folder_of_tiles_for_each_of_bags_or_none(folders):
    (tiles,), (bags,) = folders
    with pytest.raises(
        ConfigError, match="1 folders of tiles, but 2 of bags; give one for each encoder, or none"
    ):
        gather(["a"], [tiles], [bags, bags])


def test_a_half_written_file_is_not_passed_over(folders):
    (folders[1][0] / "a.h5").write_bytes((folders[1][0] / "a.h5").read_bytes()[:500])
    with pytest.raises(FormatError, match="cut short"):
        gather(["a"], *folders)


def test_summary_counts_and_tells_what_to_do(folders):
    lines = summary(gather(["a", "b", "c", "d", "e"], *folders)).splitlines()
    assert lines[0] == "5 in, 1 out, 1 corrupt_regions, 1 no_tissue, 2 not reached"
    assert lines[1] == f"  b  no_tissue: no_tissue; {ADVICE['no_tissue']}"
    assert lines[2].startswith(
        "  c  corrupt_regions: 5 of 9 tiles cannot be decoded; copy it again"
    )
    # Slides of one state and reason share a line.
    assert lines[3] == f"  d, e  not reached; {ADVICE['not reached']}"
    assert len(lines) == 4


def test_summary_of_many_lost_slides_is_short_where_it_must_be():
    states = [SlideState(name, "unreadable", f"fault {name}") for name in "abc"]
    lines = summary(states, most=1).splitlines()
    assert lines[0] == "3 in, 0 out, 3 unreadable"
    assert lines[1].startswith("  a  unreadable: fault a; ")
    assert lines[2:] == ["  2 more slides; `mil summary` without --most lists them"]


def test_summary_of_a_good_run():
    assert summary([SlideState("a", "ok"), SlideState("b", "ok")]) == "2 in, 2 out"


def test_every_state_has_advice():
    assert set(ADVICE) == {*STATES, "not reached", "no_bag"} - {"ok"}
    errors = SlideError.__subclasses__()
    assert {error.state for error in errors} == set(STATES) - {"ok"}


def test_tiles_are_counted_where_that_is_asked_for(tmp_path):
    bag_file(tmp_path / "a.h5", "a", np.ones((3, 2)), valid=np.array([True, False, True]))
    (counted,) = gather_by_encoder(["a"], [], [tmp_path], tally=True)[0]
    assert (counted.tally.num_tiles, counted.tally.num_unreadable) == (3, 1)
    assert counted.tally.header.encoder == "tiny"
    (plain,) = gather(["a"], [], [tmp_path])
    assert plain == counted
    assert plain.tally is None
