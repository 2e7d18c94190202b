"""Heads and bags to score files: the same numbers as a head gives, each bag and head read once."""

import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mil.bags import attention, log_attention
from mil.cli import app
from mil.config import Recipe
from mil.errors import DatasetError, FormatError
from mil.evaluate import stage as evaluate_stage
from mil.heads import build_head
from mil.heatmap import stage as heatmap_stage
from mil.io.bags import read_bag
from mil.io.scores import read_scores
from mil.io.tables import write_csv
from mil.score import heads as score_heads
from mil.score import stage
from mil.score.jobs import ScoreJob, jobs_of_folder
from mil.score.stage import run
from mil.tasks import Classification
from mil.trained import Trained, load_trained, save_trained
from mil.trained.forward import tensors_of
from mil.trained.record import parse_record
from tests.messages import one_line
from tests.synthetic import bag_file

DIM = 4
TASK = Classification(classes=["normal", "tumour"], positive="tumour")


def save_head(folder, name="abmil", seed=1, *, last=True, **changes):
    """A head of random weights; `changes` are of its record."""
    torch.manual_seed(seed)
    options = {"hidden": 8}
    recipe = Recipe(name=name, options=options, losses={"cross_entropy": 1})
    trained = Trained(
        recipe_name=name,
        recipe=recipe,
        encoder="tiny",
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        dim=DIM,
        task=TASK,
        dataset="toy",
        seed=seed,
        fold=0,
        epoch=1,
    )
    kept, of_last = (
        build_head(name, options, dim=DIM, classes=2).state_dict() for _ in ("kept", "last")
    )
    trained = trained.model_copy(update=changes)
    save_trained(folder / f"{name}{seed}", trained, kept, {}, of_last if last else None)
    return folder / f"{name}{seed}"


@pytest.fixture
def bags(tmp_path):
    """Bags of three slides, the second with an unreadable tile."""
    rng = np.random.default_rng(0)
    for number, name in enumerate("abc"):
        valid = np.arange(30) != (5 if number == 1 else -1)
        bag_file(tmp_path / "bags" / f"{name}.h5", name, rng.normal(size=(30, DIM)), valid=valid)
    return tmp_path / "bags"


def score(heads, *pairs):
    return list(run(heads, [ScoreJob(None, (bag,), out) for bag, out in pairs], threads=1))


def test_scores_follow_the_record_of_a_head_where_its_weights_stay(bags, tmp_path):
    """Calibration, threshold and class of interest are in the record alone."""
    jobs = [ScoreJob("b", (bags / "b.h5",), tmp_path / "b.h5")]
    head = save_head(tmp_path)
    lines = [next(run([head], jobs, threads=1, keep=True)).line for _ in range(2)]
    assert lines == ["b: 29 tiles by 1 heads", ""]
    (result,) = run([save_head(tmp_path, dataset="other")], jobs, threads=1, keep=True)
    assert result.line == "b: 29 tiles by 1 heads"
    assert parse_record(read_scores(tmp_path / "b.h5").heads[0].record, head).dataset == "other"


@pytest.mark.parametrize("name", ["abmil", "acmil", "acmil_mha", "clam_mb", "dsmil", "transmil"])
def test_scores_are_what_the_heads_give_bit_for_bit(bags, tmp_path, name):
    heads = [save_head(tmp_path, name, seed) for seed in (1, 2)]
    (result,) = score(heads, (bags / "b.h5", tmp_path / "b.h5"))
    assert (result.line, result.failed) == ("b: 29 tiles by 2 heads", False)
    scores = read_scores(tmp_path / "b.h5", branches=True)
    tensors = tensors_of(read_bag(bags / "b.h5"))
    for folder, scored, found in zip(heads, scores.heads, scores.scores, strict=True):
        head, trained = load_trained(folder)
        with torch.inference_mode():
            output = head(tensors)
            last = load_trained(folder, "last")[0](tensors)
        assert parse_record(scored.record, folder) == trained
        assert scored.sha256 == sha256((folder / "head.safetensors").read_bytes()).hexdigest()
        np.testing.assert_array_equal(found.logits, output.logits[0].numpy())
        np.testing.assert_array_equal(found.predictions, output.logits.softmax(-1)[0].numpy())
        np.testing.assert_array_equal(found.last.logits, last.logits[0].numpy())
        drawn = attention(output, tensors, TASK.attended).numpy()
        np.testing.assert_array_equal(found.attention, drawn)
        branches = log_attention(output.scores, tensors.offsets).exp().numpy()
        if branches.shape[1] == 1:
            assert found.branch_attention is None
            continue
        if output.attention_heads > 1:
            branches = branches.reshape(29, -1, output.attention_heads).mean(2)
        np.testing.assert_allclose(found.branch_attention, branches, rtol=1e-6)
        whole = found.branch_attention
        assert whole.sum(0) == pytest.approx(np.ones(whole.shape[1]), abs=1e-5)
        class_or_mean = whole[:, TASK.attended] if output.per_class else whole.mean(1)
        np.testing.assert_allclose(class_or_mean, found.attention, rtol=1e-5)
        if output.branch_logits is not None:
            np.testing.assert_array_equal(found.branch_logits, output.branch_logits[0].numpy())


def test_parts_of_the_queries_are_in_the_scores(bags, tmp_path):
    (result,) = score([save_head(tmp_path, "probe")], (bags / "a.h5", tmp_path / "a.h5"))
    assert result.line
    (scores,) = read_scores(tmp_path / "a.h5").scores
    weights = load_file(tmp_path / "probe1" / "head.safetensors")
    bias = weights["classify.linear.bias"].double().numpy()
    np.testing.assert_allclose(scores.branch_parts.sum(0) + bias, scores.logits, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "setting", "has_evidence"),
    [("abmil", "exact", True), ("abmil", "none", False), ("dsmil", "exact", False)],
)
def test_evidence_is_what_the_setting_asks_for(bags, tmp_path, name, setting, has_evidence):
    jobs = [ScoreJob("a", (bags / "a.h5",), tmp_path / "a.h5")]
    head = save_head(tmp_path, name)
    (result,) = run([head], jobs, threads=1, keep=True, evidence=setting)
    assert result.line
    (scores,) = read_scores(tmp_path / "a.h5", evidence=True).scores
    assert (scores.evidence is not None) is has_evidence
    assert (scores.flipped_logits is not None) is has_evidence
    # Another setting is other scores; the same is none.
    assert next(run([head], jobs, threads=1, keep=True, evidence=setting)).line == ""
    assert next(run([head], jobs, threads=1, keep=True)).line


def test_a_head_that_selects_is_asked_for_other_selections(bags, tmp_path):
    score([save_head(tmp_path, "graph_select")], (bags / "a.h5", tmp_path / "a.h5"))
    selection = read_scores(tmp_path / "a.h5").scores[0].selection
    assert selection.selected.sum() == 16
    assert selection.random.logits.shape == (5, 2)
    head, _ = load_trained(tmp_path / "graph_select1")
    rng = np.random.default_rng(0)
    masks = [torch.from_numpy(rng.permutation(selection.selected)) for _ in range(5)]
    masks.append(torch.from_numpy(~selection.selected))
    with torch.inference_mode():
        logits = head.answers(tensors_of(read_bag(bags / "a.h5")), masks)[:, 0].numpy()
    np.testing.assert_array_equal(selection.random.logits, logits[:5])
    np.testing.assert_array_equal(selection.rest.logits, logits[5])


def test_heads_are_loaded_once_and_each_bag_is_read_once(bags, tmp_path, monkeypatch):
    heads = [save_head(tmp_path, seed=seed) for seed in (1, 2, 3)]
    counts = {"heads": 0, "bags": 0}
    load = score_heads.load_heads
    read = stage.read_each

    def counted_load(folders, which="kept"):
        counts["heads"] += len(folders)
        return load(folders, which)

    def counted_read(paths):
        counts["bags"] += len(paths)
        return read(paths)

    monkeypatch.setattr(score_heads, "load_heads", counted_load)
    monkeypatch.setattr(stage, "read_each", counted_read)
    score(heads, *((bags / f"{name}.h5", tmp_path / f"{name}.h5") for name in "abc"))
    assert counts == {"heads": 6, "bags": 3}  # kept and last epoch


def test_the_same_scores_are_the_same_bytes(bags, tmp_path):
    heads = [save_head(tmp_path, "acmil")]
    score(heads, (bags / "a.h5", tmp_path / "one.h5"), (bags / "a.h5", tmp_path / "two.h5"))
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_a_slide_that_fails_harms_no_other_but_the_exit_code(bags, tmp_path):
    head = save_head(tmp_path)
    bag_file(bags / "b.h5", "b", np.full((3, DIM), np.nan))
    (bags / "c.h5").write_text("not a bag")
    arguments = ["score", "--head-dir", str(head)]
    for name in "bca":
        arguments += ["--bag", str(bags / f"{name}.h5"), "--out", str(tmp_path / f"{name}.h5")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "b.h5: holds values that are not numbers" in done.output
    assert "c.h5: not an HDF5 file" in done.output
    assert "score a: 30 tiles by 1 heads" in done.output
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["a.h5"]


def test_a_folder_of_bags(bags, tmp_path):
    head = save_head(tmp_path)
    flags = ["--bags", str(bags), "--scores", str(tmp_path / "scores")]
    done = CliRunner().invoke(app, ["score", "--head-dir", str(head), *flags])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == [
        "a.h5",
        "b.h5",
        "c.h5",
    ]


def test_bags_of_patients_are_scored_as_one_under_their_own_name(bags, tmp_path):
    rows = [
        {"fold": 0, "slide": s, "patient": p, "label": "normal", "split": "test", "bag": p}
        for s, p in (("a", "p/1"), ("c", "p/1"), ("b", "p2"))
    ]
    write_csv(tmp_path / "folds.csv", rows)
    jobs = jobs_of_folder(bags, tmp_path / "scores", tmp_path / "folds.csv")
    assert [(job.name, len(job.bags), job.out.name) for job in jobs] == [
        ("p/1", 2, "p%2F1.h5"),
        ("p2", 1, "p2.h5"),
    ]
    assert not any(result.failed for result in run([save_head(tmp_path)], jobs, threads=1))
    scores = read_scores(tmp_path / "scores/p%2F1.h5")
    assert (scores.name, [bag.slide for bag in scores.bags]) == ("p/1", ["a", "c"])
    assert len(scores.scores[0].attention) == 60


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        ("", "0 --bag and 0 --out; give as many of one as of the other"),
        ("--bag x", "1 --bag and 0 --out; give as many of one as of the other"),
        ("--bag x --out y --bags z", "--bag and --out do not go with --bags, --scores and"),
        ("--bag x --out y --folds z", "--bag and --out do not go with --bags, --scores and"),
        ("--scores x", "give a folder of bags by --bags and a folder for their scores"),
        ("--bags x", "give a folder of bags by --bags and a folder for their scores"),
    ],
)
def test_bags_and_files_that_do_not_pair_are_one_line(bags, tmp_path, flags, remedy):
    head = str(save_head(tmp_path))
    done = CliRunner().invoke(app, ["score", "--head-dir", head, *flags.split()])
    assert isinstance(done.exception, DatasetError)
    assert remedy in str(done.exception)


def test_two_bags_cannot_have_one_file(bags, tmp_path):
    out = tmp_path / "x.h5"
    with pytest.raises(DatasetError, match=r"would hold the scores of .*a\.h5 and of .*b\.h5"):
        score([save_head(tmp_path)], (bags / "a.h5", out), (bags / "b.h5", out))
    with pytest.raises(DatasetError, match="would hold the scores of"):
        same = tmp_path / "bags/../x.h5"
        score([save_head(tmp_path)], (bags / "a.h5", out), (bags / "b.h5", same))


def test_scores_never_replace_a_bag(bags, tmp_path):
    head = save_head(tmp_path)
    before = {path.name: path.read_bytes() for path in bags.iterdir()}
    with pytest.raises(DatasetError, match=r"a\.h5: is read by this command, and would be lost"):
        score([head], (bags / "a.h5", bags / "a.h5"))
    with pytest.raises(DatasetError, match="would be lost"):
        list(run([head], jobs_of_folder(bags, bags, None), threads=1))
    (result,) = score([head], (bags / "a.h5", bags / "b.h5"))
    assert result.failed
    assert "b.h5: is already there as a file of mil.bag" in result.line
    assert {path.name: path.read_bytes() for path in bags.iterdir()} == before


def test_a_head_counts_once(bags, tmp_path):
    head = save_head(tmp_path)
    with pytest.raises(DatasetError, match="abmil1: this head is given twice; give it once"):
        score([head, tmp_path / "bags/.." / head.name], (bags / "a.h5", tmp_path / "a.h5"))


def test_a_head_that_overflows_has_no_scores(bags, tmp_path):
    head = save_head(tmp_path)
    weights = load_file(head / "head.safetensors")
    save_file(
        {name: torch.full_like(tensor, 1e30) for name, tensor in weights.items()},
        head / "head.safetensors",
    )
    (result,) = score([head], (bags / "a.h5", tmp_path / "a.h5"))
    assert result.failed
    assert "abmil seed 1 fold 0 predicts no number for it" in result.line
    assert not (tmp_path / "a.h5").exists()


def test_a_folds_file_without_rows_is_no_success(bags, tmp_path):
    (tmp_path / "folds.csv").write_text("fold,slide,split\n")
    with pytest.raises(FormatError, match=r"folds\.csv: has no row for a slide"):
        jobs_of_folder(bags, tmp_path / "scores", tmp_path / "folds.csv")


def test_no_head_and_heads_of_two_recipes(bags, tmp_path):
    with pytest.raises(DatasetError, match="no head given"):
        score([], (bags / "a.h5", tmp_path / "a.h5"))
    heads = [save_head(tmp_path), save_head(tmp_path, "acmil")]
    with pytest.raises(DatasetError, match="give heads of one recipe"):
        score(heads, (bags / "a.h5", tmp_path / "a.h5"))


def test_features_of_another_encoder_are_refused(bags, tmp_path):
    (result,) = score([save_head(tmp_path, encoder="uni")], (bags / "a.h5", tmp_path / "a.h5"))
    assert result.failed
    assert "encoder is tiny, but uni in the features that abmil was trained on" in result.line


def test_the_last_epoch_takes_part_only_if_all_heads_have_it(bags, tmp_path):
    heads = [save_head(tmp_path), save_head(tmp_path, seed=2, last=False)]
    score(heads, (bags / "a.h5", tmp_path / "a.h5"))
    scores = read_scores(tmp_path / "a.h5")
    assert [head.last_sha256 for head in scores.heads] == ["", ""]
    assert [one.last for one in scores.scores] == [None, None]


@pytest.fixture
def scored(bags, tmp_path):
    """Scores of all slides, a dataset and its folds."""
    score(
        [save_head(tmp_path)],
        *((bags / f"{name}.h5", tmp_path / "scores" / f"{name}.h5") for name in "abc"),
    )
    table = [
        {"slide": name, "patient": name, "label": label}
        for name, label in zip("abc", ("normal", "tumour", "normal"), strict=True)
    ]
    write_csv(tmp_path / "toy.csv", table)
    write_csv(tmp_path / "folds.csv", [{"fold": 0, "split": "test", **row} for row in table])
    (tmp_path / "toy.yaml").write_text("classes: [normal, tumour]\n")
    return tmp_path


def evaluate(study):
    return evaluate_stage.run(
        str(study / "toy.yaml"),
        study / "scores",
        study / "bags",
        study / "folds.csv",
        study / "out",
        slides_dir=study,
    )


def test_a_bag_that_was_made_again_refuses_its_old_scores(scored):
    bag_file(scored / "bags/b.h5", "b", np.ones((30, DIM)))
    with one_line(FormatError, match=r"scores/b\.h5: was computed from another bag"):
        evaluate(scored)
    with pytest.raises(FormatError, match=r"scores/b\.h5: was computed from another bag"):
        heatmap_stage.run(
            scored / "scores/b.h5",
            scored / "bags/b.h5",
            None,
            scored / "b.png",
            folds=None,
            annotation=None,
            scale="percentile",
        )
    assert not (scored / "out").exists()
    assert not (scored / "b.png").exists()


def test_scores_that_do_not_belong_together_are_refused(scored):
    head = save_head(scored, seed=2)
    score([head], (scored / "bags/c.h5", scored / "scores/c.h5"))
    with pytest.raises(FormatError, match=r"c\.h5: is by other heads than the other scores"):
        evaluate(scored)
    (scored / "scores/c.h5").unlink()
    with pytest.raises(FormatError, match=r"c\.h5: no such file, so that c has no scores; run"):
        evaluate(scored)
    (scored / "scores/b.h5").replace(scored / "scores/c.h5")
    score([scored / "abmil1"], (scored / "bags/b.h5", scored / "scores/b.h5"))
    # Not to be renamed: that would replace the scores of b.
    with pytest.raises(FormatError, match=r"c\.h5: holds the scores of b, not of c; delete it"):
        evaluate(scored)


def test_two_heads_of_one_seed_and_fold_are_no_run(scored):
    heads = [scored / "abmil1", save_head(scored / "again")]
    score(heads, *((scored / f"bags/{n}.h5", scored / f"scores/{n}.h5") for n in "abc"))
    with pytest.raises(DatasetError, match="scores by several heads of seed 1, fold 0"):
        evaluate(scored)


def test_a_score_and_a_bag_of_two_slides_are_told_apart_from_an_old_score(scored):
    with pytest.raises(FormatError, match=r"a\.h5: holds the scores of a, not of b"):
        draw(scored, "a", bag="b")


def test_a_heatmap_replaces_nothing_that_it_reads(scored):
    layer = scored / "a.geojson"
    layer.write_text("an annotation")
    with pytest.raises(DatasetError, match=r"a\.geojson: is read by this command"):
        draw(scored, "a", annotation=layer)
    assert layer.read_text() == "an annotation"


def draw(folder, name, bag=None, annotation=None):
    return heatmap_stage.run(
        folder / f"scores/{name}.h5",
        folder / f"bags/{bag or name}.h5",
        None,
        folder / f"{name}.png",
        folds=None,
        annotation=annotation,
        scale="percentile",
    )


@pytest.mark.slow
def test_evaluate_and_heatmap_need_no_torch(scored):
    """A `torch` that cannot be imported stands first on the path."""
    for name in ("torch", "timm"):
        (scored / f"{name}.py").write_text("raise AssertionError('imported')\n")
    path = os.pathsep.join([str(scored), os.environ.get("PYTHONPATH", "")])
    study = "--dataset toy.yaml --scores scores --bags bags --folds folds.csv"
    for command in (
        f"evaluate {study} --out out",
        "heatmap --score scores/a.h5 --bag bags/a.h5 --out a.png",
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mil.cli", *command.split()],
            cwd=scored,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (scored / "a.png").exists()
    assert (scored / "out/metrics.json").exists()
