"""Logits without a tile, and of a tile alone: those that the head itself gives."""

from functools import partial

import pytest
import torch

from mil.bags import Bags, HeadOutput, join
from mil.heads import Removals, RemovesTiles, TwoStage, _pooled_removals, build_head, head_names
from mil.heads._pooling import Pooling, pool_by
from mil.heads._stream import PoolsTiles
from mil.trained.assembled import assemble
from mil.trained.scaling import ZScore

DIM = 12
CLASSES = 3
TILES = 17
REMOVING = (
    "abmil",
    "abmil_probe",
    "acmil",
    "acmil_mha",
    "clam_mb",
    "clam_sb",
    "ibmil",
    "knn",
    "linear_probe",
    "max",
    "mean",
    "mha",
    "mhim",
    "probe",
)
FEATURES = torch.randn(TILES, DIM, generator=torch.Generator().manual_seed(5)) * 2


def head_of(name, std, seed=3):
    torch.manual_seed(seed)
    head = build_head(name, {}, dim=DIM, classes=CLASSES)
    if isinstance(head, TwoStage):
        head.follow(head.first_stage().eval(), [join([torch.randn(9, DIM)]) for _ in range(4)])
    for parameter in head.parameters():
        parameter.data.normal_(std=std)
    return head.eval()


def of_subsets(head, subsets, features=FEATURES):
    """The head's own logits of bags of some tiles each."""
    return torch.cat([head(join([features[subset]])).logits for subset in subsets]).double()


def without_each(head, features=FEATURES):
    numbers = torch.arange(len(features))
    return of_subsets(head, [numbers != tile for tile in numbers], features)


def assert_close(one, other, tolerance=1e-5):
    """Relative to the logits of each bag."""
    error = (one - other).norm(dim=-1) / other.norm(dim=-1)
    assert error.max() < tolerance


def assert_exact(head, features=FEATURES):
    removals = head.remover()(join([features]))
    tiles = len(features)
    whole = head(join([features])).logits.double()
    assert_close(removals.alone(), of_subsets(head, torch.arange(tiles).split(1), features))
    assert_close(whole - removals.effect(), without_each(head, features))
    order = torch.randperm(tiles, generator=torch.Generator().manual_seed(0))
    counts = [1, 3, tiles - 1, tiles]
    ends = removals.kept(order, counts)
    assert_close(ends.first, of_subsets(head, [order[:count] for count in counts], features))
    assert_close(ends.last, of_subsets(head, [order[tiles - n :] for n in counts], features))


def test_these_remove_tiles_exactly_and_no_others():
    built = {name: build_head(name, {}, dim=DIM, classes=CLASSES) for name in head_names()}
    removing = [name for name, head in sorted(built.items()) if isinstance(head, RemovesTiles)]
    assert tuple(removing) == REMOVING
    # Their evidence is estimated: tests/trained/test_evidence.py.
    others = {"dsmil", "dtfd", "gaam", "graph_select", "lama", "mixed_abmil", "transmil"}
    assert set(built) - set(removing) == others


# At first attention is nearly uniform; trained, one tile may have nearly all of it.
@pytest.mark.parametrize("name", REMOVING)
@torch.inference_mode()
def test_logits_are_those_of_the_head_on_the_bag_without_the_tile(name):
    for std in (0.1, 2.0):
        assert_exact(head_of(name, std))


@pytest.mark.parametrize("name", ["acmil", "clam_mb", "max", "mean"])
@torch.inference_mode()
def test_members_are_averaged(name):
    scalings = [ZScore.fitted([FEATURES[:9] + shift], DIM) for shift in (0, 1)]
    assert_exact(assemble([head_of(name, 0.7, seed) for seed in (1, 2)], scalings).eval())


@pytest.mark.parametrize("room", [0, 1 << 30])
@torch.inference_mode()
def test_bags_in_chunks_that_are_kept_or_computed_again(monkeypatch, room):
    monkeypatch.setattr(_pooled_removals, "CHUNK_BYTES", 300)
    head = head_of("acmil", 0.7)
    few = head.remover(room)(join([FEATURES]))
    assert few.chunk < TILES / 2
    assert few.keeps == bool(room)
    monkeypatch.undo()
    many = head.remover()(join([FEATURES]))
    order = torch.arange(TILES).flip(0)
    # float64 numbers of float32 rows, which round by the size of a chunk.
    as_float32 = partial(torch.testing.assert_close, rtol=1.3e-6, atol=1e-5)
    as_float32(few.alone(), many.alone())
    as_float32(few.effect(), many.effect())
    for one, other in zip(few.kept(order, [2, 9]), many.kept(order, [2, 9]), strict=True):
        as_float32(one, other)


def attend_to(head, factor):
    """A head of one branch whose scores are `factor` times the first feature."""
    head.reduce[0].weight.data.copy_(torch.eye(DIM))
    head.attention.value.weight.data.zero_()[0, 0] = 1e-3
    head.attention.value.bias.data.zero_()
    head.attention.gate.bias.data.fill_(100.0)
    head.attention.score.weight.data.zero_()[0, 0] = factor * 1e3
    return head


@pytest.mark.parametrize("factor", [1.0, 20.0, 40.0, 1000.0])
@torch.inference_mode()
def test_a_tile_with_nearly_all_of_the_attention(factor):
    """Without it the others share what was left, down to nothing that float64 could hold."""
    torch.manual_seed(0)
    head = attend_to(build_head("abmil", {"hidden": DIM}, dim=DIM, classes=2).eval(), factor)
    features = FEATURES.abs()
    features[:, 0] = torch.linspace(0, 0.5, TILES)
    features[4, 0] = 1.5
    assert_exact(head, features)


@torch.inference_mode()
def test_a_bag_of_one_tile_loses_nothing():
    for name in REMOVING:
        head = head_of(name, 0.7)
        removals = head.remover()(join([FEATURES[:1]]))
        assert_close(removals.alone(), head(join([FEATURES[:1]])).logits.double())
        assert removals.effect().tolist() == [[0.0] * CLASSES]


class PluggedIn(PoolsTiles):
    """A head of another package: rows of its own for each branch, no code for removals."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(DIM, 2 * CLASSES)
        self.score = torch.nn.Linear(DIM, 2)

    def pool(self, bags: Bags) -> Pooling:
        hidden = self.layer(bags.features)
        scores = self.score(bags.features)
        branches = zip(hidden.chunk(2, 1), scores.split(1, 1), strict=True)
        rows = [pool_by(own, tiles, bags.offsets).rows for tiles, own in branches]
        return Pooling(torch.cat(rows, 1), scores)

    def predict(self, pooled: torch.Tensor, scores: torch.Tensor) -> HeadOutput:
        return HeadOutput(pooled.tanh().sum(1), scores)


@torch.inference_mode()
def test_a_head_of_another_package_that_pools_needs_no_code_for_it():
    torch.manual_seed(1)
    head = PluggedIn().eval()
    assert isinstance(head.remover()(join([FEATURES])), Removals)
    assert_exact(head)


@torch.inference_mode()
def test_branches_that_a_head_of_another_package_mixes():
    class Mixing(PluggedIn):
        def mixing(self) -> torch.Tensor:
            return torch.tensor([[0.25, 0.75]], dtype=torch.float64)

        def predict(self, pooled: torch.Tensor, scores: torch.Tensor) -> HeadOutput:
            mixed = 0.25 * pooled[:, 0] + 0.75 * pooled[:, 1]
            return HeadOutput(self.logits_of(mixed[:, None]), scores)

        def logits_of(self, rows: torch.Tensor) -> torch.Tensor:
            return rows[:, 0].tanh()

    torch.manual_seed(1)
    assert_exact(Mixing().eval())
