"""Encoders: weights in their places, known by their digest; errors in one line."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from mil.config import EncoderConfig, load_encoder
from mil.encoders.build import build_encoder
from mil.encoders.runner import Encoder
from mil.encoders.weights import read_weights, weights_digest, weights_path
from mil.errors import ConfigError
from tests.messages import one_line

CPU = torch.device("cpu")
DEFAULT_DIGEST = "0e6eac3920806d21a31ff56e55b88b6ad15e51712b8619e1e8151d6bd00a24bc"
TINY = {"timm": "test_resnet", "dim": 96, "tile_px": 32, "weights": "random", "licence": "ours"}


def build(precision: str = "fp32", **changes: object) -> Encoder:
    entry = EncoderConfig(**{**TINY, **changes})
    return build_encoder("tiny", entry, tile_px=32, device=CPU, precision=precision)


def default(precision: str) -> Encoder:
    entry = load_encoder("efficientnet_lite0")
    return build_encoder("efficientnet_lite0", entry, tile_px=224, device=CPU, precision=precision)


def refused(**changes: object) -> str:
    with one_line(ConfigError) as caught:
        build(**changes)
    return str(caught.value)


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", num_classes=5)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(model.state_dict(), path)
    return path


def photograph(name: str) -> torch.Tensor:
    """One of scikit-image's photographs, its middle square, uint8 [1, 224, 224, 3]."""
    from PIL import Image
    from skimage import data

    image = Image.fromarray(getattr(data, name)())
    side = min(image.size)
    left = (image.width - side) // 2
    top = (image.height - side) // 2
    return torch.from_numpy(
        np.array(image.resize((224, 224), box=(left, top, left + side, top + side)))
    )[None]


@pytest.mark.parametrize(
    ("name", "label"), [("chelsea", 285), ("coffee", 967)], ids=["cat", "espresso"]
)
def test_the_default_encoders_weights_know_photographs(name, label):
    entry = load_encoder("efficientnet_lite0")
    model = timm.create_model(entry.timm, num_classes=1000).eval()
    model.load_state_dict(
        read_weights(weights_path("efficientnet_lite0", entry.weights), model, "order")
    )
    built = default("fp32")
    whole = Encoder("whole", model, built.mean, built.std, CPU, torch.float32, {})
    assert int(whole(photograph(name)).argmax()) == label
    model.reset_classifier(0)
    assert built.identity["weights_sha256"] == weights_digest(model.state_dict()) == DEFAULT_DIGEST


def test_the_default_encoder_is_the_same_each_time_and_in_bf16():
    full = default("fp32")
    half = default("bf16")
    assert full.identity["weights_sha256"] == half.identity["weights_sha256"]
    assert (full.identity["precision"], half.identity["precision"]) == ("fp32", "bf16")
    assert full.identity["encoder_revision"] == "tf_efficientnet_lite0"
    # Photographs: on plain noise features nearly vanish, and rounding rules.
    pixels = torch.cat([photograph("chelsea"), photograph("coffee")])
    a = full(pixels)
    b = half(pixels)
    assert a.shape == (2, 1280)
    assert a.dtype == b.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(a, b).min() > 0.999
    assert torch.nn.functional.cosine_similarity(a[:1], a[1:]).item() < 0.9


def test_pixels_are_normalised_as_the_entry_says():
    encoder = build(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    seen = []
    encoder.model.forward = lambda batch: (seen.append(batch), torch.zeros(len(batch), 96))[1]
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(2, 4, 4, 3)
    encoder(pixels)
    assert seen[0].shape == (2, 3, 4, 4)
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([-0.2, 0.0, 0.7]))


def test_weights_by_name_and_by_order_are_the_same(tiny_weights, tmp_path):
    by_name = build(weights=str(tiny_weights))
    model = timm.create_model("test_resnet", num_classes=5)
    model.load_state_dict(load_file(tiny_weights))
    torch.save(
        {f"other.{i}": tensor for i, tensor in enumerate(model.state_dict().values())},
        tmp_path / "a.pth",
    )
    by_order = build(weights=str(tmp_path / "a.pth"), keys="order")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "b.pth")
    nested = build(weights=str(tmp_path / "b.pth"))
    digests = {e.identity["weights_sha256"] for e in (by_name, by_order, nested)}
    assert len(digests) == 1
    pixels = torch.randint(
        0, 255, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(by_name(pixels), by_order(pixels))


def test_the_older_of_torchs_formats_and_other_dtypes(tiny_weights, tmp_path):
    half_tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(tiny_weights).items()
    }
    torch.save(half_tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(half_tensors, tmp_path / "new.safetensors")
    old, new = (build(weights=str(tmp_path / name)) for name in ("old.pth", "new.safetensors"))
    assert {tensor.dtype for tensor in old.model.parameters()} == {torch.float32}
    assert old.identity["weights_sha256"] == new.identity["weights_sha256"]
    torch.testing.assert_close(
        old.model.state_dict()["conv1.0.weight"], half_tensors["conv1.0.weight"].float()
    )


def test_tables_that_timm_computes_are_not_left_empty(tmp_path):
    torch.manual_seed(3)
    model = timm.create_model(
        "test_vit_relpos", num_classes=0
    ).eval()  # its positions are in no weights file
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    built = build_encoder(
        "x",
        EncoderConfig(
            timm="test_vit_relpos", dim=96, weights=str(tmp_path / "w.safetensors"), licence="ours"
        ),
        tile_px=160,
        device=CPU,
        precision="fp32",
    )
    pixels = torch.randint(0, 255, (2, 160, 160, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model((pixels / 255 - 0.5).div(0.5).permute(0, 3, 1, 2))
    torch.testing.assert_close(built(pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_weights_file_that_changes_later_changes_nothing(tiny_weights, tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(tiny_weights.read_bytes())
    encoder = build(weights=str(file))
    with file.open("r+b") as raw:
        raw.seek(-4000, 2)
        raw.write(b"\0" * 4000)
    assert weights_digest(encoder.model.state_dict()) == encoder.identity["weights_sha256"]


def test_one_changed_number_changes_the_digest(tiny_weights):
    encoder = build(weights=str(tiny_weights))
    before = encoder.identity["weights_sha256"]
    assert weights_digest(encoder.model.state_dict()) == before
    with torch.no_grad():
        next(encoder.model.parameters())[0, 0, 0, 0] += 1e-3
    assert weights_digest(encoder.model.state_dict()) != before


def test_the_model_is_frozen(tiny_weights):
    encoder = build(weights=str(tiny_weights))
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_a_package_or_file_that_is_missing(tmp_path):
    assert "pip install no_such_package" in refused(weights="package:no_such_package/a.pth")
    assert "no weights file" in refused(weights="package:timm/none.pth")
    assert "pip install csv" in refused(
        weights="package:csv/none.pth"
    )  # a module, which holds no files
    assert f"no weights file {tmp_path / 'none.pth'}" in refused(weights=str(tmp_path / "none.pth"))


def test_weights_of_another_model(tiny_weights):
    for keys in ("name", "order"):
        assert "does not fit the model" in refused(
            timm="resnet10t", dim=512, weights=str(tiny_weights), keys=keys
        )
    tensors = load_file(tiny_weights)
    for changed, mismatch in (
        (
            {"bn1.weight": tensors["bn1.weight"].int()},
            "1 of 90 tensors, the first is bn1.weight ([32] int32 instead of [32] float32)",
        ),
        ({"bn1.weight": torch.ones(33)}, "bn1.weight ([33] float32 instead of [32] float32)"),
    ):
        save_file({**tensors, **changed}, tiny_weights.with_name("changed.safetensors"))
        assert mismatch in refused(weights=str(tiny_weights.with_name("changed.safetensors")))


def test_args_that_make_no_encoder():
    assert "the model returns [5, 64]" in refused(timm="test_vit", args={"global_pool": ""})
    assert "timm.layers has no layer 5" in refused(timm="test_vit2", dim=64, args={"mlp_layer": 5})


def test_a_wrong_dim():
    assert "dim is 97 in configs/encoders.yaml, the model returns [96]" in refused(dim=97)


def test_a_model_that_timm_does_not_know():
    assert "timm cannot build 'no_such_model'" in refused(timm="no_such_model")
    assert "unexpected keyword argument 'depths'" in refused(args={"depths": 1})
    for layer in ("NoSuchMlp", "use_fused_attn"):
        assert f"timm.layers has no layer '{layer}'" in refused(
            timm="test_vit", args={"mlp_layer": layer}
        )


def test_a_model_of_one_size_refuses_other_tiles():
    assert "cannot take tiles of 32 px: Input height (32)" in refused(
        timm="vit_tiny_patch16_224", dim=192
    )
    entry = EncoderConfig(**{**TINY, "timm": "vit_tiny_patch16_224", "dim": 192})
    built = build_encoder("tiny", entry, tile_px=224, device=CPU, precision="fp32")
    assert built(torch.zeros(1, 224, 224, 3, dtype=torch.uint8)).shape == (1, 192)


def test_a_model_that_pools_to_another_width_than_timm_says():
    entry = EncoderConfig(**{**TINY, "timm": "mobilenetv3_small_050", "dim": 1024})
    built = build_encoder("tiny", entry, tile_px=64, device=CPU, precision="fp32")
    assert built(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).shape == (2, 1024)


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_malicious_weights_file_is_refused_unexecuted(tmp_path):
    sprung = tmp_path / "sprung"
    torch.save({"weight": Trap(sprung)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    for name in ("a.pth", "b.pth"):
        assert str(tmp_path / name) in refused(weights=str(tmp_path / name))
    assert not sprung.exists()
    with (tmp_path / "b.pth").open("rb") as file:  # the trap works where somebody does unpickle
        pickle.load(file)
    assert sprung.exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_that_holds_no_weights(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x10\0\0\0\0\0\0\0 no weights in here")
    assert str(tmp_path / name) in refused(weights=str(tmp_path / name))
    torch.save(torch.zeros(3), tmp_path / "b.pth")
    assert (
        "b.pth: not a file of tensors alone, the only kind that is read: it holds no names"
        in refused(weights=str(tmp_path / "b.pth"))
    )


def test_a_damaged_archive_is_one_line(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    # The locator of a 64-bit directory, which names another disk.
    locator = struct.pack("<4sLQL", b"PK\6\7", 1, 0, 2)
    place = content.rindex(b"PK\5\6")
    (tmp_path / "a.pth").write_bytes(content[:place] + locator + content[place:])
    assert "a.pth: not a file of tensors alone" in refused(weights=str(tmp_path / "a.pth"))


def test_random_weights_are_the_same_each_time():
    torch.manual_seed(1)
    first = build()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert build().identity["weights_sha256"] == first.identity["weights_sha256"]
    assert torch.equal(torch.get_rng_state(), state)
