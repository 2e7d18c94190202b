"""The crate lists what is there, and names of strangers stay data."""

import json
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import pytest

from mil.crate.stage import NAME, CrateFacts, run
from mil.errors import FormatError
from tests.interop.layouts import mil
from tests.messages import one_line

FACTS = CrateFacts(("Jane <b>Doe</b>", "John"), "CC-BY-4.0", "2026-11-30")


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "toy study"
    files = {
        "report.html": "<html>",
        "report.json": "{}",
        "config.json": "{}",
        "notes.txt": "of the user",
        "report_slides/a.html": "<html>",
        "evaluate/t/e/h/metrics.json": "{}",
        "heatmap/t/e/h/a b.png": "png",
        "train/t/e/h/seed1_fold0of1/head.safetensors": "weights",
        "train/t/e/h/seed1_fold0of1/.partial-x": "left over",
        "features/t/e/a.h5": "12345",
        "features/t/e/b.h5": "123",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (tmp_path / "secret.txt").write_text("of another folder")
    (folder / "evaluate" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "compare").symlink_to(tmp_path)
    return folder


def entities(results, facts=FACTS):
    content = json.loads(run(results, facts).read_text())
    assert content["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    by_id = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(by_id) == len(content["@graph"])
    return by_id


def test_every_file_is_listed_with_its_size_and_digest(results):
    by_id = entities(results)
    files = {key: entity for key, entity in by_id.items() if entity["@type"] == "File"}
    assert set(map(unquote, files)) == {
        "report.html",
        "report.json",
        "config.json",
        "report_slides/a.html",
        "evaluate/t/e/h/metrics.json",
        "heatmap/t/e/h/a b.png",
        "train/t/e/h/seed1_fold0of1/head.safetensors",
    }
    picture = files["heatmap/t/e/h/a%20b.png"]
    assert picture["sha256"] == sha256(b"png").hexdigest()
    assert (picture["contentSize"], picture["encodingFormat"]) == ("3", "image/png")
    # Large files of each slide are counted.
    assert by_id["features/"]["description"].endswith("2 files, 8 bytes")
    parts = {part["@id"] for part in by_id["./"]["hasPart"]}
    assert parts == {*files, "features/"}


def test_what_the_specification_requires(results):
    by_id = entities(results)
    assert by_id[NAME]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert by_id[NAME]["about"] == {"@id": "./"}
    root = by_id["./"]
    assert root["datePublished"] == "2026-11-30"
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert [by_id[author["@id"]]["name"] for author in root["author"]] == list(FACTS.authors)
    assert "numpy " in by_id["#mil"]["softwareRequirements"]
    # Each reference leads to an entity, or to a page of others.
    for entity in by_id.values():
        for value in entity.values():
            for reference in value if isinstance(value, list) else [value]:
                if isinstance(reference, dict):
                    assert reference["@id"] in by_id or reference["@id"].startswith("https:")
    # Twice the same.
    first = (results / NAME).read_bytes()
    entities(results)
    assert (results / NAME).read_bytes() == first


@pytest.mark.slow
def test_a_library_for_crates_reads_it_and_knows_each_word(results):
    from rocrate import rocrate

    run(results, FACTS)
    crate = rocrate.ROCrate(results)
    assert crate.name == "Multiple-instance learning on toy study"
    assert {author["name"] for author in crate.root_dataset["author"]} == set(FACTS.authors)
    read = {unquote(entity.id) for entity in crate.data_entities}
    assert all((results / name).exists() for name in read)
    context = json.loads((Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_text())
    content = json.loads((results / NAME).read_text())
    words = {*context["@context"], *content["@context"][1]}
    for entity in content["@graph"]:
        assert {*entity} - {"@id", "@type"} <= words
        assert entity["@type"] in words
        # Flat, as JSON-LD of crates is: a reference is an id alone.
        values = [value if isinstance(value, list) else [value] for value in entity.values()]
        references = [part for value in values for part in value if isinstance(part, dict)]
        assert all(part.keys() == {"@id"} for part in references)


def test_a_licence_that_was_not_stated_is_not_made_up(results):
    by_id = entities(results, CrateFacts((), "", "2026-11-30"))
    assert "not stated" in by_id[by_id["./"]["license"]["@id"]]["name"]
    assert by_id["./"]["author"] == []


def test_wrong_folders_and_days_are_one_line(tmp_path, results):
    with one_line(FormatError, "holds no results of a study"):
        run(tmp_path / "none", FACTS)
    assert "--date 30.11.: is no day" in mil("crate", results, "--date", "30.11.")[1]
    assert mil("crate", results, "--date", "2026-11-30", "--author", "A")[0] == 0
