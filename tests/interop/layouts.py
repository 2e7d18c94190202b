"""Files in the layouts of the other tools, written with h5py alone, and runs of `mil bags`."""

from pathlib import Path

import h5py
import numpy as np
import torch
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import MilError
from mil.io.tables import read_dataset

# Not on a lattice, not in order, with a tile that overlaps another: as CLAM's contours
# give them.
COORDS = np.array([[4096, 512], [512, 0], [1024, 0], [512, 512], [700, 600]])
TRIDENT = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "a",
    "savetodir": "/somewhere",
    "level0_width": 50_000,
    "level0_height": 40_000,
}


def features(rows: int = 5, dim: int = 8, seed: int = 0) -> np.ndarray:
    """Features that float16 holds exactly."""
    return (
        np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float16).astype(np.float32)
    )


def resizable(file: h5py.File, name: str, data: np.ndarray, rows: int) -> h5py.Dataset:
    chunks = (rows, *data.shape[1:])
    most = (None, *data.shape[1:])
    return file.create_dataset(name, data=data, chunks=chunks, maxshape=most)


def write_clam(
    root: Path, slide: str = "a", coords: np.ndarray = COORDS, seed: int = 0, *, pt: bool = True
) -> None:
    """RESULTS/features/h5_files and pt_files, and RESULTS/patches.

    Tiles are 256 px of level 1, which is 4 times smaller than level 0.
    """
    values = features(len(coords), seed=seed)
    for folder in ("features/h5_files", "features/pt_files", "patches"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with h5py.File(root / f"features/h5_files/{slide}.h5", "w") as file:
        resizable(file, "features", values, 32)
        resizable(file, "coords", coords.astype(np.int32), 32)
    if pt:
        torch.save(torch.from_numpy(values), root / f"features/pt_files/{slide}.pt")
    with h5py.File(root / f"patches/{slide}.h5", "w") as file:
        places = resizable(file, "coords", coords.astype(np.int64), 1)
        places.attrs.update(
            patch_size=256,
            patch_level=1,
            downsample=(4.0, 4.0),
            downsampled_level_dim=(12_500, 10_000),
            level_dim=(12_500, 10_000),
            name=slide,
            save_path="/somewhere",
        )


def write_trident(
    root: Path, slide: str = "a", coords: np.ndarray = COORDS, seed: int = 0, **attrs: object
) -> Path:
    """JOB/20x_256px_0px_overlap/features_uni_v1 and patches."""
    folder = root / "20x_256px_0px_overlap"
    path = folder / f"features_uni_v1/{slide}.h5"
    coords_attrs = {**TRIDENT, "name": slide, **attrs}
    for file in (path, folder / f"patches/{slide}_patches.h5"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(file, "w") as opened:
            if file == path:
                dataset = resizable(opened, "features", features(len(coords), seed=seed), 1)
                dataset.attrs.update(name=slide, savetodir="/somewhere", encoder="uni_v1")
            resizable(opened, "coords", coords.astype(np.int64), 1).attrs.update(coords_attrs)
    return path


def write_stamp(
    root: Path, slide: str = "a", mpp: float = 0.25, coords: np.ndarray = COORDS, seed: int = 0
) -> Path:
    """OUT/mahmood-uni-1234abcd/ID.h5, as version 2 writes it: 256 µm in 224 px."""
    path = root / f"mahmood-uni-1234abcd/{slide}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = (coords * mpp).astype(np.float32)
        file["feats"] = features(len(coords), seed=seed).astype(np.float16)
        file.attrs.update(
            stamp_version="2.3.0",
            extractor="mahmood-uni",
            unit="um",
            tile_size_um=256.0,
            tile_size_px=224,
            code_hash="1234abcd",
            feat_type="tile",
        )
    return path


def write_acmil(path: Path, labels: dict[str, int], coords: np.ndarray = COORDS) -> Path:
    """DATA/patch_feats_pretrain_medical_ssl.h5, a group a slide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for seed, (slide, label) in enumerate(labels.items()):
            group = file.create_group(slide)
            group["feat"] = features(len(coords), seed=seed).astype(np.float16)
            group["coords"] = coords
            group.attrs["label"] = np.int64(label)
    return path


def mil(*arguments: object) -> tuple[int, str]:
    """Run `mil …`: exit code and output; an error is one line, as `mil` prints it."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.exit_code, result.output
    assert isinstance(result.exception, MilError), repr(result.exception)
    line = str(result.exception)
    # All faults of a table are listed in one answer.
    assert "\n" not in line or "faults:" in line, line
    return 1, line


def bags(*arguments: object) -> tuple[int, str]:
    """Run `mil bags …`."""
    return mil("bags", *arguments)


def imported(path, out, *options):
    code, output = bags("import", path, "--out", out, *options)
    assert code == 0, output
    return output


def good_files(root: Path) -> dict[str, Path]:
    """One good file of each tool."""
    write_clam(root / "clam", pt=False)
    write_acmil(root / "acmil/patch_feats_pretrain_ssl.h5", {"a": 1})
    return {
        "clam": root / "clam/features/h5_files/a.h5",
        "trident": write_trident(root / "trident"),
        "stamp": write_stamp(root / "stamp"),
        "acmil": root / "acmil/patch_feats_pretrain_ssl.h5",
    }


def refused(path, tmp_path, *options):
    """The line that refuses a file; there is no bag then."""
    code, output = bags(
        "import", path, "--out", tmp_path / "bags", "--mpp", "0.25", "--encoder", "tiny", *options
    )
    assert code == 1
    assert not list((tmp_path / "bags").glob("*")) if (tmp_path / "bags").exists() else True
    lines = [line for line in output.splitlines() if str(path) in line]
    assert len(lines) == 1, output
    return lines[0]


def replaced(path, name, make):
    """Put something else in a dataset's place, with its attributes."""
    with h5py.File(path, "r+") as file:
        attrs = dict(file[name].attrs) if is_here(file, name) else {}
        del file[name]
        make(file, name)
        if is_here(file, name):
            file[name].attrs.update(attrs)


def put(data):
    return lambda file, name: file.create_dataset(name, data=data)


def is_here(file, name):
    return isinstance(file.get(name, getlink=True), h5py.HardLink)


CLAM_TABLE = """\
case_id,slide_id,label
p1,001,tumor
p1,002,tumor
p2,003,normal
p3,004,normal
"""


def put_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def import_dataset(path, *options):
    """Import with a dataset: exit code, output, and the rows of the dataset, if it was written."""
    folder = path.parent
    code, output = bags(
        "import",
        path,
        "--out",
        folder / "bags",
        "--dataset",
        "set",
        "--datasets",
        folder / "sets",
        "--force",
        *options,
    )
    yaml = folder / "sets/set.yaml"
    return (
        code,
        output,
        {row.slide: row for row in read_dataset(str(yaml))[1]} if yaml.exists() else {},
    )
