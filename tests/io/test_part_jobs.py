"""Lists of slides: what is current stays, a failure stops no other, a kill loses one slide."""

import threading
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import ConfigError, FormatError, MilError
from mil.io.checksums import write_arrays
from mil.io.h5 import writing
from mil.io.part_jobs import Output, finish, pull_jobs, read_times, run_jobs, times_path
from mil.io.provenance import digest_of, file_digest, made_from
from mil.io.tables import read_csv
from mil.io.tables.parts import WHOLE, Part, number_of_parts, parse_part, parts_of
from tests.messages import one_line


@dataclass(frozen=True)
class Job:
    """A file whose content is that of its source."""

    slide: str
    folder: Path

    def outputs(self) -> list[Output]:
        source = file_digest(self.folder / f"{self.slide}.txt")
        digest = digest_of("score", source=source)
        return [Output(self.folder / f"{self.slide}.h5", digest)]


def make(job: Job, stale) -> str:
    content = (job.folder / f"{job.slide}.txt").read_text()
    if content == "bad":
        raise FormatError(f"{job.slide}.txt: is bad")
    if content == "kill":
        raise KeyboardInterrupt
    with writing(stale[0].path, "mil.score", 1, made_from=stale[0].digest) as file:
        file["content"] = np.frombuffer(content.encode(), np.uint8)
    return f"{job.slide}: {content}"


@pytest.fixture
def jobs(tmp_path) -> list[Job]:
    for slide in "abc":
        (tmp_path / f"{slide}.txt").write_text(f"text of {slide}")
    return [Job(slide, tmp_path) for slide in "abc"]


def lines(jobs: list[Job], **options: bool) -> list[str]:
    return [result.line for result in run_jobs("copy", jobs, make, **options)]


def test_only_what_is_not_current_is_made(jobs, tmp_path):
    assert lines(jobs) == ["a: text of a", "b: text of b", "c: text of c"]
    assert lines(jobs) == ["", "", ""]
    (tmp_path / "b.txt").write_text("another text")
    (tmp_path / "c.h5").unlink()
    assert lines(jobs) == ["", "b: another text", "c: text of c"]
    assert lines(jobs, keep=False) == ["a: text of a", "b: another text", "c: text of c"]


def test_an_output_that_is_damaged_or_of_nothing_known_is_made_again(jobs, tmp_path):
    lines(jobs)
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:100])
    (tmp_path / "b.h5").unlink()
    with writing(tmp_path / "b.h5", "mil.score", 1):
        pass
    assert [bool(line) for line in lines(jobs)] == [True, True, False]


def test_an_output_whose_numbers_changed_is_made_again(jobs, tmp_path):
    lines(jobs)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_arrays(file, {"x": np.arange(9)})
        file.attrs.update(made_from=str(jobs[0].outputs()[0].digest), complete=True)
    assert lines(jobs)[0] == ""
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["x"][4] = 5
    assert [bool(line) for line in lines(jobs)] == [True, False, False]


def test_a_slide_that_fails_harms_no_other_and_there_is_no_table(jobs, tmp_path, capsys):
    (tmp_path / "b.txt").write_text("bad")
    table = tmp_path / "parts.csv"
    with one_line(MilError, match="^copy: 1 of 3 slides failed: b.txt: is bad$"):
        finish("copy", run_jobs("copy", jobs, make), [table])
    assert not table.exists()
    assert capsys.readouterr() == ("copy a: text of a\ncopy c: text of c\n", "copy b.txt: is bad\n")
    (tmp_path / "b.txt").write_text("mended")
    finish("copy", run_jobs("copy", jobs, make), [table])
    assert capsys.readouterr().out == "copy b: mended\ncopy: 2 of 3 slides are current\n"
    digests = {row["slide"]: row["made_from"] for row in read_csv(table)}
    assert digests == {slide: made_from(tmp_path / f"{slide}.h5") for slide in "abc"}


def test_a_killed_list_goes_on_where_it_was(jobs, tmp_path):
    (tmp_path / "c.txt").write_text("kill")
    with pytest.raises(KeyboardInterrupt):
        lines(jobs)
    (tmp_path / "c.txt").write_text("text of c")
    assert lines(jobs) == ["", "", "c: text of c"]


def test_an_output_lacks_what_lies_beside_it(jobs, tmp_path):
    lines(jobs)
    (output,) = jobs[0].outputs()
    assert output.current
    assert not Output(output.path, output.digest, (tmp_path / "a.png",)).current


def test_a_files_digest_is_of_its_size_and_ends(tmp_path):
    path = tmp_path / "large"
    content = bytearray(1 << 20)
    path.write_bytes(content)
    before = file_digest(path)
    content[1 << 19] = 1
    path.write_bytes(content)
    assert file_digest(path) == before
    assert file_digest(path, None) != before
    content[-1] = 1
    path.write_bytes(content)
    assert file_digest(path) != before
    assert file_digest(tmp_path / "absent") == file_digest(None) == ""


def test_a_part_by_its_name():
    assert parse_part("3/8") == parse_part("3of8") == Part(3, 8)
    assert parse_part("") == WHOLE
    assert Part(3, 8).name == "3of8"
    for text in ("0/8", "9/8", "3/0", "3", "3/8/9", "-1/8", "third", "1/99999999"):
        with pytest.raises(ConfigError, match="such as 3/8"):
            parse_part(text)


@settings(max_examples=30)
@given(st.sets(st.text(min_size=1, max_size=4), max_size=20), st.integers(1, 8))
def test_parts_hold_every_slide_once_and_nest(slides, slides_per_job):
    count = number_of_parts(len(slides), slides_per_job)
    fine = parts_of(slides, 2 * count)
    members = [slide for part in fine.values() for slide in part]
    assert sorted(members) == sorted(slides)
    for coarse in parts_of(slides, count).values():
        inside = [part for part in fine.values() if set(part) <= set(coarse)]
        assert sorted(slide for part in inside for slide in part) == sorted(coarse)
    before = parts_of(sorted(slides), count)
    after = parts_of([*sorted(slides), "one more"], count)
    assert sum(after[name] != before.get(name) for name in after) == 1


def test_numbered_slides_are_spread_evenly():
    ids = [f"{kind}_{number:03d}" for kind in ("tumor", "normal") for number in range(1, 161)]
    sizes = [len(part) for part in parts_of(ids, 16).values()]
    assert min(sizes) >= 16
    assert max(sizes) <= 24


def test_a_slow_slide_holds_back_no_other_and_the_table_keeps_its_order(jobs, tmp_path):
    others_done = threading.Event()
    makers_of: dict[str, str] = {}

    def maker(name: str):
        def make_one(job: Job, stale) -> str:
            makers_of[job.slide] = name
            # Ends only because another maker takes the slides after this one.
            if job.slide == "a":
                assert others_done.wait(30)
            line = make(job, stale)
            if job.slide == "c":
                others_done.set()
            return line

        return make_one

    results = list(pull_jobs("copy", jobs, [maker("one"), maker("two")]))
    assert [result.slide for result in results] == ["b", "c", "a"]
    assert makers_of["b"] == makers_of["c"] != makers_of["a"]
    table = tmp_path / "parts.csv"
    finish("copy", results, [table], jobs)
    assert [row["slide"] for row in read_csv(table)] == ["a", "b", "c"]
    assert lines(jobs) == ["", "", ""]


def test_of_several_makers_a_slide_that_fails_harms_no_other(jobs, tmp_path):
    (tmp_path / "b.txt").write_text("bad")
    results = {result.slide: result for result in pull_jobs("copy", jobs, [make, make])}
    assert [results[slide].failed for slide in "abc"] == [False, True, False]
    assert results["b"].line == "b.txt: is bad"
    assert [result.line for result in pull_jobs("copy", jobs, [make] * 4)].count("") == 2


def test_what_stops_a_maker_stops_the_list_and_slides_in_hand_are_finished(jobs, tmp_path):
    (tmp_path / "a.txt").write_text("kill")
    both_at_work = threading.Barrier(2)

    def make_one(job: Job, stale) -> str:
        both_at_work.wait(30)
        return make(job, stale)

    with pytest.raises(KeyboardInterrupt):
        list(pull_jobs("copy", jobs[:2], [make_one] * 2))
    (tmp_path / "a.txt").write_text("text of a")
    assert lines(jobs[:2]) == ["a: text of a", ""]


def test_seconds_of_slides_lie_beside_the_table_and_stay_for_those_that_stay(jobs, tmp_path):
    table = tmp_path / "parts" / "1of2.csv"
    times = times_path(table)
    finish("copy", run_jobs("copy", jobs, make), [table])
    assert times.name == "1of2.times"
    assert sorted(read_times(times)) == ["a", "b", "c"]
    content = table.read_bytes()
    times.write_text('{"a": 7.5, "b": 8.25, "gone": 1.0}')
    (tmp_path / "b.txt").write_text("another text")
    table.unlink()
    finish("copy", run_jobs("copy", jobs, make), [table])
    assert b"seconds" not in content
    after = read_times(times)
    assert sorted(after) == ["a", "b"]
    assert after["a"] == 7.5
    assert after["b"] < 8.25


def test_times_that_are_none_are_passed_over(tmp_path):
    path = tmp_path / "1of1.times"
    assert read_times(path) == {}
    for text in ("", "[1]", '{"a": "x", "b": -1, "c": 2}', "{" * 9999):
        path.write_text(text)
        assert read_times(path) == ({"c": 2.0} if "c" in text else {})
