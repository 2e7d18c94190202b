"""The folder of a trained head: who may read it, and what is said when it cannot be used here."""

import json
import shutil

import pytest

from mil.config import Recipe
from mil.errors import DatasetError, FormatError
from mil.heads import build_head
from mil.tasks import Classification
from mil.trained import Trained, load_heads, load_trained, save_trained
from tests.messages import one_line


@pytest.fixture
def folder(tmp_path):
    recipe = Recipe(name="mean", options={"hidden": 4}, losses={"cross_entropy": 1})
    trained = Trained(
        recipe_name="mean",
        recipe=recipe,
        encoder="tiny",
        weights_sha256="",
        tiling="224px_0.5mpp",
        dim=3,
        task=Classification(classes=["normal", "tumour"], positive="tumour"),
        dataset="d",
        seed=1,
        fold=0,
        epoch=1,
    )
    save_trained(
        tmp_path, trained, build_head("mean", recipe.options, dim=3, classes=2).state_dict(), {}
    )
    return tmp_path


def test_weights_may_be_read_by_whoever_may_read_the_rest(folder):
    modes = {path.name: path.stat().st_mode for path in folder.iterdir()}
    assert modes["head.safetensors"] == modes["recipe.json"]


def test_nothing_of_earlier_weights_stays_beside_new_ones(folder, monkeypatch):
    head, trained = load_trained(folder)
    for name in ("seal.json", "MODEL_CARD.md", "last.safetensors"):
        (folder / name).write_text("of the earlier weights")

    def killed(path, value):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mil.trained.folder.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            save_trained(folder, trained, head.state_dict(), {})
    assert {path.name for path in folder.iterdir()} == {"recipe.json", "history.json"}
    save_trained(folder, trained, head.state_dict(), {})
    assert {path.name for path in folder.iterdir()} == {
        "recipe.json",
        "history.json",
        "head.safetensors",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"members": [{"seed": 1, "part": 0, "restart": i, "epoch": 1} for i in range(999)]},
            r"head.safetensors: does not fit recipe.json: 999 members there, 0 here; ",
        ),
        (
            {"calibration": {"intercepts": [0.1, 0.2, 0.3]}},
            r"intercepts: must be as many as the head has outputs \(2\), not 3",
        ),
        ({"calibration": {"intercepts": [float("nan"), 0.0]}}, "calibration.intercepts.0: "),
    ],
)
def test_a_record_that_claims_more_than_there_is_is_refused(folder, change, message):
    path = folder / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with one_line(FormatError, match=message):
        load_trained(folder)


@pytest.mark.parametrize(
    ("change", "message", "end"),
    [
        (
            {"name": "top_mean"},
            "no head named 'top_mean'; did you mean 'mean'? ",
            "needs that to be installed",
        ),
        (
            {"options": {"hiden": 4}},
            "head mean: options: no key named 'hiden'; did you mean 'hidden'? ",
            "routers",
        ),
    ],
)
def test_a_head_that_is_not_here_is_one_line_with_its_file(folder, change, message, end):
    path = folder / "recipe.json"
    said = json.loads(path.read_text())
    said["recipe"] |= change
    path.write_text(json.dumps(said))
    with pytest.raises(FormatError) as caught:
        load_trained(folder)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith(end)


def test_a_folder_of_version_1_is_of_classes(folder):
    path = folder / "recipe.json"
    said = json.loads(path.read_text())
    task = said.pop("task")
    path.write_text(
        json.dumps({**said, "format_version": 1, "classes": task["classes"], "positive": "normal"})
    )
    trained = load_trained(folder)[1]
    assert trained.task == Classification(classes=["normal", "tumour"], positive="normal")
    assert (trained.classes, trained.positive) == (["normal", "tumour"], "normal")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "expected mil.head version 2, found mil.head version 3"),
        (
            {"task": {"kind": "classification", "classes": ["a"], "positive": "b"}},
            "positive is 'b', which is none of",
        ),
        ({"format_version": 1}, "not the folder of a trained head: 'classes'"),
    ],
)
def test_another_version_or_task_is_one_line(folder, change, message):
    path = folder / "recipe.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with one_line(FormatError, match=message):
        load_trained(folder)


def test_a_recipe_nested_too_deep_is_one_line(folder):
    (folder / "recipe.json").write_text("[" * 100_000)
    with one_line(FormatError, match="not the folder of a trained head"):
        load_trained(folder)


def test_heads_of_one_recipe_that_was_changed_in_between_are_not_averaged(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("recipe.json", "head.safetensors"):
        shutil.copy(folder / name, other)
    said = json.loads((other / "recipe.json").read_text())
    said["recipe"]["train"]["lr"] = 0.5
    said["recipe"]["losses"]["branch_diversity"] = {"start": 1.0, "end": None}
    (other / "recipe.json").write_text(json.dumps(said))
    assert len(load_heads([folder, folder])) == 2
    with pytest.raises(DatasetError, match=r"other settings \(losses.branch_diversity, train.lr\)"):
        load_heads([folder, other])
