"""A head of several members: every head averages, streams and selects as its members do."""

from functools import reduce

import numpy as np
import pytest
import torch

from mil.bags import attention, join
from mil.errors import ConfigError
from mil.heads import SelectsTiles, Streams, TwoStage, UsesGraph, build_head, head_names
from mil.interop import export_head
from mil.io.bags import read_bag
from mil.predict.running import Running
from mil.trained import MemberRecord, apply, load_trained
from mil.trained.assembled import assemble
from mil.trained.card_recipe import _kept
from mil.trained.scaling import ZScore
from tests.messages import one_line
from tests.scored import evaluate, heatmap
from tests.train.test_stage import fit, make_study

DIM = 16
BAGS = join(
    [torch.randn(n, DIM, generator=torch.Generator().manual_seed(n)) for n in (9, 1, 12)],
    [torch.arange(2 * n).reshape(n, 2) * 224 for n in (9, 1, 12)],
)
HOW = "{epochs: 3, lr: 3.0e-3, batch_bags: 4, restarts: 3, keep_within: 9, zscore: true}"


def member_of(name, seed):
    torch.manual_seed(seed)
    head = build_head(
        name, {"graph": ["knn"]} if name == "graph_select" else {}, dim=DIM, classes=3
    )
    if isinstance(head, TwoStage):
        head.follow(head.first_stage().eval(), [BAGS])
    if isinstance(head, UsesGraph):
        head.see_training([BAGS])
    for parameter in head.parameters():
        parameter.data.normal_(std=0.7)
    return head.eval()


def zscore_of(seed):
    features = torch.randn(50, DIM, generator=torch.Generator().manual_seed(seed)) * 2 + 1
    return ZScore.fitted([features[:20], features[20:]], DIM)


@pytest.mark.parametrize("name", head_names())
@torch.inference_mode()
def test_logits_and_attention_are_the_members_means(name):
    members = [member_of(name, seed) for seed in range(3)]
    scalings = [zscore_of(seed) for seed in range(3)]
    head = assemble(members, scalings).eval()
    outputs = [
        member(BAGS._replace(features=zscore(BAGS.features)))
        for member, zscore in zip(members, scalings, strict=True)
    ]
    whole = head(BAGS)
    torch.testing.assert_close(whole.logits, torch.stack([o.logits for o in outputs]).mean(0))
    for of_class in (None, 1):
        mean = torch.stack([attention(one, BAGS, of_class) for one in outputs]).mean(0)
        torch.testing.assert_close(attention(whole, BAGS, of_class), mean, atol=1e-6, rtol=1e-4)
    if outputs[0].branch_logits is not None:
        branches = sum(one.branch_logits.shape[1] for one in outputs)
        assert whole.branch_logits.shape == (3, branches, 3)
    assert isinstance(head, Streams) == isinstance(members[0], Streams)
    assert isinstance(head, SelectsTiles) == isinstance(members[0], SelectsTiles)


@pytest.mark.parametrize("name", ["abmil", "acmil", "clam_mb", "max", "mean", "mha", "ibmil"])
@torch.inference_mode()
def test_parts_of_a_bag_merge_to_the_whole(name):
    head = assemble([member_of(name, seed) for seed in range(3)], [zscore_of(i) for i in range(3)])
    bag = join([BAGS.features[:9]])
    parts, scores = zip(*(head.part(bag.features[i : i + 4]) for i in (0, 4, 8)), strict=True)
    concluded = head.conclude(reduce(lambda one, other: one.merge(other), parts), torch.cat(scores))
    whole = head(bag)
    torch.testing.assert_close(concluded.logits, whole.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention(concluded, bag, 1), attention(whole, bag, 1))


@torch.inference_mode()
def test_selected_are_the_tiles_that_any_member_selects_and_answers_are_averaged():
    members = [member_of("graph_select", seed) for seed in range(3)]
    for member in members:
        member.select.config = member.config.model_copy(update={"keep_share": 0.3, "keep_least": 1})
    head = assemble(members)
    outputs = [member(BAGS) for member in members]
    whole = head(BAGS)
    assert torch.equal(whole.selected, torch.stack([o.selected for o in outputs]).any(0))
    full = torch.stack([one.full_logits for one in outputs]).mean(0)
    torch.testing.assert_close(whole.full_logits, full)
    everything = torch.ones(len(BAGS.features), dtype=torch.bool)
    torch.testing.assert_close(head.answers(BAGS, [everything])[0], full, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_members_that_build_the_same_graph_build_it_once(monkeypatch):
    members = [member_of("graph_select", 0), member_of("graph_select", 1)]
    built = []
    for member in members:
        build = member.build_graph
        monkeypatch.setattr(
            member, "build_graph", lambda *bag, build=build: (built.append(1), build(*bag))[1]
        )
    alone = torch.stack([member(BAGS).logits for member in members]).mean(0)
    built.clear()
    torch.testing.assert_close(assemble(members)(BAGS).logits, alone)
    assert len(built) == 3  # bags
    built.clear()
    assemble(members, [zscore_of(0), zscore_of(1)])(BAGS)
    assert len(built) == 6


def test_z_scores_do_not_cancel_and_leave_constant_columns():
    tiles = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)).double() * 1e-3 + 1e4
    tiles[:, 2] = 7
    zscore = ZScore.fitted([tiles[:1], tiles[1:400], tiles[400:]], 3)
    np.testing.assert_allclose(zscore.deviation[:2], tiles.std(0, correction=0)[:2], rtol=1e-6)
    assert zscore.deviation[2] == 1
    assert zscore(tiles.float())[:, 2].abs().max() == 0


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folders of heads of three members with z-scores; not to be changed."""
    study = make_study(tmp_path_factory.mktemp("assembled"))
    # Graphs by features alone: each tile that is removed makes a graph anew.
    for name, more in (("abmil", ""), ("graph_select", ", graph: [knn]")):
        (study / f"{name}.yaml").write_text(
            f"name: {name}\noptions: {{hidden: 16{more}}}\n"
            f"losses: {{cross_entropy: 1}}\ntrain: {HOW}\n"
        )
        fit(study, name, recipe=f"{name}.yaml")
    return study


@pytest.mark.slow
@pytest.mark.parametrize("name", ["abmil", "graph_select"])
def test_it_is_scored_evaluated_and_drawn(study, name, tmp_path):
    metrics = evaluate(
        str(study / "toy.yaml"),
        [study / name],
        study / "bags",
        study / "folds.csv",
        tmp_path / "evaluated",
        slides_dir=study,
    )
    assert metrics["test"]["n_slides"] == 6
    assert bool(metrics.get("selection")) == (name == "graph_select")
    drawn = tmp_path / "s00.png"
    bag = tmp_path / "s00.h5"
    bag.write_bytes((study / "bags" / "s00.h5").read_bytes())
    heatmap([study / name], bag, None, drawn, folds=None, annotation=None, scale="percentile")
    assert drawn.exists()


def test_it_streams_to_the_scores_of_the_whole_bag(study):
    head, trained = load_trained(study / "abmil")
    bag = read_bag(study / "bags" / "s00.h5")
    running = Running([(head, trained)], len(bag.features))
    for first in range(0, len(bag.features), 5):
        running.add(bag.features[first : first + 5])
    whole = apply(head, trained, bag)
    (concluded,) = running.conclude()
    np.testing.assert_allclose(concluded.predictions, whole.predictions, rtol=1e-4)
    np.testing.assert_allclose(concluded.attention, whole.attention, rtol=1e-4)
    np.testing.assert_allclose(running.predictions()[0], whole.predictions, rtol=1e-4)


def test_it_is_not_exported_as_one_head(study, tmp_path):
    with one_line(ConfigError, match=r"abmil: averages 3 members .*one head on plain features"):
        export_head.run(study / "abmil", tmp_path / "checkpoint.pth", tool="acmil")


def test_its_card_says_what_it_averages(study):
    _, trained = load_trained(study / "abmil")
    assert len(trained.members) == 3
    epochs = ", ".join(str(member.epoch) for member in trained.members)
    assert _kept(trained) == f"the average of 3 trainings, epochs {epochs} kept"
    assert _kept(trained.model_copy(update={"members": trained.members[:1]})) == (
        f"epoch {trained.epoch} kept"
    )
    assert all(isinstance(member, MemberRecord) for member in trained.members)
