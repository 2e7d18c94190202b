"""Which precision is chosen on which device."""

import pytest
import torch

from mil.config import EncoderConfig
from mil.encoders.build import build_encoder
from mil.encoders.precision import choose_precision

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def cpu_can(monkeypatch):
    return lambda *names: monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {name: True for name in names}, raising=False
    )


@pytest.fixture
def gpu_has_bf16(monkeypatch):
    return lambda has: monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has
    )


@pytest.mark.parametrize(
    ("instructions", "chosen"),
    [
        (["avx512_bf16"], "bf16"),
        (["amx_tile", "amx_bf16"], "bf16"),
        (["avx512_f", "amx_int8"], "fp32"),
        ([], "fp32"),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_has_instructions_for_it(cpu_can, instructions, chosen):
    cpu_can(*instructions)
    assert choose_precision("auto", None, CPU) == chosen
    assert choose_precision("auto", "fp16", CPU) == chosen  # what the authors do on a GPU
    assert choose_precision("auto", "fp32", CPU) == "fp32"


def test_an_older_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", None, CPU) == "fp32"


@pytest.mark.parametrize(
    ("published", "has_bf16", "chosen"),
    [
        (None, True, "bf16"),
        (None, False, "fp16"),
        ("fp16", True, "fp16"),
        ("fp16", False, "fp16"),
        ("bf16", True, "bf16"),
        ("bf16", False, "fp16"),
        ("fp32", True, "fp32"),
        ("fp32", False, "fp32"),
    ],
)
def test_a_gpu_does_as_published_if_it_can(gpu_has_bf16, published, has_bf16, chosen):
    gpu_has_bf16(has_bf16)
    assert choose_precision("auto", published, CUDA) == chosen


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_user_is_obeyed(cpu_can, gpu_has_bf16, precision):
    cpu_can()
    gpu_has_bf16(False)
    assert choose_precision(precision, "fp32", CPU) == precision
    assert choose_precision(precision, "bf16", CUDA) == precision


def test_other_devices_compute_in_full():
    assert choose_precision("auto", "fp16", torch.device("meta")) == "fp32"


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_an_encoder_says_and_does_it(precision, dtype):
    entry = EncoderConfig(timm="test_vit", dim=64, tile_px=160, weights="random", licence="x")
    encoder = build_encoder("x", entry, tile_px=160, device=CPU, precision=precision)
    assert (encoder.dtype, encoder.identity["precision"]) == (dtype, precision)
    seen = []
    encoder.model.blocks[0].mlp.fc1.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.dtype)
    )
    features = encoder(torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8))
    assert seen == [dtype]
    assert features.dtype == torch.float32
    assert features.isfinite().all()
