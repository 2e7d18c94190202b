"""How a tiles file and a bag came about."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from mil.config import load_encoders
from mil.io.bags.file import read_header
from mil.io.provenance import Provenance, file_digest, made_from, read_provenance
from mil.io.tables.paths import locate_masks
from mil.io.tiles import read_tiles
from mil.versions import STAGE_VERSION
from mil.why.answer import Answer, Input, title
from mil.why.study import AGAIN, Study

# Masks of the user, by their role in the slide table.
MASKS = ("tissue", "region")
NO_STUDY = (
    "the file lies outside a study (ROOT/DATASET/STAGE/TILING/...), so that its inputs are not "
    "looked for"
)
OLDER = "an earlier version of mil wrote it, or a command for one file: it states no settings"


def of_tiles(path: Path, study: Study | None) -> Answer:
    """Answer for a tiles file."""
    geometry = read_tiles(path).geometry
    provenance = read_provenance(path)
    settings = provenance.facts
    facts = {
        **made_facts(provenance, "tile"),
        "slide": geometry.slide,
        "state": geometry.state,
        "pixel size of level 0": f"{geometry.mpp_level0:g} µm, by {geometry.mpp_source}",
        "tiles": f"{geometry.tile_px} px at {geometry.target_mpp} µm per pixel",
        "settings": _named(settings.get("config", {})),
    }
    kind = f"tiles of slide {geometry.slide}"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    inputs = [
        version_input(provenance, "tile"),
        _slide_input(provenance, study, geometry.slide),
        *_mask_inputs(settings, study, geometry.slide),
    ]
    return Answer(
        title(path, kind),
        facts,
        inputs,
        _tile_command(settings, study, geometry.slide),
        f"{AGAIN}/{geometry.slide}.h5",
        [] if settings else [OLDER],
    )


def _tile_command(settings: dict[str, Any], study: Study, slide: str) -> list[str]:
    config = settings.get("config", {})
    if not settings or not isinstance(config, dict):
        return []
    words = ["mil", "tile", *study.options(slide), *study.slides_option(), "--out-dir", AGAIN]
    words += ["--size-px", str(settings.get("tile_px"))]
    words += ["--target-mpp", str(settings.get("target_mpp"))]
    for name, value in config.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [option] if value else []
        else:
            words += [option, str(value)]
    return words


def _slide_input(provenance: Provenance, study: Study, slide: str) -> Input:
    file = study.slide_file(slide)
    stated = provenance.digest.partition("-")[2]
    name = slide if file is None else str(file)
    return Input("slide", name, stated, file_digest(file))


def _mask_inputs(settings: dict[str, Any], study: Study, slide: str) -> list[Input]:
    """Masks of the user that restricted the tiles, or that the table names now."""
    row = study.row(slide)
    folder = study.slides_dir
    masks: dict[str, Path] = {}
    if row is not None and folder is not None and study.table is not None:
        masks = locate_masks([row], folder, study.table[0]).get(slide, {})
    inputs = []
    for role in MASKS:
        stated = settings.get(role) or []
        mask = masks.get(role)
        if stated or mask is not None:
            name, digest = [*map(str, stated), "", ""][:2]
            inputs.append(Input(f"mask of {role}", str(mask or name), digest, _whole(mask)))
    return inputs


def of_bag(path: Path, study: Study | None) -> Answer:
    """Answer for a bag."""
    header = read_header(path)
    provenance = read_provenance(path)
    settings = provenance.facts
    facts = {
        **made_facts(provenance, "features"),
        "slide": header.slide,
        "state": header.state,
        "encoder": header.encoder,
        "weights": header.weights_sha256,
        "transform": header.transform,
        "precision": header.precision,
        "stain normalisation": header.stain_norm,
        "stains": header.stain,
        "tiles": f"{header.tile_px} px at {header.target_mpp} µm per pixel",
    }
    kind = f"bag of slide {header.slide}"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    tiles = study.folder("tile") / f"{header.slide}.h5"
    entry = load_encoders().get(header.encoder)
    inputs = [
        version_input(provenance, "features"),
        Input("tiles", str(tiles), str(settings.get("tiles", "")), made_from(tiles)),
        Input(
            "encoder entry",
            header.encoder,
            _digest(str(settings.get("entry", ""))),
            "" if entry is None else _digest(entry.settings()),
        ),
    ]
    if settings.get("weights") and entry is not None:
        weights = Path(entry.weights)
        inputs.append(Input("weights", str(weights), settings["weights"], file_digest(weights)))
    file = study.slide_file(header.slide)
    stated = made_from(tiles).partition("-")[2]
    inputs.append(Input("slide", str(file or header.slide), stated, file_digest(file)))
    return Answer(
        title(path, kind),
        facts,
        inputs,
        _features_command(settings, study, header.slide, header.encoder),
        f"{AGAIN}/{header.slide}.h5",
        [NOT_SAME_DEVICE] if settings else [OLDER],
    )


NOT_SAME_DEVICE = (
    "features depend on the device: the same kind of processor or GPU and the same releases give "
    "the same bytes, others nearly the same numbers"
)


def _features_command(
    settings: dict[str, Any], study: Study, slide: str, encoder: str
) -> list[str]:
    if not settings:
        return []
    words = ["mil", "features", *study.options(slide), *study.slides_option()]
    words += ["--tiles", str(study.folder("tile")), "--encoder", encoder, "--bags", AGAIN]
    for name in ("precision", "dtype", "max_corrupt"):
        words += [f"--{name.replace('_', '-')}", str(settings.get(name))]
    if settings.get("stain_norm"):
        words += ["--stain-norm", str(settings["stain_norm"])]
    return words


def made_facts(provenance: Provenance, stage: str) -> dict[str, str]:
    """By what a file was made, and its digest of everything that it depends on."""
    version = "" if provenance.stage_version is None else f", version {provenance.stage_version}"
    return {
        "made by": f"mil {stage}{version}",
        "with": provenance.made_with,
        "digest of all inputs": provenance.digest,
    }


def version_input(provenance: Provenance, stage: str) -> Input:
    """The version of a stage, then and now."""
    stated = "" if provenance.stage_version is None else str(provenance.stage_version)
    return Input("version of stage", stage, stated, str(STAGE_VERSION[stage]))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest() if text else ""


def _whole(path: Path | None) -> str:
    return file_digest(path, None)


def _named(settings: object) -> str:
    if not isinstance(settings, dict):
        return ""
    return ", ".join(f"{name} {value}" for name, value in settings.items())
