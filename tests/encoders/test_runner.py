"""Batches that the memory holds, and weights rounded to the precision of the encoder."""

import sys
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from mil.encoders.precision import cast_weights, round_keeping_sums
from mil.encoders.runner import (
    BatchedEncoder,
    Encoder,
    default_batch_size,
    largest_power_of_two,
)
from mil.errors import ConfigError

CPU = torch.device("cpu")
TILES = torch.arange(23, dtype=torch.uint8)[:, None, None, None].expand(23, 4, 4, 3)


class Small(nn.Module):
    """Tells the mean of each tile; has memory for `most` tiles."""

    def __init__(
        self,
        most: int,
        error: type[Exception] = torch.OutOfMemoryError,
        message: str = "CUDA out of memory",
    ):
        super().__init__()
        self.most = most
        self.error = error
        self.message = message
        self.sizes = []

    def forward(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise self.error(self.message)
        return batch.mean((1, 2, 3))[:, None]


def batched(model: nn.Module, batch_size: int = 16, **options) -> BatchedEncoder:
    return BatchedEncoder(
        Encoder("small", model, (0.0,) * 3, (1 / 255,) * 3, CPU, torch.float32, {}),
        1,
        batch_size,
        **options,
    )


def test_a_batch_too_large_is_halved_and_no_tile_is_lost():
    model = Small(5)
    encoder = batched(model)
    torch.testing.assert_close(encoder(TILES)[:, 0], torch.arange(23.0))
    assert model.sizes == [16, 8, 4, 4, 4, 4, 4, 3]
    assert encoder.batch_size == 4  # the next batch does not try again
    encoder(TILES[:8])
    assert model.sizes[8:] == [4, 4]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        (MemoryError, ""),
    ],
)
def test_the_memory_of_a_cpu_ends_too(error, said):
    model = Small(8, error, said)
    torch.testing.assert_close(batched(model)(TILES)[:, 0], torch.arange(23.0))


def test_what_filled_the_memory_is_let_go_before_the_next_try(monkeypatch):
    under_way = []
    monkeypatch.setattr(
        BatchedEncoder,
        "_halve_batch",
        lambda self, size: under_way.append(sys.exc_info()[0]) or setattr(self, "batch_size", 4),
    )
    batched(Small(5))(TILES)
    assert under_way == [None]


def test_a_memory_that_holds_no_tile_is_one_line():
    with pytest.raises(
        ConfigError,
        match=r"^encoder small: the memory of cpu does not hold the model and one tile; [^\n]*$",
    ):
        batched(Small(0))(TILES)


def test_other_errors_are_not_taken_for_a_full_memory():
    model = Small(5, RuntimeError, "size mismatch")
    with pytest.raises(RuntimeError, match="size mismatch"):
        batched(model)(TILES)
    assert model.sizes == [16]


def test_a_compiled_model_sees_one_size():
    model = Small(16)
    torch.testing.assert_close(batched(model, pad=True)(TILES)[:, 0], torch.arange(23.0))
    assert model.sizes == [16, 16]


def test_a_single_tile_is_one_batch():
    model = Small(16)
    batched(model)(TILES[:1])
    assert model.sizes == [1]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cast_weights_give_the_features_of_autocast(name, dtype):
    torch.manual_seed(0)
    size = 160 if name == "test_vit" else 64
    model = timm.create_model(name, num_classes=0).eval()
    pixels = torch.rand(2, 3, size, size)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        before = model(pixels)
        cast_weights(model, dtype)
        after = model(pixels)
    assert {p.dtype for p in model.parameters()} == {dtype, torch.float32}
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_float32_is_left_alone():
    model = timm.create_model("test_resnet", num_classes=0)
    cast_weights(model, torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_depthwise_filters_keep_their_sums():
    torch.manual_seed(0)
    weight = torch.randn(200, 1, 3, 3) + 0.3
    rounded = round_keeping_sums(weight)
    nearest = weight.bfloat16().float()
    assert torch.equal(rounded, rounded.bfloat16().float())
    off, off_nearest = (
        (w.double() - weight.double()).sum((1, 2, 3)).abs() for w in (rounded, nearest)
    )
    assert off.median() < off_nearest.median() / 10
    torch.testing.assert_close(rounded, weight, rtol=0.02, atol=0.02)


def test_only_depthwise_filters_are_rounded_so():
    torch.manual_seed(0)
    deep = nn.Conv2d(8, 8, 3, groups=8)
    full = nn.Conv2d(8, 8, 3)
    rounded = {
        "deep": round_keeping_sums(deep.weight.detach()),
        "full": full.weight.detach().clone(),
    }
    cast_weights(nn.Sequential(deep, full), torch.bfloat16)
    assert torch.equal(deep.weight.float(), rounded["deep"])
    assert torch.equal(full.weight, rounded["full"].bfloat16())


@pytest.mark.parametrize(
    ("tiles", "size"), [(0.3, 1), (1, 1), (2.9, 2), (127.9, 64), (128, 128), (1e9, 256)], ids=str
)
def test_the_largest_batch_that_fits(tiles, size):
    assert largest_power_of_two(tiles) == size


def test_a_gpus_batch_leaves_room_for_another_job(monkeypatch):
    """900 of 1000 bytes for two jobs; weights of 100 leave each 350 for two batches, 20 a tile."""
    seen = []

    class Pretended:
        device = torch.device("cuda")
        model = nn.Linear(25, 1, bias=False)

        def __call__(self, pixels):
            seen.append(len(pixels))

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5000)  # others' are no matter
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 5000 + 20 * seen[-1])
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=1000)
    )
    assert default_batch_size(Pretended(), 8) == largest_power_of_two(175 / 20) == 8


def test_a_cpus_batch_is_small():
    assert default_batch_size(batched(Small(1)).encoder, 224) == 16
