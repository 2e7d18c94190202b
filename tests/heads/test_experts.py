"""Reducer that is a mixture of low-rank experts."""

import pytest
import torch
from torch import nn

from mil.bags import join
from mil.errors import ConfigError
from mil.heads import build_head, head_module
from mil.heads._reducer import Experts, ReducerConfig, project
from tests.heads.waves import cosines, wave

# All of this package but `dsmil`, which has no reducer.
REDUCERS = [
    "abmil",
    "acmil",
    "acmil_mha",
    "clam_mb",
    "clam_sb",
    "dtfd",
    "gaam",
    "graph_select",
    "ibmil",
    "lama",
    "max",
    "mean",
    "mha",
    "mhim",
    "mixed_abmil",
    "probe",
    "transmil",
]
OF_EXPERTS = ReducerConfig(project="experts", experts=3, routers=2, rank=4)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_rows_are_those_of_the_formula():
    layer = Experts(OF_EXPERTS, 5, 6, bias=True).double()
    state = {
        "shared": wave(0, 4, 5),
        "keys": wave(1, 2, 3, 2),
        "experts": wave(2, 2, 3, 2, 3),
        "bias": wave(3, 6),
    }
    layer.load_state_dict(state)
    features = cosines(4, 5)
    rows = []
    for tile in features:
        of_tile = []
        for router, part in enumerate((state["shared"] @ tile).split(2)):
            weights = torch.softmax(state["keys"][router] @ part, 0)
            layers = zip(weights, state["experts"][router], strict=True)
            of_tile.append(sum(weight * (part @ expert) for weight, expert in layers))
        rows.append(torch.cat(of_tile) + state["bias"])
    torch.testing.assert_close(layer(features), torch.stack(rows), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("dim", "hidden"), [(64, 64), (128, 128), (384, 192), (1024, 512)])
@pytest.mark.parametrize("options", [{}, {"experts": 30}, {"routers": 1}])
def test_experts_have_no_more_parameters_than_the_linear_layer(dim, hidden, options):
    layer = project(ReducerConfig(project="experts", **options), dim, hidden)
    routers = options.get("routers", 4)
    of_one_rank = count(layer) / len(layer.shared)
    assert dim * hidden - routers * of_one_rank < count(layer) <= dim * hidden


def test_new_rows_vary_as_those_of_a_new_linear_layer():
    torch.manual_seed(0)
    features = torch.randn(2000, 64)
    for config in (ReducerConfig(), ReducerConfig(project="experts")):
        assert 0.2 < project(config, 64, 64)(features).var().item() < 0.4


def test_tiles_choose_their_experts_and_each_expert_learns():
    torch.manual_seed(0)
    layer = Experts(OF_EXPERTS, 5, 6, bias=False)
    _, weights = layer.routed(torch.randn(50, 5))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 50))
    assert (weights.argmax(-1).flatten().bincount(minlength=3) > 0).all()
    layer(torch.randn(50, 5)).square().sum().backward()
    for parameter in layer.parameters():
        assert (parameter.grad.flatten(0, -2).abs().sum(-1) > 0).all()


def test_by_default_the_reducer_is_the_linear_layer_with_its_random_numbers():
    torch.manual_seed(1)
    linear = nn.Linear(12, 6, bias=False)
    torch.manual_seed(1)
    head = build_head("abmil", {}, dim=12, classes=2)
    assert type(head.reduce[0]) is nn.Linear
    assert torch.equal(head.reduce[0].weight, linear.weight)


@pytest.mark.parametrize("name", REDUCERS)
def test_every_head_with_a_reducer_takes_experts(name):
    assert "project" in head_module(name).Config.model_fields
    head = build_head(name, {"project": "experts", "hidden": 8}, dim=16, classes=2)
    layers = [module for module in head.modules() if isinstance(module, Experts)]
    assert len(layers) == (2 if name == "mhim" else 1)
    assert head.eval()(join([torch.randn(3, 16)])).logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("abmil", {"experts": 4}, "head abmil: options: experts: needs project: experts"),
        ("abmil", {"project": "expert"}, "head abmil: options: project"),
        (
            "abmil",
            {"project": "experts", "routers": 3},
            r"head abmil: routers: must divide the width after the reducer \(8\), not 3",
        ),
        (
            "clam_sb",
            {"project": "experts", "rank": 6},
            r"head clam_sb: rank: must be a multiple of routers \(4\), not 6",
        ),
        (
            "probe",
            {"project": "experts"},
            "head probe: project: experts reduce tiles to a width; set hidden",
        ),
    ],
)
def test_options_that_do_not_fit_are_one_line(name, options, words):
    with pytest.raises(ConfigError, match=words) as error:
        build_head(name, options, dim=16, classes=2)
    assert "\n" not in str(error.value)
