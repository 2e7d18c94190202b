"""ONNX files of heads that pool: mil's own numbers by ONNX Runtime, for any number of tiles."""

import json

import numpy as np
import pytest
import torch

from mil.bags import join
from mil.config import Recipe
from mil.errors import ConfigError
from mil.heads import TwoStage, build_head, head_module, head_names
from mil.interop import export_head, export_onnx
from mil.interop.export_onnx import heads_that_pool, metadata
from mil.statistics.scaling import Calibration
from mil.tasks import Classification, Ordinal, SurvivalDiscrete
from mil.trained import MemberRecord, Trained, load_trained, save_trained
from mil.trained.assembled import assemble
from mil.trained.forward import forward
from mil.trained.scaling import Whitening
from mil.trained.seal import write_manifest
from tests.interop.published import heads
from tests.messages import one_line

DIM = 8
THREE = Classification(classes=["benign", "in situ", "<b>invasive"], positive="<b>invasive")
WHITENED = {"keep_within": 9, "restarts": 2, "whiten": 5}
CALIBRATION = Calibration(temperature=1.7, intercepts=[0.1, -0.3, 0.2])


def options_of(name):
    has_hidden = "hidden" in head_module(name).Config.model_fields
    return {"hidden": 8} if has_hidden and name != "mha" else {}


def head_of(name, dim, seed, outputs=3, **options):
    torch.manual_seed(seed)
    head = build_head(name, options_of(name) | options, dim=dim, classes=outputs)
    if isinstance(head, TwoStage):
        head.follow(head.first_stage().eval(), [join([torch.randn(5, dim)])])
    for parameter in head.parameters():
        parameter.data.normal_(std=0.7)
    return head.eval()


def folder_of(folder, name, *, task=THREE, members=1, calibration=CALIBRATION, **options):
    """The folder of a head, of one member on plain features or of several on whitened ones."""
    train = WHITENED if members > 1 else {}
    recipe = Recipe(
        name=name,
        options=options_of(name) | options,
        losses={"cross_entropy": 1},
        train=train,
    )
    head = head_of(name, DIM, 0, task.outputs, **options)
    records = []
    if members > 1:
        whitenings = []
        for seed in range(members):
            tiles = torch.randn(40, DIM, generator=torch.Generator().manual_seed(seed)) + seed
            whitenings.append(Whitening.fitted([tiles], 1, DIM, 5))
        head = assemble([head_of(name, 5, seed) for seed in range(members)], whitenings)
        records = [MemberRecord(seed=i, part=0, restart=i, epoch=1) for i in range(members)]
    trained = Trained(
        recipe_name=f"my_{name}",
        recipe=recipe,
        encoder="tiny",
        weights_sha256="ab" * 32,
        tiling="224px_0.5mpp",
        dim=DIM,
        task=task,
        dataset="d",
        seed=3,
        fold=1,
        epoch=1,
        members=records,
        calibration=calibration,
    )
    save_trained(folder, trained, head.state_dict(), {})
    return folder


def outputs_of(file, features):
    from onnxruntime import InferenceSession

    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"features": features}), strict=True))


def assert_same_as_mil(file, folder, tiles):
    head, trained = load_trained(folder)
    features = np.random.default_rng(tiles).standard_normal((tiles, DIM), np.float32)
    expected = forward(head, trained, join([torch.from_numpy(features)]))
    outputs = outputs_of(file, features)
    for name, computed in outputs.items():
        np.testing.assert_allclose(
            computed, getattr(expected, name), rtol=1e-5, atol=1e-5, err_msg=name
        )
    assert ("branch_attention" in outputs) == (expected.branch_attention is not None)
    assert outputs["attention"].shape == (tiles,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "members"),
    [*((name, 1) for name in heads_that_pool()), ("acmil", 2), ("clam_mb", 2), ("max", 2)],
)
def test_onnx_runtime_computes_what_mil_computes(tmp_path, name, members):
    folder = folder_of(tmp_path / "head", name, members=members)
    export_onnx.run(folder, tmp_path / "head.onnx")
    for tiles in (1, 7, 5000):
        assert_same_as_mil(tmp_path / "head.onnx", folder, tiles)


@pytest.mark.slow
def test_experts_are_exported_too(tmp_path):
    folder = folder_of(tmp_path / "head", "abmil", project="experts", experts=3)
    export_onnx.run(folder, tmp_path / "head.onnx")
    assert_same_as_mil(tmp_path / "head.onnx", folder, 9)


def test_a_published_class_has_no_place_for_experts(tmp_path):
    folder = folder_of(tmp_path / "head", "abmil", project="experts")
    with one_line(ConfigError, "ABMIL has a linear layer there; export it with --onnx"):
        export_head.run(folder, tmp_path / "c.pth", tool="acmil")
    assert not (tmp_path / "c.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [Ordinal(classes=["0", "1", "2"], positive="2"), SurvivalDiscrete(ends=[1.0, 2.0])],
)
def test_predictions_of_other_tasks_are_those_of_mil(tmp_path, task):
    folder = folder_of(tmp_path / "head", "abmil", task=task, calibration=None)
    export_onnx.run(folder, tmp_path / "head.onnx")
    assert_same_as_mil(tmp_path / "head.onnx", folder, 9)


@pytest.mark.slow
def test_the_file_states_where_it_is_from_and_nothing_of_this_machine(tmp_path):
    import onnx

    folder = folder_of(tmp_path / "head", "acmil")
    write_manifest(folder)
    code, printed = heads("export", folder, "--onnx", tmp_path / "a.onnx")
    assert code == 0
    assert "logits [3], predictions [3], attention [tiles], branch_attention [tiles, 5]" in printed
    content = (tmp_path / "a.onnx").read_bytes()
    assert heads("export", folder, "--onnx", tmp_path / "b.onnx")[0] == 0
    assert (tmp_path / "b.onnx").read_bytes() == content
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts == metadata(load_trained(folder)[1], folder)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    for private in (b"site-packages", b".py", str(tmp_path).encode()):
        assert private not in content


def test_what_a_user_of_the_file_must_know(tmp_path):
    two = Classification(classes=["normal", "<b>tumour"], positive="<b>tumour")
    calibration = Calibration(temperature=1.7, threshold=0.25)
    folder = folder_of(tmp_path / "head", "mean", task=two, calibration=calibration)
    facts = metadata(load_trained(folder)[1], folder)
    assert json.loads(facts["classes"]) == ["normal", "<b>tumour"]
    assert (facts["tile_px"], facts["mpp"], facts["threshold"]) == ("224", "0.5", "0.25")
    assert (facts["encoder"], facts["encoder_weights_sha256"]) == ("tiny", "ab" * 32)
    assert (facts["recipe"], facts["head"], facts["seed"], facts["fold"]) == (
        "my_mean",
        "mean",
        "3",
        "1",
    )
    # Not sealed, and of an encoder that is in no list here.
    assert not {"seal_sha256", "encoder_licence"} & facts.keys()


def test_heads_that_do_not_pool_and_half_a_command_are_refused(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "head", "dsmil")
    file = tmp_path / "head.onnx"
    with one_line(ConfigError, "head dsmil does not pool tiles one by one"):
        export_onnx.run(folder, file)
    with one_line(ConfigError, "head knn holds the mean features of its training slides"):
        export_onnx.run(folder_of(tmp_path / "knn", "knn"), file)
    pool = set(heads_that_pool())
    others = {"dsmil", "dtfd", "gaam", "graph_select", "knn", "lama", "mixed_abmil", "transmil"}
    assert set(head_names()) - pool == others
    assert "takes either a checkpoint" in heads("export", folder, file, "--onnx", file)[1]
    file.write_text("mine")
    assert "exists; choose another file" in heads("export", folder, "--onnx", file)[1]
    assert file.read_text() == "mine"
    monkeypatch.setattr(export_onnx, "find_spec", lambda name: None)
    assert "pip install 'mil[onnx]'" in heads("export", folder, "--onnx", file)[1]
