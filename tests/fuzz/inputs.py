"""Input N of a door: always the same bytes."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz import bytewise, containers, trees
from tests.fuzz.doors import Door
from tests.fuzz.seeds import Files

Mutation = Callable[[bytes, Random], bytes]

hdf5 = (containers.mutate_hdf5, containers.mutate_hdf5, bytewise.near(bytewise.HDF5_MARKS))
tiff = (containers.mutate_tiff, containers.mutate_tiff)
STRUCTURED: dict[str, tuple[Mutation, ...]] = {
    ".json": (trees.mutate_json, trees.mutate_json),
    ".geojson": (trees.mutate_json, trees.mutate_json),
    ".yaml": (trees.mutate_yaml, trees.mutate_yaml),
    ".xml": (trees.mutate_xml, trees.mutate_xml),
    ".csv": (trees.mutate_table, trees.mutate_table),
    ".xlsx": (containers.mutate_xlsx, containers.mutate_xlsx, containers.mutate_xlsx),
    ".pt": (containers.mutate_pt, containers.mutate_pt, bytewise.near(bytewise.ZIP_MARKS)),
    ".h5": hdf5,
    ".jld": hdf5,
    ".tif": tiff,
    ".svs": tiff,
    ".safetensors": (containers.mutate_safetensors,),
}
LARGEST = 200_000
# What a mutation that knows a format raises where an earlier one has broken it.
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
    if random.random() < 0.03 and len(door.seeds) > 1:
        other = door.seed(random.randrange(len(door.seeds)))
        content = bytewise.splice(content, random.choice(list(other.values())), random)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        # What has grown is tried as it is: more would cost time and find no more.
        if len(content) < LARGEST:
            content = _mutated(content, Path(name).suffix, random)
    files[name] = content
    return files


def _mutated(content: bytes, suffix: str, random: Random) -> bytes:
    structured = STRUCTURED.get(suffix, ())
    if structured and random.random() < 0.65:
        try:
            return random.choice(structured)(content, random)
        except BROKEN:  # the bytes are no valid file any more
            pass
    return random.choice(bytewise.BYTEWISE)(content, random) if content else b"x"


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
