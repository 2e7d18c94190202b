"""An entry of configs/encoders.yaml becomes a model and its preprocessing. The only place that knows timm."""

from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from mil.config import EncoderConfig
from mil.errors import ConfigError
from mil.features.embed import Encoder


def build_encoder(name: str, entry: EncoderConfig, *, tile_px: int, device: torch.device, precision: str) -> Encoder:
    """Build a model, load its weights, and say what it is.

    Args:
        name: the entry's name.
        entry: what to build.
        tile_px: side of the tiles it will see, pixels.
        device: where it runs.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the device computes faster in it.

    Raises:
        ConfigError: timm does not know the model, the weights cannot be had or do not fit, or `dim` is wrong.
    """
    try:
        model = timm.create_model(entry.timm, pretrained=entry.weights == "timm", num_classes=0, **entry.args)
    except Exception as error:  # noqa: BLE001  timm and the hub raise of every kind
        raise ConfigError(
            f"encoder {name}: timm cannot build {entry.timm!r}: {_first_line(error)}. Without a network, give a "
            "weights file in configs/encoders.yaml, or fetch it once where there is one"
        ) from None
    if entry.weights not in ("timm", "random"):
        load_weights(model, weights_path(name, entry.weights), order=entry.keys == "order")
    _check_width(name, model, entry.dim, tile_px)
    known = resolve_data_config({}, model=model)
    mean, std = entry.mean or known["mean"], entry.std or known["std"]
    bf16 = precision == "bf16" or (precision == "auto" and fast_bf16(device))
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = model.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    identity = {
        "encoder": name,
        "encoder_revision": entry.timm,
        "weights_sha256": weights_digest(model),
        "transform": f"{tile_px} px, /255, mean {tuple(mean)}, std {tuple(std)}",
        "precision": "bf16" if bf16 else "fp32",
    }
    return Encoder(name, model, tuple(mean), tuple(std), device, dtype, identity)


@torch.inference_mode()
def _check_width(name: str, model: nn.Module, dim: int, tile_px: int) -> None:
    """Ask the model itself: some pool to another width than timm says, some take one size of tile only."""
    try:
        width = model.eval()(torch.zeros(1, 3, tile_px, tile_px)).shape
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"encoder {name}: cannot take tiles of {tile_px} px: {_first_line(error)}") from None
    if tuple(width) != (1, dim):
        raise ConfigError(f"encoder {name}: dim is {dim} in configs/encoders.yaml, the model gives {list(width)[1:]}")


def weights_path(name: str, weights: str) -> Path:
    """File that holds an encoder's weights: a path, or `package:PACKAGE/FILE`.

    Raises:
        ConfigError: there is no such file or package.
    """
    path = Path(weights)
    if weights.startswith("package:"):
        package, _, inside = weights.removeprefix("package:").partition("/")
        try:
            path = Path(str(files(package))) / inside
        except ModuleNotFoundError:
            raise ConfigError(
                f"encoder {name}: its weights come with the package {package}; pip install {package}"
            ) from None
    if not path.is_file():
        raise ConfigError(f"encoder {name}: no weights file {path}")
    return path


def load_weights(model: nn.Module, path: Path, *, order: bool) -> None:
    """Load a weights file without unpickling anything.

    Args:
        model: filled in place; its classifier is gone, so surplus classifier tensors are dropped.
        path: a .safetensors file, or a torch file of plain tensors.
        order: match tensors by their order and shape instead of by name.

    Raises:
        ConfigError: the tensors do not fit, or there are not only tensors.
    """
    try:
        given = load_file(path) if path.suffix == ".safetensors" else _plain_tensors(path)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise ConfigError(
            f"{path}: not a file of weights alone, which is all that is read: {_first_line(error)}"
        ) from None
    own = model.state_dict()
    if order:
        given = dict(zip(own, given.values(), strict=False))
    wrong = [k for k, v in own.items() if k not in given or given[k].shape != v.shape]
    if wrong:
        raise ConfigError(
            f"{path}: does not fit the model: {len(wrong)} of {len(own)} tensors, the first is {wrong[0]}"
        )
    model.load_state_dict({name: given[name] for name in own})


def _plain_tensors(path: Path) -> dict[str, Tensor]:
    given = torch.load(path, map_location="cpu", weights_only=True)
    given = given.get("state_dict", given.get("model", given))
    return {name: value for name, value in given.items() if isinstance(value, Tensor)}


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over all tensors in order of their names: the same weights have the same digest in any file."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fast_bf16(device: torch.device) -> bool:
    """Whether a device multiplies matrices faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # Processors without these instructions emulate bf16, slower than fp32. Older torch cannot tell: then fp32.
    can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
