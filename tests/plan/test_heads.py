"""Heads that were changed after they were sealed are named before a run."""

import json
import os
from hashlib import sha256

import pytest

from mil.plan import heads
from mil.plan.heads import damaged_heads
from mil.trained.manifest import FILES, FORMAT, MANIFEST, VERSION


@pytest.fixture
def head(tmp_path):
    """A head whose manifest is newer than its files."""
    for name in FILES:
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    digests = {name: sha256(name.encode()).hexdigest() for name in FILES}
    manifest = {"tool_version": "1", "sha256": digests, "logits": [0.0], "answers": [0.5]}
    text = json.dumps({"format": FORMAT, "format_version": VERSION, **manifest})
    (tmp_path / MANIFEST).write_text(text)
    return tmp_path


def change(file, when=2**31):
    file.write_text("changed")
    os.utime(file, (when, when))


def test_a_changed_file_is_named_with_what_to_do(head):
    assert damaged_heads([head, head / "absent"]) == []
    os.utime(head / "last.safetensors", (2**31, 2**31))
    assert damaged_heads([head]) == []
    change(head / "recipe.json")
    (line,) = damaged_heads([head])
    assert line.startswith(f"{head / 'recipe.json'}: differs from its checksum in seal.json; ")
    assert "delete it and run again" in line


def test_only_heads_that_seem_changed_are_read(head, monkeypatch):
    change(head / "recipe.json", when=1)
    assert damaged_heads([head]) == []
    change(head / "recipe.json")
    # Of a folder that was copied, all of them.
    monkeypatch.setattr(heads, "MOST_READ", 1)
    assert damaged_heads([head, head]) == []
    # A training that is not finished.
    (head / MANIFEST).unlink()
    assert damaged_heads([head]) == []
