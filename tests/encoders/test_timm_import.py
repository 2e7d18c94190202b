"""timm is imported without torch's compiler, and works with it."""

import subprocess
import sys

import pytest

BUILD = """
import sys
import torch
from mil.config import FeaturesConfig, load_encoders
from mil.encoders.build import build_batched_encoder
entry = load_encoders()["resnet18"].model_copy(update={"weights": "random"})
config = FeaturesConfig(batch_size=1, precision="fp32")
model = build_batched_encoder("resnet18", entry, 64, config, "cpu").encoder.model
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_a_small_encoder_is_built_without_the_compiler() -> None:
    used = "model(torch.zeros(1, 3, 64, 64)); print('torch._dynamo' in sys.modules)"
    assert run_python(BUILD + used) == "False\n"


@pytest.mark.slow
def test_the_compiler_comes_when_it_is_asked_for() -> None:
    code = """
from mil.encoders.timm_import import import_timm
timm = import_timm()
import torch
from timm.models.naflexvit import NaFlexRopeIterator
from torchvision.ops.roi_align import is_compile_supported
assert is_compile_supported("cuda") in (True, False)
model = timm.create_model("test_vit", num_classes=0).eval()
tiles = torch.rand(2, 3, 160, 160)
plain = model(tiles)
import torch._dynamo
compiled = torch.compile(model, backend="eager")(tiles)
print(torch.allclose(plain, compiled, atol=1e-5), torch.compiler.disable.__module__)
"""
    assert run_python(code) == "True torch.compiler\n"
