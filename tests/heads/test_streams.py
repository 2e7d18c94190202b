"""Heads that answer from parts of a bag: the same as from the whole, however it is cut."""

from functools import reduce
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mil.bags import attention, join
from mil.heads import Streams, TwoStage, build_head, head_names

DIM = 12
CLASSES = 3
STREAMING = (
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


def random_head(name: str, **options):
    torch.manual_seed(3)
    head = build_head(name, options, dim=DIM, classes=CLASSES)
    if isinstance(head, TwoStage):
        head.follow(head.first_stage().eval(), [join([torch.randn(9, DIM)]) for _ in range(4)])
    for parameter in head.parameters():  # attention that matters, heads that answer
        parameter.data.normal_(std=0.7)
    return head.eval()


HEADS = {name: random_head(name) for name in STREAMING}
HEADS["clam_sb with experts"] = random_head("clam_sb", project="experts")


def test_these_stream_and_no_others():
    built = {name: build_head(name, {}, dim=DIM, classes=CLASSES) for name in head_names()}
    assert (
        tuple(name for name, head in sorted(built.items()) if isinstance(head, Streams))
        == STREAMING
    )


@torch.inference_mode()
@given(
    cuts=st.lists(st.integers(1, 199), max_size=12),
    order=st.randoms(use_true_random=False),
    data=st.data(),
)
def test_parts_merge_to_the_whole_bag(cuts, order, data):
    head = HEADS[data.draw(st.sampled_from(sorted(HEADS)))]
    features = torch.randn(200, DIM, generator=torch.Generator().manual_seed(len(cuts))) * 2
    bags = join([features])
    whole = head(bags)
    ends = [0, *sorted(set(cuts)), 200]
    found = [head.part(features[first:last]) for first, last in pairwise(ends)]
    scores = torch.cat([one for _, one in found])
    parts = [part for part, _ in found]
    order.shuffle(parts)  # parts may come in any order, scores stand with their tiles
    made = head.conclude(reduce(lambda a, b: a.merge(b), parts), scores)
    torch.testing.assert_close(made.logits, whole.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        attention(made, bags, 1), attention(whole, bags, 1), rtol=1e-5, atol=1e-7
    )
    assert (made.per_class, made.attention_heads) == (whole.per_class, whole.attention_heads)


@torch.inference_mode()
@pytest.mark.parametrize("name", sorted(HEADS))
def test_hundreds_of_single_tiles_do_not_add_up_errors(name):
    features = torch.randn(500, DIM, generator=torch.Generator().manual_seed(1)) * 3
    part = None
    scores = []
    for row in features:
        new, score = HEADS[name].part(row[None])
        part = new if part is None else part.merge(new)
        scores = [*scores, score]
    whole = HEADS[name](join([features])).logits
    torch.testing.assert_close(
        HEADS[name].conclude(part, torch.cat(scores)).logits, whole, rtol=1e-5, atol=1e-5
    )


@torch.inference_mode()
def test_scores_far_apart_do_not_overflow():
    head = build_head("abmil", {"hidden": 4, "attention": 4}, dim=2, classes=2).eval()
    head.attention.score.weight.data *= 1e4
    features = torch.tensor([[3.0, 1.0], [-2.0, 5.0], [1.0, -4.0]])
    parts = [head.part(row[None]) for row in features]
    merged = head.conclude(
        parts[0][0].merge(parts[1][0]).merge(parts[2][0]), torch.cat([s for _, s in parts])
    )
    torch.testing.assert_close(merged.logits, head(join([features])).logits)
    assert merged.logits.isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize("name", sorted(HEADS))
def test_what_is_kept_does_not_grow(name):
    def kept(tiles: int) -> int:
        return sum(tensor.nbytes for tensor in HEADS[name].part(torch.randn(tiles, DIM))[0])

    assert kept(1) == kept(500)
