"""Training in half precision: what is bfloat16, and what stays float32."""

import pytest
import torch

from mil.bags import join
from mil.config import TrainConfig, config_path, load_recipe
from mil.heads import UsesGraph, build_head, head_names
from mil.losses import total_loss
from mil.train.data import LabelledBag, batches
from mil.train.optim import make_optimiser
from mil.train.precision import choose_dtype, forward_autocast

CPU = torch.device("cpu")
# Heads that are fitted at once take no step.
AT_ONCE = {"abmil_probe", "knn", "linear_probe", "linear_probe_std"}
RECIPES = sorted({path.stem for path in config_path("heads").glob("*.yaml")} - AT_ONCE)
LABELS = torch.tensor([1, 0])


@pytest.mark.parametrize(
    ("precision", "instructions", "dtype"),
    [
        ("auto", ["avx512_bf16"], torch.bfloat16),
        ("auto", ["avx512_f"], torch.float32),
        ("bf16", [], torch.bfloat16),
        ("fp32", ["amx_bf16"], torch.float32),
    ],
)
def test_auto_is_half_precision_where_there_are_instructions_for_it(
    precision, instructions, dtype, monkeypatch
):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True), raising=False
    )
    assert choose_dtype(precision, CPU) == dtype


def test_a_recipe_is_trained_in_full_precision_unless_it_says_so():
    assert TrainConfig().precision == "fp32"


def loss_of(head, settings, dtype):
    draw = torch.Generator().manual_seed(1)
    features = [torch.randn(n, 64, generator=draw).to(torch.bfloat16).to(dtype) for n in (60, 40)]
    coords = [torch.tensor([(i % 8, i // 8) for i in range(n)]) * 256 for n in (60, 40)]
    bags = join(features, coords)
    torch.manual_seed(2)  # the same tiles are masked and dropped
    out = forward_autocast(head, bags)
    return out, total_loss(
        {name: weight.start for name, weight in settings.losses.items()}, out, bags, LABELS
    )[0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_a_step_whose_results_and_gradients_are_full(recipe):
    settings = load_recipe(recipe)
    torch.manual_seed(0)
    head = build_head(settings.name, settings.options | {"hidden": 32}, dim=64, classes=2).train()
    if isinstance(head, UsesGraph):
        head.see_training([join([torch.randn(50, 64)])])
    out, loss = loss_of(head, settings, torch.bfloat16)
    assert out.logits.dtype == out.scores.dtype == loss.dtype == torch.float32
    loss.backward()
    optimiser = make_optimiser(head, settings.train)
    optimiser.step()
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in head.parameters())


@pytest.mark.parametrize("recipe", ["abmil", "abmil_plain", "acmil", "aem"])
def test_the_loss_is_that_of_full_precision(recipe):
    settings = load_recipe(recipe)
    torch.manual_seed(0)
    options = (
        {"mask_top": 0} if settings.name == "acmil" else {}
    )  # else a near tie may mask another tile
    head = build_head(settings.name, settings.options | options, dim=64, classes=2).train()
    half, full = (
        loss_of(head, settings, dtype)[1].item() for dtype in (torch.bfloat16, torch.float32)
    )
    assert half == pytest.approx(full, abs=1e-2)
    assert half != full  # it was half precision


def test_dropout_works_in_half_precision():
    settings = load_recipe("abmil")
    torch.manual_seed(0)
    head = build_head("abmil", {"dropout": 0.25}, dim=64, classes=2).train()
    loss = loss_of(head, settings, torch.bfloat16)[1]
    loss.backward()
    assert loss.item() == pytest.approx(loss_of(head, settings, torch.float32)[1].item(), abs=1e-2)


@pytest.mark.parametrize(
    "name", [name for name in head_names() if name != "max"]
)  # whose logits are a tile's
def test_logits_are_not_rounded(name):
    torch.manual_seed(0)
    head = build_head(name, {}, dim=64, classes=2).train()  # DSMIL's in evaluation are a mean
    out = forward_autocast(head, join([torch.randn(9, 64).bfloat16()]))
    several = out.branch_logits if name != "dsmil" else None  # its branch is a tile
    judged = None if out.instances is None else out.instances.logits
    for logits in (out.logits, several, out.full_logits, judged):
        assert logits is None or not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("stored", [torch.float16, torch.float32], ids=str)
def test_batches_have_the_type_that_is_asked_for(stored):
    bags = [
        LabelledBag("a", torch.randn(3, 4).to(stored), None, torch.tensor(1)),
        LabelledBag("b", torch.randn(2, 4).to(stored), None, torch.tensor(0)),
    ]
    for size in (1, 2):
        assert all(joined.features.dtype == torch.float32 for joined, _ in batches(bags, size, CPU))
        assert all(
            joined.features.dtype == torch.bfloat16
            for joined, _ in batches(bags, size, CPU, dtype=torch.bfloat16)
        )
