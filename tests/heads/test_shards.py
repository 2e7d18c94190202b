"""Bags split over processes: logits, losses and gradients are those of the whole bags."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import spawn

from mil.api.shards import average_gradients, forward_shard
from mil.bags import Bags
from mil.errors import ConfigError
from mil.heads import build_head
from mil.losses import total_loss

DIM = 8
LABELS = torch.tensor([0, 2, 1])
# Tiles of three bags in each of two processes; one has none of the last bag.
SHARES = ((5, 1, 0), (2, 6, 3))
UNIFORM = {"mix": {"attention": "uniform", "heads": 2}, "mix_dropout": 0.0}
AGENT = {"mix": {"attention": "agent", "heads": 2, "count": 3}, "mix_dropout": 0.0, "layers": 2}
HEADS = {
    "abmil": ("abmil", {}),
    "mean": ("mean", {}),
    "mha": ("mha", {"hidden": 16, "heads": 2, "dropout": 0.0}),
    "acmil": ("acmil", {"branches": 3, "mask_top": 0}),
    "acmil_mha": ("acmil_mha", {"hidden": 16, "heads": 2, "mask_top": 0, "dropout": 0.0}),
    "probe": ("probe", {"queries": 4}),
    "lama": ("lama", {"branches": 3}),
    "ibmil": ("ibmil", {}),
    "uniform": ("mixed_abmil", UNIFORM),
    "agent": ("mixed_abmil", AGENT),
}
TERMS = {"cross_entropy": 1.0, "attention_entropy": 0.3}


def head_of(name):
    torch.manual_seed(1)
    head, options = HEADS[name]
    return build_head(head, options, dim=DIM, classes=3).double()


def tiles_of(sizes, seed):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(sum(sizes), DIM, generator=draw, dtype=torch.float64)
    return features, torch.tensor([0, *sizes]).cumsum(0)


def whole_bags():
    """All shares of the first bag, then those of the second."""
    of_bags = [[] for _ in LABELS]
    for number, sizes in enumerate(SHARES):
        features, _ = tiles_of(sizes, number)
        for bag, rows in zip(of_bags, features.split(list(sizes)), strict=True):
            bag.append(rows)
    features = torch.cat([torch.cat(rows) for rows in of_bags])
    sizes = [sum(sizes) for sizes in zip(*SHARES, strict=True)]
    return Bags(features, torch.tensor([0, *sizes]).cumsum(0))


def loss_of(out, bags):
    terms = dict(TERMS)
    if out.branch_logits is not None:
        terms |= {"branch_cross_entropy": 1.0, "branch_diversity": 0.7}
    return total_loss(terms, out, bags, LABELS)[0]


def answers(head, forward, bags, average):
    """Logits, loss and gradients."""
    head.zero_grad()
    out = forward(bags)
    loss = loss_of(out, bags)
    loss.backward()
    average(head)
    gradients = {name: p.grad for name, p in head.named_parameters() if p.grad is not None}
    return {"logits": out.logits.detach(), "loss": loss.detach(), **gradients}


def whole(name):
    head = head_of(name)
    return answers(head, head, whole_bags(), lambda head: None)


def in_process(rank, folder):
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=len(SHARES),
        timeout=timedelta(seconds=120),
    )
    torch.set_num_threads(1)
    bags = Bags(*tiles_of(SHARES[rank], rank))
    got = {}
    for name in HEADS:
        head = head_of(name)
        got[name] = answers(
            head, lambda bags, h=head: forward_shard(h, bags), bags, average_gradients
        )
    torch.save(got, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_bags_split_over_processes_are_the_whole_bags(tmp_path):
    spawn(in_process, (str(tmp_path),), nprocs=len(SHARES))
    for rank in range(len(SHARES)):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in HEADS:
            want = whole(name)
            assert set(want) <= set(got[name])
            for key, tensor in got[name].items():
                right = want.get(key, torch.zeros_like(tensor))
                torch.testing.assert_close(
                    tensor,
                    right,
                    rtol=1e-12,
                    atol=1e-12,
                    msg=lambda m, n=name, k=key, r=rank: f"{n} {k} in process {r}: {m}",
                )


@pytest.fixture
def alone(tmp_path):
    """A group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["acmil", "agent"])
def test_one_process_with_all_tiles_gives_what_the_head_does(name, alone):
    head = head_of(name)
    bags = whole_bags()
    got = answers(head, lambda bags: forward_shard(head, bags), bags, average_gradients)
    for key, right in whole(name).items():
        torch.testing.assert_close(got[key], right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("dsmil", {}, "head dsmil: needs all tiles of a bag in one process"),
        ("acmil", {}, "head acmil: in training it ranks all tiles"),
        ("clam_sb", {}, "head clam_sb: in training it ranks all tiles"),
        ("lama", {"context": "mean"}, "head lama: context: the mean of a bag"),
        ("mixed_abmil", {"mix": {"attention": "landmark"}}, "head mixed_abmil: mix: needs all"),
        ("mixed_abmil", {"mix": {"attention": "uniform", "routed": 2}}, "without routed"),
        ("mixed_abmil", {"mix": {"attention": "agent", "agents": "cells"}}, "learned agents"),
    ],
)
def test_heads_that_need_whole_bags_are_refused_by_name(head, options, message, alone):
    built = build_head(head, options, dim=DIM, classes=3)
    with pytest.raises(ConfigError, match=message):
        forward_shard(built, Bags(*tiles_of((3, 1, 1), 0)))
