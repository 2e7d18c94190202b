"""Mutations of containers: members of archives, objects of HDF5 files, tags of TIFFs.

The container stays valid, with right checksums and offsets, so that readers get past it.
"""

import io
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import h5py
import numpy as np

from tests.fuzz.bytewise import BYTEWISE, INTERESTING
from tests.fuzz.trees import VALUES, mutate_json, mutate_xml

# Any date: an archive must not depend on the clock.
DATE = (2020, 1, 1, 0, 0, 0)


def rezipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these members that is the same whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), content, compression)
    return buffer.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    """Members of an archive by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def mutate_xlsx(data: bytes, random: Random) -> bytes:
    """A spreadsheet with a member that is edited, missing, renamed or very large."""
    members = unzipped(data)
    name = random.choice(sorted(members))
    choice = random.random()
    if choice < 0.5:
        members[name] = mutate_xml(members[name], random)
    elif choice < 0.8:
        members[name] = random.choice(BYTEWISE)(members[name], random)
    elif choice < 0.9:
        del members[name]
    elif choice < 0.95:
        members[random.choice(("x", "../x", "/x", name.upper()))] = members.pop(name)
    else:
        members[name] = members[name] + b" " * random.choice((10**6, 10**7))
    return rezipped(members)


def mutate_pt(data: bytes, random: Random) -> bytes:
    """A file of torch's with an edited pickle or other members, with right checksums."""
    members = unzipped(data)
    pickles = [name for name in members if name.endswith("data.pkl")]
    name = random.choice(pickles if pickles and random.random() < 0.7 else sorted(members))
    choice = random.random()
    if choice < 0.75 and members[name]:
        members[name] = random.choice((*BYTEWISE, _opcode))(members[name], random)
    elif choice < 0.85:
        del members[name]
    elif choice < 0.9:
        members[random.choice(("x", "../x", name.replace("data", "atad")))] = members.pop(name)
    else:
        members[name] = members[name][: random.randrange(len(members[name]) + 1)]
    compression = zipfile.ZIP_DEFLATED if random.random() < 0.05 else zipfile.ZIP_STORED
    return rezipped(members, compression)


# Opcodes of pickle that a reader of tensors must refuse or bound.
OPCODES = (
    *(b"R.", b"b", b"o", b"i", b"c", b"\x81", b"\x92", b"\x93", b"Q", b"P1\n", b"2", b"0", b"1"),
    *(b"K\x00", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"I-1\n", b"N", b")"),
    *(b"\x88", b"]", b"}", b"(", b"t", b"\x85", b"\x86", b"\x87", b"\x8a\x08" + b"\xff" * 8),
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"cfuzz_canary\nx\n", b"ctorch\nload\n"),
    *(b"ctorch._utils\n_rebuild_sparse_tensor\n", b"ctorch._utils\n_rebuild_qtensor\n"),
    *(
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch\nBFloat16Storage\n",
        b"ctorch\nBoolStorage\n",
    ),
)


def _opcode(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    length = random.choice((0, 1, 1, 2, 5))
    return data[:place] + random.choice(OPCODES) + data[place + length :]


def mutate_hdf5(data: bytes, random: Random) -> bytes:
    """An HDF5 file whose attributes and datasets are edited, replaced, linked or missing."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            names: list[str] = [""]
            file.visit(names.append)
            _edit_hdf5(file, random.choice(names), random)
    return buffer.getvalue()


def _edit_hdf5(file: h5py.File, name: str, random: Random) -> None:
    item = file[name] if name else file
    if random.random() < 0.5 or not name:
        _edit_attribute(item, random)
    elif random.random() < 0.15:
        del file[name]
    elif random.random() < 0.3:
        del file[name]
        _link(file, name, random)
    elif isinstance(item, h5py.Dataset):
        values = _other_values(item, random)
        attributes = dict(item.attrs)
        del file[name]
        _replace_dataset(file, name, values, random)
        if isinstance(file.get(name, getlink=True), h5py.HardLink):
            file[name].attrs.update(attributes)
    else:
        del file[name]
        file[name] = np.arange(3)


def _edit_attribute(item: Any, random: Random) -> None:
    names = sorted(item.attrs)
    if not names or random.random() < 0.1:
        item.attrs[random.choice(("x", "mil_header", "format", "name"))] = _attribute(random)
        return
    name = random.choice(names)
    if random.random() < 0.15:
        del item.attrs[name]
        return
    old = item.attrs[name]
    del item.attrs[name]
    item.attrs[name] = _near(old, random) if random.random() < 0.3 else _attribute(random)


def _near(old: Any, random: Random) -> Any:
    if isinstance(old, str):
        edits = (
            old.upper(),
            f" {old}",
            old[:-1],
            old * 100,
            f"{old}\nx",
            old.encode(),
            f"../{old}",
        )
        return random.choice(edits)
    factors = (-1, 0, 2, 1000, 1e-3, 1e12, float("nan"), float("inf"))
    return np.asarray(old, float) * random.choice(factors)


def _attribute(random: Random) -> Any:
    value = random.choice(VALUES)
    if value is None:
        return h5py.Empty("f")
    if isinstance(value, bool | int | float) and abs(value) < 2**63:
        kind = random.choice((None, "f2", "f8", "i1", "u8", "c8"))
        if kind is None or not np.isfinite(value):
            return value
        with np.errstate(all="ignore"):
            return np.array(value).astype(kind)
    if isinstance(value, str) and "\0" not in value and len(value) < 60_000:
        text = value.encode("utf-8", "replace")
        return random.choice((text.decode(), np.bytes_(text or b"x"), [text.decode()] * 3))
    return random.choice(
        (np.arange(1000), np.zeros((2, 3)), np.array([1, 2], "S4"), [1, 2], h5py.Empty("S1"))
    )


KINDS = ("f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", "c8", "S3", ">f4")


def _other_values(item: h5py.Dataset, random: Random) -> np.ndarray:
    """Values of another type, another shape, or with numbers that make no sense."""
    numeric = item.dtype.kind in "fiub" and item.shape
    values = np.asarray(item[()]) if numeric else np.arange(6)
    choice = random.randrange(6)
    with np.errstate(all="ignore"):
        if choice == 0:
            return values.astype(random.choice(KINDS))
        if choice == 1:
            return values[: random.randrange(len(values) + 1)]
        if choice == 2:
            return random.choice((values.ravel(), values[None], values[..., None], values.sum()))
        if choice == 3:
            return np.concatenate([values, values])
        if choice == 4:
            flat = values.astype(random.choice(("f4", "f8"))).ravel()
            flat[random.randrange(len(flat)) :: 7] = random.choice((np.nan, np.inf, -1e30, 1e38))
            return flat.reshape(values.shape)
        flat = values.ravel().copy()
        # As bytes: any number that the type holds.
        view = flat.view(np.uint8)
        view[random.randrange(len(view)) :: 3] = random.choice((0, 0x7F, 0x80, 0xFF))
        return flat.reshape(values.shape)


def _replace_dataset(file: h5py.File, name: str, values: np.ndarray, random: Random) -> None:
    choice = random.randrange(8)
    shape = values.shape
    if choice == 0 and shape:
        # Claims what was never written.
        shape = (random.choice((10**6, 10**9, 2**40)), *shape[1:])
        file.create_dataset(name, shape, values.dtype, chunks=True)
    elif choice == 1 and values.size:
        file.create_dataset(
            name, data=values, chunks=shape or None, compression="gzip" if shape else None
        )
    elif choice == 2:
        file.create_dataset(name, data=h5py.Empty("f4"))
    elif choice == 3:
        file.create_dataset(name, data=["text", "é"])
    elif choice == 4:
        layout = h5py.VirtualLayout(shape or (1,), values.dtype)
        layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape or (1,))
        file.create_virtual_dataset(name, layout)
    elif choice == 5:
        size = max(int(values.nbytes), 1)
        file.create_dataset(name, shape, values.dtype, external=[("/etc/passwd", 0, size)])
    else:
        file.create_dataset(name, data=values)


def _link(file: h5py.File, name: str, random: Random) -> None:
    targets: tuple[Callable[[], Any], ...] = (
        lambda: h5py.SoftLink(f"/{name}"),
        lambda: h5py.SoftLink("/nowhere"),
        lambda: h5py.ExternalLink("/etc/passwd", "/x"),
        lambda: file["/"],
        lambda: np.dtype("f4"),
        lambda: "text",
        lambda: 1.5,
    )
    try:
        file[name] = random.choice(targets)()
    # A name below a group that was replaced by now.
    except (ValueError, RuntimeError, TypeError):
        return


# A file that was mutated before may claim any number.
MOST_ENTRIES = 1000
# Sizes of TIFF's types, bytes.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
# Tags that readers build upon, and some that files rarely have.
TAGS = (254, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296)
TAGS += (317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 530, 532, 33432, 34675, 65420)


def mutate_tiff(data: bytes, random: Random) -> bytes:
    """A TIFF with edited entries of its directories, or looped or dangling directories."""
    changed = bytearray(data)
    entries, next_places, order, big = _directories(data)
    if not entries:
        return random.choice(BYTEWISE)(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        if random.random() < 0.1:
            _edit_next(changed, random.choice(next_places), entries, order, big, random)
        else:
            _edit_entry(changed, random.choice(entries), order, big, random)
    return bytes(changed)


def _directories(data: bytes) -> tuple[list[int], list[int], str, bool]:
    """Places of all entries, and of the offsets of next directories."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, count, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    first = 8 if big else 4
    entries: list[int] = []
    next_places = [first]
    (place,) = struct.unpack_from(order + offset, data, first)
    seen: set[int] = set()
    while place and place not in seen and len(entries) < MOST_ENTRIES:
        seen.add(place)
        (number,) = struct.unpack_from(order + count, data, place)
        number = min(number, MOST_ENTRIES)
        start = place + struct.calcsize(count)
        entries += [start + size * index for index in range(number)]
        next_places.append(start + size * number)
        (place,) = struct.unpack_from(order + offset, data, next_places[-1])
    return entries, next_places, order, big


def _edit_next(
    changed: bytearray, place: int, entries: list[int], order: str, big: bool, random: Random
) -> None:
    directory = entries[0] - (8 if big else 2)
    offset = random.choice(
        (0, 1, directory, len(changed), len(changed) - 8, random.choice(entries))
    )
    struct.pack_into(order + ("Q" if big else "I"), changed, place, offset)


def _edit_entry(changed: bytearray, place: int, order: str, big: bool, random: Random) -> None:
    word = "Q" if big else "I"
    size = 8 if big else 4
    choice = random.randrange(6)
    if choice == 0:
        struct.pack_into(f"{order}H", changed, place, random.choice(TAGS))
    elif choice == 1:
        struct.pack_into(f"{order}H", changed, place + 2, random.choice((0, *TYPE_SIZES, 13, 99)))
    elif choice == 2:
        value = random.choice((*INTERESTING, 2, 3, 4, 16, 255, 1000)) % (1 << 8 * size)
        struct.pack_into(order + word, changed, place + 4, value)
    elif choice == 3:
        value = random.choice((*INTERESTING, 3, 4, 5, 7, 8, 16, 33003, 34712, 50000))
        struct.pack_into(order + word, changed, place + 4 + size, value % (1 << 8 * size))
    elif choice == 4:
        # A short value stands at the beginning of the field.
        struct.pack_into(f"{order}H", changed, place + 4 + size, random.choice((*range(10), 34712)))
    else:
        (value,) = struct.unpack_from(order + word, changed, place + 4 + size)
        value += random.choice((-1, 1, 2, 16, 256, 1 << 16, -(1 << 16)))
        struct.pack_into(order + word, changed, place + 4 + size, value % (1 << 8 * size))


def mutate_safetensors(data: bytes, random: Random) -> bytes:
    """A file of safetensors with an edited header of the right length."""
    (length,) = struct.unpack_from("<Q", data)
    header = mutate_json(data[8 : 8 + length], random)
    claimed = random.choice(INTERESTING) if random.random() < 0.1 else len(header)
    return struct.pack("<Q", claimed) + header + data[8 + length :]
