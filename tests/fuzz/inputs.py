"""Input N of a door: always the same bytes."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz import bytewise, containers, trees
from tests.fuzz.doors import Door
from tests.fuzz.seeds import Files

Mutation = Callable[[bytes, Random], bytes]

# Edits that keep a format, by the ending of the file's name.
EDITS: dict[str, Mutation] = {
    ".json": trees.mutate_json,
    ".geojson": trees.mutate_json,
    ".yaml": trees.mutate_yaml,
    ".xml": trees.mutate_xml,
    ".csv": trees.mutate_table,
    ".xlsx": containers.mutate_xlsx,
    ".pt": containers.mutate_pt,
    ".h5": containers.mutate_hdf5,
    ".jld": containers.mutate_hdf5,
    ".tif": containers.mutate_tiff,
    ".svs": containers.mutate_tiff,
    ".safetensors": containers.mutate_safetensors,
}
# Damage where it matters most in a format.
NEAR_MARKS: dict[str, Mutation] = {
    ".pt": bytewise.near(bytewise.ZIP_MARKS),
    ".h5": bytewise.near(bytewise.HDF5_MARKS),
    ".jld": bytewise.near(bytewise.HDF5_MARKS),
}
LARGEST = 200_000
# What an edit raises where the content is not of its format.
BROKEN = Exception


def input_of(door: Door, number: int) -> Files:
    """Files of an input: the known hostile ones come first, then mutated seeds.

    Args:
        door: the door.
        number: number of the input, from 0.
    """
    if number < len(door.hostile):
        return door.hostile[number](door.seed(0))
    random = Random(f"{door.name} {number}")
    seed = random.randrange(len(door.seeds))
    files = dict(door.seed(seed))
    changeable = [name for name in files if name.endswith(door.changing or ("",))]
    name = random.choice(changeable)
    content = files[name]
    suffix = Path(name).suffix
    is_sound = suffix in EDITS
    if random.random() < 0.03 and len(door.seeds) > 1:
        other = door.seed(random.randrange(len(door.seeds)))
        content = bytewise.splice(content, random.choice(list(other.values())), random)
        is_sound = False
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        # What has grown is tried as it is: more would cost time and find no more.
        if len(content) >= LARGEST:
            break
        # Damaged bytes are not parsed again: the harness would meet what readers must bound.
        is_sound = is_sound and random.random() < 0.6
        edited = _edited(content, suffix, random) if is_sound else None
        content = _damaged(content, suffix, random) if edited is None else edited
    files[name] = content
    return files


def _edited(content: bytes, suffix: str, random: Random) -> bytes | None:
    """Content with an edit that keeps its format, None where the seed itself is damaged."""
    try:
        return EDITS[suffix](content, random)
    except BROKEN:
        return None


def _damaged(content: bytes, suffix: str, random: Random) -> bytes:
    if not content:
        return b"x"
    if suffix in NEAR_MARKS and random.random() < 0.4:
        return NEAR_MARKS[suffix](content, random)
    return random.choice(bytewise.BYTEWISE)(content, random)


def write(files: Files, folder: Path) -> None:
    """Write an input; a file `.pipe` names the file that is a named pipe."""
    for name, content in files.items():
        if name == ".pipe":
            pipe = folder / content.decode()
            pipe.unlink()
            os.mkfifo(pipe)
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
