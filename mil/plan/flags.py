"""Settings of a plan as flags of `mil` commands, quoted for the shell."""

import shlex
from pathlib import Path

from mil.config import Config, FeaturesConfig, HeatmapConfig, TileConfig
from mil.config.stain import NO_STAIN_NORM
from mil.plan.plan import Plan


def quoted(path: Path | str) -> str:
    """A path as one word of a shell command."""
    return shlex.quote(str(path))


def size_flags(tiling: str) -> str:
    """Side (pixels) and resolution (µm per pixel) of a tile, from a tiling's name."""
    # From the name, which is in the path of the tiles: flags and path cannot disagree.
    size_px, target_mpp = tiling.removesuffix("mpp").split("px_")
    return f"--size-px {size_px} --target-mpp {target_mpp}"


def fetch_flags(config: Config) -> str:
    """Settings of downloads."""
    trust_urls = " --trust-urls" if config.trust_urls else ""
    return f"--slots {config.fetch.slots}{trust_urls}"


def tissue_flags(settings: TileConfig) -> str:
    """Thresholds of tissue."""
    return f"--min-tissue {settings.min_tissue} --min-area-mm2 {settings.min_area_mm2}"


def tile_flags(settings: TileConfig) -> str:
    """Settings of `mil tile` but the size of a tile, which the tiling's name states."""
    objective_power = " --objective-power" if settings.objective_power else ""
    return f"{tissue_flags(settings)} --max-upsample {settings.max_upsample}{objective_power}"


def heatmap_flags(settings: HeatmapConfig) -> str:
    """Settings that pictures depend on."""
    kinds = "".join(f" --kind {kind}" for kind in settings.kinds)
    return f"--scale {settings.scale}{kinds}{' --branches' if settings.branches else ''}"


def feature_flags(settings: FeaturesConfig) -> str:
    """Settings that features depend on."""
    # Absent where it is off: flags are compared with those of earlier runs.
    stain_norm = (
        "" if settings.stain_norm == NO_STAIN_NORM else f" --stain-norm {settings.stain_norm}"
    )
    return (
        f"--precision {settings.precision} --dtype {settings.dtype}"
        f" --max-corrupt {settings.max_corrupt}{stain_norm}"
    )


def speed_flags(settings: FeaturesConfig) -> list[str]:
    """Settings that change how fast bags are computed, and no bag."""
    # Kept apart from `feature_flags`, which are parameters of the rule: bags take
    # hours, and a change of speed alone must not compute them again.
    flags = []
    if settings.batch_size:
        flags.append(f"--batch-size {settings.batch_size}")
    if settings.compile:
        flags.append("--compile")
    return flags


def device_flags(config: Config, default: str = "auto") -> list[str]:
    """Device of the commands that use a GPU where there is one.

    Args:
        config: Settings of the run.
        default: Device of the command without this option.
    """
    # Like `speed_flags`, no parameter of a rule that Snakemake records.
    device = {"gpu": "cuda"}.get(config.device, config.device)
    return [] if device == default else ["--device", device]


def state_flags(plan: Plan) -> str:
    """Folders with the slides' states: tiles and bags by encoder, or precomputed bags."""
    if plan.precomputed_dir:
        return f"--bags {quoted(plan.precomputed_dir)}"
    results = f"results/{plan.config.dataset}"
    pairs = [
        f"--tiles {results}/tile/{tiling} --bags {results}/features/{tiling}/{encoder}"
        for encoder, tiling in plan.tilings.items()
    ]
    return " ".join(pairs)


def split_flags(plan: Plan) -> str:
    """Settings of the division of patients."""
    split = plan.config.split
    flags = [
        f"--seed {split.seed} --val-share {split.val_share} --test-share {split.test_share}",
        f"--fusion {plan.config.fusion}",
    ]
    if split.file:
        flags.append(f"--file {quoted(split.file)}")
    if split.by:
        flags.append(f"--by {quoted(split.by)}")
    return " ".join(flags)
