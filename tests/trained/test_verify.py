"""A head that was given away: whether it is what it was, and what differs if not."""

import json
from hashlib import sha256

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import FormatError
from mil.heads import abmil, head_names
from mil.trained.seal import EXAMPLE, SEAL, seal, verify
from tests.interop.made import make

FILES = [
    "example.safetensors",
    "head.safetensors",
    "history.json",
    "last.safetensors",
    "recipe.json",
]


@pytest.fixture
def sealed(tmp_path):
    seal(make(tmp_path / "one"))
    return tmp_path / "one"


@pytest.mark.parametrize("name", head_names())
def test_every_head_can_be_sealed(tmp_path, name):
    seal(make(tmp_path, name))
    assert verify(tmp_path) == []
    assert sorted(json.loads((tmp_path / SEAL).read_text())["sha256"]) == FILES


def test_the_same_head_has_the_same_seal(tmp_path, sealed):
    first = [(sealed / name).read_bytes() for name in (SEAL, EXAMPLE)]
    seal(sealed)
    assert [(sealed / name).read_bytes() for name in (SEAL, EXAMPLE)] == first


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_missing_file_is_named(sealed, name):
    path = sealed / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert verify(sealed) == [
        f"{path}: is not the file that was sealed; get it again from where it came"
    ]
    path.unlink()
    assert verify(sealed) == [f"{path}: is missing; get the folder again from where it came"]
    path.write_bytes(whole)
    assert verify(sealed) == []


def test_another_answer_to_the_example_is_said(sealed, monkeypatch):
    """As when a release of the tool computes something else from the same files."""
    real = abmil.Head.answer
    monkeypatch.setattr(
        abmil.Head, "answer", lambda self, pooled, scores: real(self, pooled * 2, scores)
    )
    faults = verify(sealed)
    assert len(faults) == 2
    assert faults[0].startswith(f"{sealed}: its files are as sealed (by mil ")
    assert "but the example bag gives logits " in faults[0]
    assert "but the example bag gives predictions " in faults[1]
    assert all("\n" not in fault for fault in faults)


def test_rounding_is_not_a_difference(sealed):
    path = sealed / SEAL
    said = json.loads(path.read_text())
    for shift, faults in ((2e-5, 0), (1e-2, 1)):
        path.write_text(json.dumps({**said, "logits": [value + shift for value in said["logits"]]}))
        assert len(verify(sealed)) == faults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not the seal of a head"),
        ("[]", "not the seal of a head"),
        ("[" * 100_000, "not the seal of a head"),
        (
            '{"format": "mil.seal", "format_version": 9}',
            "expected mil.seal version 1, found mil.seal version 9",
        ),
        (
            '{"format": "mil.seal", "format_version": 1, "tool_version": "1", '
            '"answers": [], "logits": [],'
            ' "sha256": {"../x": ""}}',
            "sha256",
        ),
    ],
)
def test_a_seal_that_is_none_is_one_line(sealed, text, message):
    (sealed / SEAL).write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        verify(sealed)
    assert "\n" not in str(caught.value)


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
    said = json.loads((folder / SEAL).read_text())
    said["sha256"][EXAMPLE] = sha256((folder / EXAMPLE).read_bytes()).hexdigest()
    (folder / SEAL).write_text(json.dumps(said))


def test_a_seal_that_leaves_files_out_is_no_seal(sealed):
    said = json.loads((sealed / SEAL).read_text())
    (sealed / SEAL).write_text(json.dumps({**said, "sha256": {}}))
    assert [line.split(": ")[1] for line in verify(sealed)] == [
        f"does not speak of {name}; get it again"
        for name in ("head.safetensors", "recipe.json", EXAMPLE)
    ]


def test_the_command_goes_through_all_heads_of_a_folder(tmp_path, sealed):
    make(tmp_path / "two", seed=2)
    done = CliRunner().invoke(app, ["heads", "verify", str(tmp_path)])
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert (
        lines[0]
        == f"{sealed}: ok: its files are as sealed, and it predicts the example bag as it did"
    )
    assert lines[1].startswith(f"{tmp_path / 'two'}: has no seal.json, ")
    assert (
        CliRunner().invoke(app, ["heads", "verify", "--seal", str(tmp_path / "two")]).exit_code == 0
    )
    assert CliRunner().invoke(app, ["heads", "verify", str(tmp_path)]).exit_code == 0
    (sealed / "head.safetensors").unlink()
    assert CliRunner().invoke(app, ["heads", "verify", str(sealed)]).exit_code == 1


def test_a_folder_without_heads(tmp_path):
    done = CliRunner().invoke(app, ["heads", "verify", str(tmp_path)])
    assert (done.exit_code, str(done.exception)) == (
        1,
        f"{tmp_path}: has no trained head in it; give a folder with recipe.json and "
        "head.safetensors",
    )
