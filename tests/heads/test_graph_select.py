"""The head over a neighbour graph that answers from a few selected tiles."""

import math

import numpy as np
import pytest
import torch

from mil.bags import Bags, Graph, join, join_graphs, per_bag
from mil.errors import ConfigError
from mil.heads import FollowsSteps, UsesGraph, build_head
from mil.heads._budget import SelectionConfig, budget
from mil.heads._graph_choice import GraphConfig, fixed_graph
from mil.heads._graph_layer import log_received
from mil.heads._selection import importance, pool_through
from mil.heads._soft_mask import soft_mask, straight_through, top_mask
from mil.io.bags import read_bag
from mil.io.tables import write_csv
from mil.losses import full_cross_entropy, sufficiency
from mil.train.data import LabelledBag, with_graphs
from mil.train.precision import forward_autocast
from mil.train.stage import run as train
from mil.trained import apply, load_trained
from tests.messages import one_line
from tests.synthetic import bag_file, planted_bags

NOTHING = Graph(*(torch.zeros(0, dtype=torch.long),) * 3)
FEW = {"keep_share": 0.1, "keep_least": 4, "hidden": 8, "attention": 6}


def bags_of(*sizes, dim=12, places=True):
    draw = torch.Generator().manual_seed(sum(sizes))
    features = [1 + torch.randn(n, dim, generator=draw, dtype=torch.float64) for n in sizes]
    side = [math.ceil(math.sqrt(n)) for n in sizes]
    grids = zip(sizes, side, strict=True)
    coords = [224 * torch.stack([torch.arange(n) % s, torch.arange(n) // s], 1) for n, s in grids]
    return join(features, coords if places else None)


def head_of(seed=0, dim=12, **options):
    torch.manual_seed(seed)
    head = build_head("graph_select", {**FEW, **options}, dim=dim, classes=2).double()
    for gamma in [head.received] if head.config.layers else []:
        torch.nn.init.normal_(gamma)
    return head


def one_of(bags, number):
    rows = slice(*bags.offsets[number : number + 2].tolist())
    coords = None if bags.coords is None else bags.coords[rows]
    return Bags(bags.features[rows], torch.tensor([0, rows.stop - rows.start]), coords)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("how", ["no layer", "a layer that adds nothing"])
def test_with_all_tiles_it_is_abmil_to_the_last_bit(how, mode):
    options = {"layers": int(how != "no layer"), "keep_share": 1.0, "keep_most": None}
    torch.manual_seed(0)
    head = build_head("graph_select", options, dim=12, classes=3).double()
    abmil = build_head("abmil", {}, dim=12, classes=3).double()
    head.load_state_dict(abmil.state_dict(), strict=False)
    for layer in head.layers:
        torch.nn.init.zeros_(layer.out.weight)
    bags = bags_of(40, 1, 700)
    found = getattr(head, mode)()(bags)
    want = abmil(bags)
    assert torch.equal(found.logits, want.logits)
    assert torch.equal(found.full_logits, want.logits)
    assert torch.equal(found.scores, want.scores)
    assert found.selected.all()


def test_what_is_selected_alone_is_pooled():
    head = head_of(layers=0)
    bags = bags_of(60)
    out = head.eval()(bags)
    assert out.selected.sum() == 6
    scores = out.scores[:, 0]
    assert scores[out.selected].min() > scores[~out.selected].max()
    few = Bags(bags.features[out.selected], torch.tensor([0, 6]))
    torch.testing.assert_close(head_of(layers=0, keep_share=1.0).eval()(few).logits, out.logits)
    torch.testing.assert_close(
        head_of(layers=0, keep_share=1.0, keep_most=None).eval()(bags).logits, out.full_logits
    )
    torch.testing.assert_close(
        head.train()(bags).logits, out.logits
    )  # as many in training, pooled alike


@pytest.mark.parametrize(
    ("tiles", "share", "least", "most", "count"),
    [
        (1, 0.05, 16, 512, 1),
        (15, 0.05, 16, 512, 15),
        (17, 0.05, 16, 512, 16),
        (1000, 0.05, 16, 512, 50),
        (1001, 0.05, 16, 512, 51),
        (100, 0.07, 1, None, 7),
        (99_999, 0.05, 16, 512, 512),
        (99, 1.0, 16, None, 99),
        (50, 0.5, 16, 8, 8),
    ],
)
def test_budget(tiles, share, least, most, count):
    assert (
        budget(tiles, SelectionConfig(keep_share=share, keep_least=least, keep_most=most)) == count
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("branches", [1, 3])
@pytest.mark.parametrize("tiles", [1, 2, 5, 15, 17])
def test_bags_of_any_size_are_finite_and_keep_to_the_budget(tiles, branches, mode):
    bags = bags_of(tiles, 30)
    head = getattr(head_of(branches=branches), mode)()
    out = head(bags)
    assert [int(bag.sum()) for bag in per_bag(out.selected, bags.offsets)] == [min(tiles, 4), 4]
    assert (out.branch_logits is None) == (branches == 1)
    (
        out.logits.sum() + full_cross_entropy(out, bags, torch.tensor([0, 1])) + out.scores.sum()
    ).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
    assert torch.isfinite(out.logits).all()


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("branches", [1, 3])
def test_tiles_that_are_all_the_same(branches, layers):
    bags = join([torch.ones(30, 12, dtype=torch.float64)])
    head = head_of(branches=branches, layers=layers)
    out = head.train()(bags)
    assert out.selected.sum() == 4
    if not layers:
        assert out.selected[:4].all()  # the first of equals
    torch.testing.assert_close(out.logits, out.full_logits)
    out.logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "options", [{}, {"branches": 3, "layers": 2}, {"graph": ["lsh"]}, {"graph": ["minibatch"]}]
)
def test_order_of_tiles_moves_the_selection_along(options):
    head = head_of(**options).eval()
    bags = bags_of(90)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    out = head(bags)
    moved = head(Bags(bags.features[order], bags.offsets, bags.coords[order]))
    torch.testing.assert_close(moved.logits, out.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved.scores, out.scores[order], rtol=1e-9, atol=1e-9)
    assert torch.equal(moved.selected, out.selected[order])


@pytest.mark.parametrize(
    "graph", ["auto", "none", ["spatial"], ["knn", "minibatch"], ["minibatch"]]
)
def test_a_bag_alone_with_its_graph_or_without_is_as_in_a_batch(graph):
    head = head_of(graph=graph, branches=2).eval()
    bags = bags_of(30, 1, 50)
    together = head(bags)
    alone = [one_of(bags, number) for number in range(3)]
    made = [head.build_graph(bag.features, bag.coords) for bag in alone]
    kept = None if graph == ["minibatch"] else join_graphs(made, [30, 1, 50])
    torch.testing.assert_close(head(bags._replace(graph=kept)), together)
    for number, bag in enumerate(alone):
        out = head(bag)
        torch.testing.assert_close(out.logits[0], together.logits[number])
        torch.testing.assert_close(out.full_logits[0], together.full_logits[number])
        assert torch.equal(out.selected, per_bag(together.selected, bags.offsets)[number])


def test_messages_of_neighbours_are_scaled():
    whole = head_of(graph=["spatial"]).eval()
    layer = whole.layers[0]
    bags = bags_of(30)
    graph = whole.build_graph(bags.features, bags.coords)
    hidden = torch.randn(30, layer.norm.normalized_shape[0], dtype=bags.features.dtype)
    by_one, attention = layer(hidden, graph)
    layer.message_scale = 0.25
    by_quarter, same_attention = layer(hidden, graph)
    torch.testing.assert_close(by_quarter - hidden, (by_one - hidden) / 4)
    assert torch.equal(attention, same_attention)
    assert head_of(message_scale=0.5).layers[0].message_scale == 0.5


def test_gradients_reach_gamma_attention_vectors_and_tiles_not_selected():
    head = head_of(drop_edges=0.0).train()
    bags = bags_of(60, 40)
    features = bags.features.clone().requires_grad_()
    seen = {}
    head.attention.register_forward_hook(
        lambda module, inputs, scores: scores.retain_grad() or seen.update(s=scores)
    )
    out = head(bags._replace(features=features))
    torch.nn.functional.cross_entropy(out.logits, torch.tensor([1, 0])).backward()
    assert head.received.grad.abs().min() > 0
    assert head.layers[0].vector.grad.abs().min() > 0
    assert seen["s"].grad[~out.selected].abs().min() > 0
    assert (features.grad[~out.selected].abs().sum(1) > 0).all()


def test_received_attention_reaches_the_vector_even_without_messages():
    head = head_of().train()
    bags = bags_of(60)
    torch.nn.init.zeros_(head.layers[0].out.weight)
    head(bags).full_logits.sum().backward()
    assert head.layers[0].vector.grad.abs().max() > 0
    head.zero_grad()
    torch.nn.init.zeros_(head.received)
    head(bags).full_logits.sum().backward()
    assert head.layers[0].vector.grad.abs().max() == 0
    assert head.received.grad.abs().max() > 0


def test_attention_received_by_hand():
    """Edges 0 to 1 and 1 to 2, and to themselves: uniform attention gives 3/2, 1 and 1/2."""
    graph = Graph(
        torch.tensor([0, 0, 1, 1, 2]),
        torch.tensor([0, 1, 1, 2, 2]),
        torch.ones(5, dtype=torch.long),
    )
    uniform = torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5])
    assert log_received([uniform], graph, 3).tolist() == [0.0, 0.0, 0.0]
    away = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0])  # nobody looks at 1
    torch.testing.assert_close(
        log_received([away], graph, 3), torch.tensor([2 / 1.5, 1e-6, 1 / 0.5]).log()
    )
    half_way = torch.tensor([1.75 / 1.5, 0.5, 0.75 / 0.5]).log()
    torch.testing.assert_close(log_received([uniform, away], graph, 3), half_way)


@pytest.mark.parametrize(
    ("tiles", "count", "temperature"), [(7, 3, 0.5), (40, 1, 0.1), (40, 39, 2.0), (9, 4, 1e-3)]
)
def test_soft_mask_sums_to_the_budget_and_has_the_gradient_of_its_threshold(
    tiles, count, temperature
):
    ranked = (
        torch.randn(tiles, generator=torch.Generator().manual_seed(tiles)).double().requires_grad_()
    )
    mask = soft_mask(ranked, count, temperature)
    assert mask.sum().item() == pytest.approx(count, abs=1e-9)
    assert torch.equal(mask.argsort(), ranked.argsort()) or temperature < 0.01
    if temperature > 0.01:
        assert torch.autograd.gradcheck(lambda s: soft_mask(s, count, temperature), ranked)


def test_equal_tiles_share_the_soft_mask():
    torch.testing.assert_close(soft_mask(torch.full((20,), 3.0), 5, 0.5), torch.full((20,), 0.25))


def test_forward_is_hard_and_backward_soft():
    ranked = torch.tensor([1.0, 3.0, 2.0, 2.0, 0.0]).double().requires_grad_()
    chosen, mask = straight_through(ranked, 2, 0.5)
    assert chosen.tolist() == [False, True, True, False, False]
    assert mask.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]
    upstream = torch.randn(5, generator=torch.Generator().manual_seed(0)).double()
    got = torch.autograd.grad(mask, ranked, upstream)[0]
    want = torch.autograd.grad(soft_mask(ranked, 2, 0.5), ranked, upstream)[0]
    assert torch.equal(got, want)


def test_a_tile_left_out_may_score_far_above_those_chosen():
    scores = torch.tensor([[900.0], [1.0], [0.0]], dtype=torch.float64, requires_grad=True)
    features = torch.eye(3, dtype=torch.float64)
    mask = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    row = pool_through(scores, features, torch.tensor([False, True, True]), mask)
    torch.testing.assert_close(
        row[0], torch.tensor([0.0, *torch.tensor([1.0, 0.0]).softmax(0)]).double()
    )
    row[0, 0].backward()
    assert torch.isfinite(scores.grad).all()
    assert mask.grad[0] > 0


def test_branches_share_the_selection_of_their_mean_attention():
    scores = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double() * 3
    torch.testing.assert_close(importance(scores), scores.softmax(0).mean(1).log())
    head = head_of(branches=3).eval()
    bags = bags_of(50)
    out = head(bags)
    assert torch.equal(out.selected, top_mask(out.scores.softmax(0).mean(1), 5))
    torch.testing.assert_close(head.answers(bags, [out.selected])[0], out.logits)
    torch.testing.assert_close(
        head.answers(bags, [torch.ones(50, dtype=torch.bool)])[0], out.full_logits
    )


def test_sufficiency_is_zero_when_all_are_selected():
    bags = bags_of(4)
    assert sufficiency(head_of().eval()(bags), bags, torch.tensor([0])).item() == pytest.approx(
        0, abs=1e-12
    )


def test_noise_explores_at_first_and_never_outside_training():
    head = head_of(noise=1.0, noise_steps=10)
    bags = bags_of(80)
    assert isinstance(head, FollowsSteps)
    head.layers[0].requires_grad_(False)
    calm = head.eval()(bags).selected
    assert torch.equal(head.eval()(bags).selected, calm)
    torch.manual_seed(0)
    drawn = [head.train()(bags).selected for _ in range(5)]
    assert any(not torch.equal(one, drawn[0]) for one in drawn[1:])
    assert all(one.sum() == 8 for one in drawn)
    for _ in range(10):
        head.after_step()
    head.config.__dict__["drop_edges"] = 0.0
    assert torch.equal(head.train()(bags).selected, calm)


def test_graph_is_drawn_anew_in_training_only():
    head = head_of(graph=["minibatch"], block=8, drop_edges=0.0)
    bags = bags_of(60)
    assert head.build_graph(bags.features, bags.coords) is None
    assert torch.equal(head.eval()(bags).scores, head.eval()(bags).scores)
    assert not torch.equal(head.train()(bags).scores, head.train()(bags).scores)


def test_half_precision_changes_no_graph():
    head = head_of(graph=["minibatch"], block=8).float().eval()
    seen = []
    features = (7.3 + bags_of(60).features).bfloat16()  # far from zero, as an encoder's
    head.see_training([join([features.float()])])
    head.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    for dtype in (torch.bfloat16, torch.float32):
        forward_autocast(head, join([features.to(dtype)]))
    assert torch.equal(seen[0].sources, seen[1].sources)


def test_edges_are_dropped_in_training_only():
    head = head_of(drop_edges=0.5)
    bags = bags_of(60)
    assert torch.equal(head.eval()(bags).scores, head.eval()(bags).scores)
    assert not torch.equal(head.train()(bags).scores, head.train()(bags).scores)


def kinds(config, features, coords):
    graph = fixed_graph(
        GraphConfig(graph=config), features, coords, features.new_zeros(features.shape[1])
    )
    return set(graph.kinds.tolist())


def test_which_edges_there_are():
    bags = bags_of(49)
    assert kinds("none", bags.features, bags.coords) == {1}
    assert kinds(["spatial"], bags.features, bags.coords) == {1, 2}
    assert kinds(["knn"], bags.features, bags.coords) == {1, 4}
    assert kinds("auto", bags.features, None) == {1, 4}
    assert kinds("auto", bags.features, bags.coords) == {1, 2, 4, 6}
    assert kinds("spatial_first", bags.features, None) == {1, 4}
    assert kinds("spatial_first", bags.features, bags.coords) == {1, 2}


def test_large_bags_are_hashed(monkeypatch):
    asked = []
    for name in ("knn", "lsh"):
        monkeypatch.setattr(
            f"mil.heads._graph_choice.{name}_graph",
            lambda features, *_, name=name, **__: asked.append((name, len(features))) or NOTHING,
        )
    for tiles in (20_000, 20_001):
        fixed_graph(GraphConfig(), torch.zeros(tiles, 2), None, torch.zeros(2))
    assert asked == [("knn", 20_000), ("lsh", 20_001)]


@pytest.mark.parametrize("graph", [["spatial"], ["knn", "spatial"]])
def test_spatial_neighbours_of_a_bag_without_places_are_one_line(graph):
    with one_line(ConfigError, match="but a bag has no coordinates; set graph to spatial_first"):
        head_of(graph=graph)(bags_of(9, places=False))


def test_an_unknown_builder_is_one_line():
    with one_line(ConfigError, match="graph"):
        head_of(graph=["delaunay"])


def test_centre_is_the_mean_of_all_training_tiles_and_is_kept():
    head = head_of()
    first = bags_of(30, 5)
    second = bags_of(1)
    assert isinstance(head, UsesGraph)
    head.see_training(iter([first, second]))
    torch.testing.assert_close(head.centre, torch.cat([first.features, second.features]).mean(0))
    again = head_of(seed=1)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again.centre, head.centre)
    bags = bags_of(50)
    assert torch.equal(again.eval()(bags).logits, head.eval()(bags).logits)
    again.centre.fill_(9.0)  # off the data: other neighbours look similar
    assert not torch.equal(again.eval()(bags).logits, head.eval()(bags).logits)


def test_graphs_are_made_bag_by_bag():
    head = head_of()
    told = []
    bags = [
        LabelledBag(f"s{n}", bags_of(n).features.half(), bags_of(n).coords, torch.tensor(0))
        for n in (1, 30)
    ]
    made = with_graphs(bags, head, told.append)
    assert told == [1, 1]
    want = head.build_graph(bags[1].features.float(), bags[1].coords)
    assert all(torch.equal(*pair) for pair in zip(made[1].graph, want, strict=True))
    assert bags[1].graph is None


def test_a_width_that_the_attention_heads_do_not_divide():
    out = head_of(hidden=7, heads=4).eval()(bags_of(20))
    assert torch.isfinite(out.logits).all()


@pytest.mark.parametrize("graph", ["auto", "[minibatch]"])
def test_from_bags_to_a_folder_and_back(tmp_path, graph):
    rows = []
    for number, (features, label) in enumerate(planted_bags(count=12, tiles=30)):
        bag_file(tmp_path / "bags" / f"s{number}.h5", f"s{number}", features + 3)
        same = {
            "slide": f"s{number}",
            "patient": f"s{number}",
            "label": ["normal", "tumour"][label],
        }
        rows.append({"fold": 0, **same, "split": "train" if number < 8 else "val"})
    write_csv(tmp_path / "folds.csv", rows)
    (tmp_path / "toy.yaml").write_text("classes: [normal, tumour]\n")
    write_csv(
        tmp_path / "toy.csv", [{k: row[k] for k in ("slide", "patient", "label")} for row in rows]
    )
    options = f"{{hidden: 8, keep_least: 4, graph: {graph}}}"
    (tmp_path / "r.yaml").write_text(
        f"name: graph_select\noptions: {options}\nlosses: "
        "{cross_entropy: 1, full_cross_entropy: 0.5}\n"
        "train: {epochs: 2, batch_bags: 4}\n"
    )
    train(
        str(tmp_path / "toy.yaml"),
        tmp_path / "bags",
        tmp_path / "folds.csv",
        tmp_path / "head",
        recipe=str(tmp_path / "r.yaml"),
        fold=0,
        seed=1,
        threads=1,
        device="cpu",
    )
    head, trained = load_trained(tmp_path / "head")
    seen = [read_bag(tmp_path / "bags" / f"s{number}.h5").features for number in range(8)]
    mean = torch.from_numpy(np.concatenate(seen)).float().mean(0)
    torch.testing.assert_close(head.centre, mean, rtol=1e-4, atol=1e-4)
    applied = apply(head, trained, read_bag(tmp_path / "bags" / "s9.h5"))
    assert applied.selection.selected.sum() == 4
    assert applied.attention.sum() == pytest.approx(1, abs=1e-6)
