"""Checkpoints with one fault: one line that names file and fault; nothing run or written."""

import json
import re
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mil.errors import DatasetError, FormatError
from mil.interop.cohort import read_cohort
from mil.trained import load_trained
from tests.interop.published import DIM, drawn, heads, imported, save
from tests.synthetic import bag_file

TRAPPED = []


class Trap:
    """Unpickling this would be noticed."""

    def __reduce__(self):
        return (TRAPPED.append, ("sprung",))


def refused(file, tmp_path, tool="acmil", *options):
    """The line that refuses a file; there is no head then."""
    facts = options or ("--classes", "a,b,c", "--encoder", "tiny")
    code, line = heads("import", file, "--out", tmp_path / "head", "--from", tool, *facts)
    assert code == 1, line
    assert not (tmp_path / "head").exists()
    return line


def put(tmp_path, value, **options):
    torch.save(value, tmp_path / "c.pth", **options)
    return tmp_path / "c.pth"


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "oldest format"])
@pytest.mark.parametrize("place", ["config", "model", "alone", "in a tensor's place"])
def test_no_code_in_a_checkpoint_is_run(tmp_path, place, legacy):
    whole = {"model": drawn("ABMIL"), "config": {}}
    value = {
        "config": whole | {"config": Trap()},
        "model": whole | {"model": Trap()},
        "alone": Trap(),
        "in a tensor's place": drawn("ABMIL") | {"classifier.fc.bias": Trap()},
    }[place]
    line = refused(put(tmp_path, value, _use_new_zipfile_serialization=not legacy), tmp_path)
    assert re.search(r"c\.pth: reading it would run \S+, which is never done", line)
    assert TRAPPED == []


def test_a_class_called_struct_elsewhere_is_not_made(tmp_path):
    file = save(tmp_path / "c.pth", drawn("ABMIL"))
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "d.pth", "w") as new:
        for entry in old.infolist():
            new.writestr(
                entry, old.read(entry).replace(b"utils.utils\nStruct", b"other.utils\nStruct")
            )
    assert "reading it would run other.utils.Struct" in refused(tmp_path / "d.pth", tmp_path)


def test_a_whole_pickled_model(tmp_path):
    line = refused(put(tmp_path, torch.nn.Linear(2, 2)), tmp_path)
    assert "run torch.nn.modules.linear.Linear" in line
    assert "of a model the state_dict()" in line


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "oldest format"])
def test_cut_short(tmp_path, share, legacy):
    file = put(tmp_path, drawn("ABMIL"), _use_new_zipfile_serialization=not legacy)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    assert "not a file saved by torch, cut short or damaged" in refused(file, tmp_path)


def test_something_else(tmp_path):
    file = tmp_path / "c.pth"
    assert refused(file, tmp_path) == f"{file}: no such file"
    assert (
        refused(tmp_path, tmp_path) == f"{tmp_path}: is a folder; give the checkpoint's file in it"
    )
    file.write_text("not a checkpoint\n" * 100)
    assert "not a file saved by torch" in refused(file, tmp_path)
    with file.open("wb") as sparse:
        sparse.truncate(2**30 + 1)
    assert "1.1 GB, which is no checkpoint of a head" in refused(file, tmp_path)


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    file = put(tmp_path, drawn("ABMIL"))
    with (
        zipfile.ZipFile(file) as old,
        zipfile.ZipFile(tmp_path / "d.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    assert "it is a compressed archive" in refused(tmp_path / "d.pth", tmp_path)


CONTENTS = {
    "one tensor": (torch.zeros(5, 8), "holds a Tensor, not the named tensors of a head"),
    "a list": ([1, 2], "holds a list"),
    "numbers": ({"a": 3}, "'a' is of type int, not a tensor"),
    "numbered": ({0: torch.zeros(1)}, "'0' is no name of a tensor"),
    "sparse": ({"a": torch.eye(3).to_sparse()}, "'a' is not a plain tensor"),
    "meta": ({"a": torch.zeros(3, device="meta")}, "'a' is not a plain tensor"),
    "huge by claim": (
        {"a": torch.zeros(1).expand(10**6, 10**6)},
        "claim more numbers than the file has",
    ),
    "NaN": (
        drawn("ABMIL") | {"classifier.fc.bias": torch.tensor([0, np.nan, 0])},
        "'classifier.fc.bias' holds NaN",
    ),
    "nothing": ({}, "those of none of ACMIL_MHA, ACMIL_GA, MHA, ABMIL, CLAM_SB, CLAM_MB, DSMIL"),
    "features": ({"feats": torch.zeros(2, 2)}, "those of none of .*; it has feats"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_contents_that_cannot_be(tmp_path, case):
    content, line = CONTENTS[case]
    assert re.search(line, refused(put(tmp_path, content), tmp_path))


WRONG_CODE = [
    ("ACMIL_GA", "clam", "those of ACMIL_GA; give --from acmil or aem"),
    ("ACMIL_MHA", "aem", "those of ACMIL_MHA; give --from acmil"),
    ("CLAM_SB", "aem", "those of CLAM_SB; give --from clam or acmil"),
    ("ABMIL", "clam", "those of ABMIL; give --from aem or acmil"),
]


@pytest.mark.parametrize(("name", "tool", "line"), WRONG_CODE)
def test_a_checkpoint_of_another_code(tmp_path, name, tool, line):
    assert line in refused(save(tmp_path / "c.pth", drawn(name)), tmp_path, tool)


def without(key):
    return lambda tensors: tensors.pop(key)


def changed(key, tensor):
    return lambda tensors: tensors.update({key: tensor})


TENSORS = {
    "bias": (
        without("attention.attention_U.0.bias"),
        "ACMIL_GA without attention.attention_U.0.bias, so",
    ),
    "width": (
        without("attention.attention_V.0.weight"),
        "has no tensor 'attention.attention_V.0.weight'",
    ),
    "reducer": (without("dimreduction.fc1.weight"), "has no tensor 'dimreduction.fc1.weight'"),
    "more": (
        changed("confounder_feat", torch.zeros(2)),
        "ACMIL_GA with confounder_feat, so it is of another model",
    ),
    "gap": (
        without("classifier.0.fc.weight"),
        "ACMIL_GA without classifier.0.fc.weight and with classifier.1.fc.bias",
    ),
    "shape": (
        changed("attention.attention_weights.weight", torch.zeros(3, 4)),
        "'attention.attention_weights.weight' is [3, 4] float32, but should be [2, 4] float32",
    ),
    "vector": (
        changed("dimreduction.fc1.weight", torch.zeros(8)),
        "has the shape [8], which is no matrix",
    ),
    "whole numbers": (
        changed("Slide_classifier.fc.bias", torch.zeros(3).long()),
        "is [3] int64, but should be [3]",
    ),
    "no width": (
        changed("dimreduction.fc1.weight", torch.zeros(0, DIM)),
        "hidden: Input should be greater than 0",
    ),
    "widths apart": (
        lambda t: t.update(
            {"dimreduction.fc1.weight": torch.zeros(30_000, 1), "x": torch.zeros(1, 30_000)}
        ),
        "ACMIL_GA with x",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_go_together(tmp_path, case):
    change, line = TENSORS[case]
    tensors = drawn("ACMIL_GA")
    change(tensors)
    assert line in refused(save(tmp_path / "c.pth", tensors), tmp_path)


OPTIONS = {
    "no classes": (
        [],
        "3 classes without names; give --classes A,B in their order, or a --dataset",
    ),
    "two": (["--classes", "a,b"], "has 3 classes, but 2 are named: a, b"),
    "twice": (["--classes", "a,b,a"], "each class needs a name of its own"),
    "empty": (["--classes", "a,,b"], "each class needs a name of its own"),
    "positive": (
        ["--classes", "a,b,c", "--positive", "d"],
        "--positive 'd' is not among the classes a, b, c",
    ),
    "no encoder": (
        ["--classes", "a,b,c"],
        "does not name the encoder of its features; give --bags FOLDER, or --encoder",
    ),
    "name": (
        ["--classes", "a,b,c", "--encoder", "e", "--name", "../x"],
        "--name '../x': use letters, digits",
    ),
    "dataset": (["--dataset", "nowhere", "--encoder", "e"], "no dataset named 'nowhere'"),
    "bags": (["--classes", "a,b,c", "--bags", "nowhere"], "nowhere: no bags"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_facts_that_the_user_must_state(tmp_path, case):
    options, line = OPTIONS[case]
    assert line in refused(
        save(tmp_path / "c.pth", drawn("ABMIL")), tmp_path, "aem", *(options or ["--encoder", "e"])
    )


def test_bags_that_the_head_is_not_for(tmp_path):
    file = save(tmp_path / "c.pth", drawn("ABMIL"))
    bag_file(tmp_path / "bags/s1.h5", "s1", np.ones((3, DIM + 1)))
    on = ["--classes", "a,b,c", "--bags", tmp_path / "bags"]
    assert "takes 6 features a tile, but" in refused(file, tmp_path, "aem", *on)
    assert "encoder tiny, not other" in refused(file, tmp_path, "aem", *on, "--encoder", "other")


def test_what_is_there_is_kept(tmp_path):
    file = save(tmp_path / "c.pth", drawn("ABMIL"))
    imported(file, tmp_path / "head", "aem")
    before = (tmp_path / "head/head.safetensors").read_bytes()
    save(file, drawn("ABMIL", seed=1))
    options = ["--from", "aem", "--classes", "a,b,c", "--encoder", "tiny"]
    code, line = heads("import", file, "--out", tmp_path / "head", *options)
    assert (code, line) == (
        1,
        f"{tmp_path / 'head'}: is not empty; choose another --out, or write into it with --force",
    )
    assert (tmp_path / "head/head.safetensors").read_bytes() == before
    assert heads("import", file, "--out", tmp_path / "head", *options, "--force")[0] == 0
    assert (tmp_path / "head/head.safetensors").read_bytes() != before


def test_weights_that_overflow(tmp_path):
    weights = {name: 1e30 * tensor for name, tensor in drawn("ABMIL").items()}
    file = save(tmp_path / "c.pth", weights)
    options = ("--from", "aem", "--classes", "a,b,c", "--encoder", "tiny")
    code, line = heads("import", file, "--out", tmp_path / "head", *options)
    assert code == 1
    assert "its weights predict no number for an ordinary bag" in line


def test_an_import_that_is_killed_leaves_no_mixture(tmp_path, monkeypatch):
    file = save(tmp_path / "c.pth", drawn("ABMIL"))
    imported(file, tmp_path / "head", "aem")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mil.trained.folder.save", killed)
    heads(
        "import",
        file,
        "--out",
        tmp_path / "head",
        "--from",
        "aem",
        "--classes",
        "x,y,z",
        "--encoder",
        "e",
        "--force",
    )
    with pytest.raises(FormatError, match="does not fit recipe"):
        load_trained(tmp_path / "head")


def test_exports_that_cannot_be(tmp_path):
    out = tmp_path / "d.pth"
    assert "not the folder of a trained head" in heads("export", tmp_path, out, "--to", "acmil")[1]
    imported(save(tmp_path / "c.pth", drawn("ABMIL")), tmp_path / "head", "aem")
    assert (
        "clam has no head abmil; it has: clam_sb, clam_mb"
        in heads("export", tmp_path / "head", out, "--to", "clam")[1]
    )
    assert (
        "is a folder; give the checkpoint's file"
        in heads("export", tmp_path / "head", tmp_path, "--to", "aem")[1]
    )
    assert not out.exists()
    out.write_text("mine")
    assert (
        "exists; choose another file" in heads("export", tmp_path / "head", out, "--to", "aem")[1]
    )
    assert out.read_text() == "mine"
    assert heads("export", tmp_path / "head", out, "--to", "aem", "--force")[0] == 0


def test_a_head_without_the_gate_has_no_published_form(tmp_path):
    imported(save(tmp_path / "c.pth", drawn("ABMIL")), tmp_path / "head", "aem")
    recipe = tmp_path / "head/recipe.json"
    weights = tmp_path / "head/head.safetensors"
    recipe.write_text(recipe.read_text().replace('"gated": true', '"gated": false'))
    save_file({name: t for name, t in load_file(weights).items() if "gate" not in name}, weights)
    (tmp_path / "head/seal.json").unlink()
    code, line = heads("export", tmp_path / "head", tmp_path / "d.pth", "--to", "aem")
    assert (code, line) == (1, f"{tmp_path / 'head'}: has gated: False, but ABMIL always True")


def test_a_head_of_another_task_is_not_theirs(tmp_path):
    (tmp_path / "age.yaml").write_text("task: regression\n")
    (tmp_path / "age.csv").write_text("slide,label\na,71\n")
    file = save(tmp_path / "c.pth", drawn("ABMIL"))
    line = refused(file, tmp_path, "acmil", "--dataset", tmp_path / "age.yaml", "--encoder", "tiny")
    assert "c.pth: its outputs are classes, but the task of dataset" in line
    assert line.rstrip().endswith("is regression")
    folder = tmp_path / "head"
    imported(save(tmp_path / "d.pth", drawn("ABMIL")), folder, "acmil")
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["task"] = {"kind": "ordinal", "classes": ["a", "b", "c", "d"], "positive": "d"}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "seal.json").unlink()
    code, line = heads("export", folder, tmp_path / "e.pth", "--to", "acmil")
    assert code == 1
    assert "is of the task ordinal, but heads of acmil classify" in line
    assert not (tmp_path / "e.pth").exists()


def test_labels_that_no_table_of_theirs_holds(tmp_path):
    (tmp_path / "age.yaml").write_text("task: survival_cox\n")
    (tmp_path / "age.csv").write_text("slide,label\na,7.5+\n")
    message = "its labels are of the task survival_cox, which no table of another tool holds"
    with pytest.raises(DatasetError, match=message):
        read_cohort(str(tmp_path / "age.yaml"), None, ["a"])
