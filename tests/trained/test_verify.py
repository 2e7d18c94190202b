"""The manifest of a trained head: unchanged files, unchanged predictions, and faults by name."""

import json
from hashlib import sha256

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import FormatError
from mil.heads import abmil, head_names
from mil.trained.folder import load_trained
from mil.trained.manifest import EXAMPLE, MANIFEST
from mil.trained.seal import verify, write_manifest
from tests.interop.made import make
from tests.messages import one_line

FILES = [
    "example.safetensors",
    "head.safetensors",
    "history.json",
    "last.safetensors",
    "recipe.json",
]


@pytest.fixture
def sealed(tmp_path):
    write_manifest(make(tmp_path / "one"))
    return tmp_path / "one"


@pytest.mark.parametrize("name", head_names())
def test_every_head_can_be_sealed(tmp_path, name):
    write_manifest(make(tmp_path, name))
    assert verify(tmp_path) == []
    assert sorted(json.loads((tmp_path / MANIFEST).read_text())["sha256"]) == FILES


def test_the_same_head_has_the_same_manifest(tmp_path, sealed):
    first = [(sealed / name).read_bytes() for name in (MANIFEST, EXAMPLE)]
    write_manifest(sealed)
    assert [(sealed / name).read_bytes() for name in (MANIFEST, EXAMPLE)] == first


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_missing_file_is_named(sealed, name):
    path = sealed / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert verify(sealed) == [
        f"{path}: differs from its checksum in seal.json; delete it and run again where a run "
        "trained it, else get the folder again from its source"
    ]
    path.unlink()
    assert verify(sealed) == [f"{path}: is missing; get the folder again from its source"]
    path.write_bytes(whole)
    assert verify(sealed) == []


def test_another_prediction_for_the_example_is_a_fault(sealed, monkeypatch):
    """As when a release of the tool computes something else from the same files."""
    real = abmil.Head.predict
    monkeypatch.setattr(
        abmil.Head, "predict", lambda self, pooled, scores: real(self, pooled * 2, scores)
    )
    faults = verify(sealed)
    assert len(faults) == 2
    assert faults[0].startswith(f"{sealed}: its files are unchanged since mil ")
    assert "but the example bag gives logits " in faults[0]
    assert "but the example bag gives predictions " in faults[1]
    assert all("\n" not in fault for fault in faults)


def test_rounding_is_not_a_difference(sealed):
    path = sealed / MANIFEST
    manifest = json.loads(path.read_text())
    for shift, faults in ((2e-5, 0), (1e-2, 1)):
        shifted = [value + shift for value in manifest["logits"]]
        path.write_text(json.dumps({**manifest, "logits": shifted}))
        assert len(verify(sealed)) == faults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not the manifest of a head"),
        ("[]", "not the manifest of a head"),
        ("[" * 100_000, "not the manifest of a head"),
        (
            '{"format": "mil.seal", "format_version": 9}',
            "expected mil.seal version 1, found mil.seal version 9",
        ),
        (
            '{"format": "mil.seal", "format_version": 1, "tool_version": "1", "answers": [], '
            '"logits": [], "sha256": {"../x": ""}}',
            "sha256",
        ),
    ],
)
def test_a_damaged_manifest_is_one_line(sealed, text, message):
    (sealed / MANIFEST).write_text(text)
    with one_line(FormatError, match=message):
        verify(sealed)


def test_an_example_for_another_head_is_one_line(sealed):
    features = load_file(sealed / EXAMPLE)["features"]
    save_file({"features": features[:, :3].contiguous()}, sealed / EXAMPLE)
    seal_example(sealed)
    with pytest.raises(FormatError, match="is no bag for this head"):
        verify(sealed)


def test_an_example_without_tiles_is_one_line(sealed):
    example = load_file(sealed / EXAMPLE)
    save_file({name: values[:0].contiguous() for name, values in example.items()}, sealed / EXAMPLE)
    seal_example(sealed)
    with pytest.raises(FormatError, match="is no bag for this head"):
        verify(sealed)


def seal_example(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"][EXAMPLE] = sha256((folder / EXAMPLE).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_manifest_that_leaves_files_out_proves_nothing(sealed):
    manifest = json.loads((sealed / MANIFEST).read_text())
    (sealed / MANIFEST).write_text(json.dumps({**manifest, "sha256": {}}))
    assert [line.split(": ")[1] for line in verify(sealed)] == [
        f"has no checksum of {name}; get the folder again from its source"
        for name in ("head.safetensors", "recipe.json", EXAMPLE)
    ]


def test_the_command_goes_through_all_heads_of_a_folder(tmp_path, sealed):
    make(tmp_path / "two", seed=2)
    result = CliRunner().invoke(app, ["heads", "verify", str(tmp_path)])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == f"{sealed}: ok: its files and its predictions for the example are unchanged"
    assert lines[1].startswith(f"{tmp_path / 'two'}: has no seal.json, ")
    assert (
        CliRunner().invoke(app, ["heads", "verify", "--seal", str(tmp_path / "two")]).exit_code == 0
    )
    assert CliRunner().invoke(app, ["heads", "verify", str(tmp_path)]).exit_code == 0
    (sealed / "head.safetensors").unlink()
    assert CliRunner().invoke(app, ["heads", "verify", str(sealed)]).exit_code == 1


def test_a_folder_without_heads(tmp_path):
    result = CliRunner().invoke(app, ["heads", "verify", str(tmp_path)])
    assert (result.exit_code, str(result.exception)) == (
        1,
        f"{tmp_path}: has no trained head in it; give a folder with recipe.json and "
        "head.safetensors",
    )


@pytest.mark.parametrize("name", ["head.safetensors", "recipe.json"])
def test_a_changed_head_is_not_loaded(sealed, name):
    load_trained(sealed)
    path = sealed / name
    whole = path.read_bytes()
    # Digits of the settings, or bits of the weights: the head would load all the same.
    path.write_bytes(whole.replace(b"0.1", b"0.2") if name.endswith("json") else flipped(whole))
    with one_line(FormatError, match=rf"{name}: differs from its checksum in seal.json"):
        load_trained(sealed)
    write_manifest(sealed)
    load_trained(sealed)


def flipped(content):
    return content[:-4] + bytes(byte ^ 1 for byte in content[-4:])


def test_last_weights_are_held_against_the_manifest_too(sealed):
    last = sealed / "last.safetensors"
    last.write_bytes(flipped(last.read_bytes()))
    load_trained(sealed)
    with one_line(FormatError, match=r"last\.safetensors: differs"):
        load_trained(sealed, "last")


def test_weights_that_the_manifest_does_not_list_are_not_loaded(sealed):
    (sealed / "last.safetensors").unlink()
    write_manifest(sealed)
    (sealed / "last.safetensors").write_bytes((sealed / "head.safetensors").read_bytes())
    with one_line(FormatError, match=r"has no checksum of last\.safetensors"):
        load_trained(sealed, "last")


def test_a_damaged_manifest_is_one_line_and_a_head_without_one_loads(sealed):
    (sealed / MANIFEST).write_text("{")
    with one_line(FormatError, match=r"seal\.json: not the manifest"):
        load_trained(sealed)
    (sealed / MANIFEST).unlink()
    load_trained(sealed)
