"""Kinds of hostile files that were met: each a generator, so that they stay mended.

A generator takes the seed's files and gives the hostile ones; its number in the door's list
is the number of the input.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial

import h5py
import numpy as np

from tests.fuzz.containers import rezipped, unzipped
from tests.fuzz.seeds import Files

Generator = Callable[[Files], Files]


def _only(files: Files, content: bytes, name: str = "") -> Files:
    """The files with other content of one, the first if it is not named."""
    return {**files, name or next(iter(files)): content}


def first(change: Callable[[bytes], bytes]) -> Generator:
    """A generator that changes the first file."""
    return lambda files: _only(files, change(next(iter(files.values()))))


def constant(content: bytes) -> Generator:
    """A generator whose first file has this content."""
    return first(lambda _: content)


def at(name: str, generator: Generator) -> Generator:
    """A generator applied to one file of several."""
    return lambda files: {**files, **generator({name: files[name]})}


# --- any file
def pipe(files: Files) -> Files:
    """A named pipe in place of the first file: opening it would wait for ever."""
    return _only(files, b"", next(iter(files))) | {".pipe": next(iter(files)).encode()}


ANY: list[Generator] = [
    constant(b""),
    constant(b"\0"),
    constant(b"\0" * 100_000),
    constant(b"<html><body>404</body></html>"),
    constant(b"version https://git-lfs.github.com/spec/v1\n"),
    pipe,
]


# --- TIFF
def _entries(data: bytes) -> tuple[int, int]:
    """Place of the first directory of a classic TIFF, and the number of its entries."""
    (place,) = struct.unpack_from("<I", data, 4)
    (number,) = struct.unpack_from("<H", data, place)
    return place, number


def looped(data: bytes, back: int = 0) -> bytes:
    """The last directory points to an earlier one."""
    changed = bytearray(data)
    place, number = _entries(data)
    first_place = place
    while True:
        next_place = place + 2 + 12 * number
        (following,) = struct.unpack_from("<I", data, next_place)
        if not following:
            break
        place = following
        (number,) = struct.unpack_from("<H", data, place)
    struct.pack_into("<I", changed, next_place, place if back else first_place)
    return bytes(changed)


def tagged(tag: int, value: int, kind: int = 0, count: int = 0) -> Callable[[bytes], bytes]:
    """A tag of the first directory set to a value; the last one becomes it if there is none."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        place, number = _entries(data)
        entries = range(place + 2, place + 2 + 12 * number, 12)
        tags = [struct.unpack_from("<H", data, entry)[0] for entry in entries]
        entry = entries[tags.index(tag) if tag in tags else -1]
        struct.pack_into("<H", changed, entry, tag)
        if kind:
            struct.pack_into("<H", changed, entry + 2, kind)
        if count:
            struct.pack_into("<I", changed, entry + 4, count)
        struct.pack_into("<I", changed, entry + 8, value)
        return bytes(changed)

    return change


def many_directories(data: bytes, number: int = 20_000) -> bytes:
    """A chain of empty directories before the end."""
    changed = bytearray(data)
    place, entries = _entries(data)
    start = len(data) + len(data) % 2
    changed += b"\0" * (start - len(data))
    struct.pack_into("<I", changed, place + 2 + 12 * entries, start)
    directory = data[place : place + 2 + 12 * entries]
    for index in range(number):
        following = start + (index + 1) * (len(directory) + 4)
        changed += directory + struct.pack("<I", following if index + 1 < number else 0)
    return bytes(changed)


WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH = 256, 257, 322, 323
TIFF: list[Generator] = [
    first(looped),
    first(partial(looped, back=1)),
    first(many_directories),
    first(tagged(WIDTH, 0x7FFFFFFF, 4)),
    first(tagged(LENGTH, 0x7FFFFFFF, 4)),
    first(lambda data: tagged(LENGTH, 100_000, 4)(tagged(WIDTH, 100_000, 4)(data))),
    first(tagged(TILE_WIDTH, 32_768, 4)),
    first(lambda data: tagged(TILE_LENGTH, 32_768, 4)(tagged(TILE_WIDTH, 32_768, 4)(data))),
    first(tagged(TILE_WIDTH, 0, 4)),
    first(tagged(TILE_WIDTH, 16, 4)),
    first(tagged(324, 8, 4, 0x10000000)),
    first(tagged(325, 8, 4, 0x10000000)),
    first(tagged(282, 8, 5, 0x10000000)),
    first(tagged(270, 8, 2, 0x7FFFFFFF)),
    first(tagged(258, 16, 3, 1)),
    first(tagged(277, 4, 3, 1)),
    first(tagged(277, 60_000, 3, 1)),
    first(tagged(330, 8, 4, 0x1000000)),
]


def ome_text(change: Callable[[str], str]) -> Generator:
    """The OME-XML of a TIFF changed; it is moved to the end of the file."""

    def changed(data: bytes) -> bytes:
        start = data.index(b"<?xml")
        end = data.index(b"</OME>") + len(b"</OME>")
        text = change(data[start:end].decode()).encode() + b"\0"
        return tagged(270, len(data), 2, len(text))(data + text)

    return first(changed)


def _sized(**sizes: int) -> Generator:
    def change(text: str) -> str:
        for name, size in sizes.items():
            begin, _, rest = text.partition(f'{name}="')
            text = f'{begin}{name}="{size}"' + rest.partition('"')[2]
        return text

    return ome_text(change)


OME: list[Generator] = [
    _sized(SizeT=100_000_000),
    _sized(SizeC=300_000_000),
    _sized(SizeZ=100_000, SizeT=100_000),
    _sized(SizeX=10**9, SizeY=10**9),
    _sized(SizeX=0),
    ome_text(lambda text: text.replace("<TiffData", '<TiffData PlaneCount="2000000000"', 1)),
    ome_text(lambda text: text.replace("</Image>", "</Image>" * 1, 1) * 1),
    ome_text(
        lambda text: text.replace(
            text[text.index("<Image") : text.index("</Image>") + 8],
            text[text.index("<Image") : text.index("</Image>") + 8] * 5000,
        )
    ),
    ome_text(lambda text: text.replace("<Image", "<a>" * 50_000 + "<Image", 1)),
    ome_text(lambda text: text.replace("<OME", '<!DOCTYPE a [<!ENTITY e "x">]><OME', 1)),
]


# --- XML and JSON
def deep_xml(root: str, element: str, depth: int) -> bytes:
    """Elements in elements."""
    return f"<{root}>{f'<{element}>' * depth}{f'</{element}>' * depth}</{root}>".encode()


def laughs(root: str) -> bytes:
    """Entities that expand to a gigabyte."""
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)
    )
    return f"<!DOCTYPE x [{entities}]><{root}>&a9;</{root}>".encode()


XML: list[Generator] = [
    *(
        constant(deep_xml(root, element, 20_000))
        for root, element in (("ASAP_Annotations", "Annotation"), ("Annotations", "Annotation"))
    ),
    constant(deep_xml("Annotations", "Region", 3000)),
    constant(laughs("ASAP_Annotations")),
    constant(b"<Annotations><Annotation><Regions/></Annotation></Annotations>"),
    constant(b'<?xml version="1.0" encoding="utf-7"?><Annotations/>'),
]


def tangled(corners: int, kind: str = "Polygon") -> bytes:
    """A ring that crosses itself at nearly all corners."""
    ring = np.random.default_rng(0).uniform(0, 10_000, (corners, 2)).tolist()
    ring.append(ring[0])
    coordinates = [[ring]] if kind == "MultiPolygon" else [ring]
    return json.dumps({"type": kind, "coordinates": coordinates}).encode()


def star(corners: int) -> bytes:
    """A star polygon, whose edges all cross one another."""
    turns = np.arange(corners) * (corners // 2) * 2 * np.pi / corners
    ring = (5000 + 4000 * np.stack([np.cos(turns), np.sin(turns)], 1)).tolist()
    return json.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}).encode()


def tangled_xml(corners: int) -> bytes:
    """A tangled ring in ASAP's XML."""
    points = np.random.default_rng(0).uniform(0, 10_000, (corners, 2))
    places = "".join(
        f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(points)
    )
    return (
        '<ASAP_Annotations><Annotations><Annotation Type="Polygon"><Coordinates>'
        f"{places}</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    ).encode()


def collections(depth: int) -> bytes:
    """Collections of geometries in collections."""
    begin = '{"type":"GeometryCollection","geometries":['
    return (begin * depth + '{"type":"Point","coordinates":[1,1]}' + "]}" * depth).encode()


def overlapping(number: int) -> bytes:
    """Many outlines on one another."""
    rings = [[[i, 0], [i + 5000, 0], [i + 5000, 5000], [i, 5000], [i, 0]] for i in range(number)]
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [r]}}
        for r in rings
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


GEOJSON: list[Generator] = [
    *(constant(tangled(corners)) for corners in (200, 400, 1000)),
    constant(tangled(400, "MultiPolygon")),
    constant(star(801)),
    *(constant(collections(depth)) for depth in (50, 400, 100_000)),
    constant(overlapping(2000)),
    constant(b"[" * 200_000),
    constant(b'{"type":"Polygon","coordinates":' + b"[" * 200_000 + b"}"),
    constant(b'{"type":"Polygon","coordinates":[[[1e400,0],[1,0],[1,1],[0,0]]]}'),
    constant(b'{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]],[[5,5]]]}'),
    constant(b'{"type":"Polygon","coordinates":[[[0,0],[1,0]]]}'),
    constant(b'{"type":"LineString","coordinates":[[0,0],[1,0],[1,1]]}'),
    constant(b'{"type":"FeatureCollection","features":[]}'),
    constant(b'{"type":"FeatureCollection","features":{}}'),
    constant(b'{"type":"FeatureCollection","features":[1, null, "x", []]}'),
    constant(b"9" * 5000),
]


# --- YAML
def aliases(levels: int, key: str = "classes") -> bytes:
    """Few bytes of aliases that stand for many values."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"{key}: *a{levels - 1}"]).encode()


def anchored(levels: int) -> bytes:
    """Aliases in the value of one known key, so that no unknown key is met first."""
    lines = ["classes:", "- &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"- &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines).encode()


YAML: list[Generator] = [
    constant(aliases(7)),
    constant(aliases(9)),
    constant(aliases(9, "options")),
    constant(anchored(8)),
    constant(b"a: &a [*a]\nclasses: *a"),
    constant(b"&a {x: *a}"),
    constant(b"name: " + b"[" * 5000),
    constant(b"a: {" * 5000),
    constant(b"? " * 5000),
    constant(b"- " * 100_000),
    constant(b"classes: !!python/object/apply:os.system [ls]"),
    constant(b"classes: !!int x"),
    constant(b"title: !!binary x"),
    constant(b"title: 2001-99-99"),
    constant(b"x: 1:2:3:4:5\n<<: [1]"),
    constant(b"\xff\xfea\0:\0 \0b\0"),
    constant(b"%TAG ! tag:x,2000:\n---\nx"),
    constant(b"a: 1\n---\nb: 2"),
    constant(b"1: 2\nnull: 3\n[1, 2]: 4\n{a: b}: 5"),
    constant("title: \u0007".encode()),
    constant(b"x: " + b"9" * 5000),
    constant(b"x: 0x" + b"f" * 100_000),
]


# --- tables
TABLE: list[Generator] = [
    constant(b"slide,label" + b",x" * 20_000 + b"\na,b" + b",1" * 20_000 + b"\n"),
    constant(b"slide,label\n" + b"a,b\n" * 50_000),
    constant(b'slide,label\n"a' + b"\nb" * 100_000),
    constant(b"slide,label\na," + b"b" * 200_000),
    constant(b"sep=;\nslide;label\na;b\n"),
    constant(b"slide,label\na\0,b\n"),
    constant(b"slide,label\r\r\na,b\r"),
    constant(b"\xef\xbb\xbf\xef\xbb\xbfslide,label\na,b\n"),
    constant("slide,label\na,b\n".encode("utf-16")),
    constant(b"slide,slide\na,b\n"),
    constant(b",,,\n,,,\n"),
    constant(b"slide,label\n=cmd|' /C calc'!A0,b\n"),
    constant(b"slide,label,split,mpp\na.tif,x,train,1e999\nb.tif,y,test,nan\n"),
]


# --- xlsx
def sheet_bomb(megabytes: int) -> Generator:
    """A sheet of blanks that is small when packed."""

    def change(data: bytes) -> bytes:
        members = unzipped(data)
        name = next(name for name in members if "sheet1.xml" in name)
        members[name] = members[name].replace(
            b"</sheetData>", b" " * (megabytes << 20) + b"</sheetData>"
        )
        return rezipped(members)

    return first(change)


def member(part: str, change: Callable[[bytes], bytes]) -> Generator:
    """A spreadsheet with one member changed."""

    def changed(data: bytes) -> bytes:
        members = unzipped(data)
        name = next(name for name in members if part in name)
        members[name] = change(members[name])
        return rezipped(members)

    return first(changed)


def without(part: str) -> Generator:
    """A spreadsheet without one member."""
    return first(lambda data: rezipped({n: c for n, c in unzipped(data).items() if part not in n}))


ROW = b'<row r="%d"><c r="A%d" t="inlineStr"><is><t>x</t></is></c></row>'
XLSX: list[Generator] = [
    sheet_bomb(300),
    member("sheet1.xml", lambda xml: xml[: len(xml) // 2]),
    member("styles.xml", lambda xml: xml.replace(b"fontId=", b"x=")),
    member("styles.xml", lambda xml: xml.replace(b'"0"', b'"-1"')),
    member("styles.xml", lambda xml: xml[: len(xml) // 3]),
    member("workbook.xml", lambda xml: xml.replace(b"<sheet ", b"<shut ")),
    member("sheet1.xml", lambda xml: xml.replace(b'r="A1"', b'r="XFD1048576"')),
    member("sheet1.xml", lambda xml: xml.replace(b'r="1"', b'r="1048576"', 1)),
    member("sheet1.xml", lambda xml: xml.replace(b'r="1"', b'r="-5"', 1)),
    member("sheet1.xml", lambda xml: xml.replace(b't="s"', b't="n"')),
    member("sheet1.xml", lambda xml: xml.replace(b't="s"', b't="d"')),
    member("sheet1.xml", lambda xml: xml.replace(b"<v>1</v>", b"<v>99999</v>")),
    member("sheet1.xml", lambda xml: xml.replace(b'ref="B2:B3"', b'ref="A1:XFD1048576"')),
    member(
        "sheet1.xml",
        lambda xml: xml.replace(b'<mergeCell ref="B2:B3"/>', b'<mergeCell ref="A1:C9999"/>' * 5000),
    ),
    member("sheet1.xml", lambda xml: laughs("worksheet")),
    member(
        "sheet1.xml",
        lambda xml: xml.replace(
            b"</sheetData>", b"".join(ROW % (i, i) for i in range(10, 60_000)) + b"</sheetData>"
        ),
    ),
    member("sharedStrings.xml", lambda xml: xml[: len(xml) // 2]),
    member("sharedStrings.xml", lambda xml: laughs("sst")),
    *map(without, ("workbook.xml", "sheet1.xml", "styles.xml", "sharedStrings.xml", "_rels")),
    first(lambda data: rezipped({f"{i}": b"" for i in range(20_000)})),
]


# --- HDF5
# Attributes that readers ask for.
NAMES = ("name", "encoder", "format", "mil_header", "patch_size", "unit", "label")


def heap_object(number: int, size: int, *, free: bool = False) -> Generator:
    """A global heap whose object claims a size; free space of no size has no end."""

    def change(data: bytes) -> bytes:
        if b"GCOL" not in data:
            data = _with_texts(data)
        changed = bytearray(data)
        place = data.index(b"GCOL") + 16
        for _ in range(number):
            (stored,) = struct.unpack_from("<Q", data, place + 8)
            place += 16 + (stored + 7) // 8 * 8
        struct.pack_into("<HH", changed, place, 0 if free else number + 1, 0)
        struct.pack_into("<Q", changed, place + 8, size)
        return bytes(changed)

    return first(change)


def _with_texts(data: bytes) -> bytes:
    """An HDF5 file whose first dataset has attributes that readers may ask for."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for item in (file, file[_datasets(file)[0]]):
            for name in NAMES:
                item.attrs[name] = name
    return buffer.getvalue()


def hdf5(change: Callable[[h5py.File], None]) -> Generator:
    """An HDF5 file changed through its library."""

    def changed(data: bytes) -> bytes:
        buffer = io.BytesIO(data)
        with h5py.File(buffer, "r+") as file:
            change(file)
        return buffer.getvalue()

    return first(changed)


def _datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    return names


def _huge(file: h5py.File) -> None:
    name = _datasets(file)[0]
    item = file[name]
    shape, kind = item.shape, item.dtype
    del file[name]
    file.create_dataset(name, (2**40, *shape[1:]), kind, chunks=True)


def _packed(file: h5py.File) -> None:
    """Three gigabytes of zeros that are some megabytes when packed."""
    name = _datasets(file)[0]
    shape = file[name].shape
    kind = file[name].dtype
    del file[name]
    width = max(int(np.prod(shape[1:])) * kind.itemsize, 1)
    rows = (16 << 20) // width
    item = file.create_dataset(
        name, (200 * rows, *shape[1:]), kind, chunks=(rows, *shape[1:]), compression="gzip"
    )
    chunk = zlib.compress(b"\0" * (rows * width))
    for number in range(200):
        item.id.write_direct_chunk((number * rows, *[0] * len(shape[1:])), chunk)


def _objects(file: h5py.File) -> None:
    for name in _datasets(file):
        del file[name]
        file[name] = np.array(["x", "é"], dtype=h5py.string_dtype())


def _groups(file: h5py.File) -> None:
    for name in _datasets(file):
        del file[name]
        file.create_group(name)


def _types(file: h5py.File) -> None:
    for name in _datasets(file):
        del file[name]
        file[name] = np.dtype("f4")


def _vlen(file: h5py.File) -> None:
    for name in _datasets(file):
        del file[name]
        item = file.create_dataset(name, (3,), h5py.vlen_dtype(np.float32))
        item[0] = [1, 2, 3]


def _loop(file: h5py.File) -> None:
    file["loop"] = file["/"]


def _attributes(value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        items = [file, *(file[name] for name in _datasets(file))]
        for item in items:
            for name in list(item.attrs) or NAMES:
                item.attrs[name] = value

    return change


HDF5: list[Generator] = [
    *(heap_object(number, 0, free=True) for number in (0, 2, 4)),
    *(heap_object(number, size) for number in (0, 2, 4) for size in (2**63, 3, 6)),
    *map(hdf5, (_huge, _packed, _objects, _groups, _types, _vlen, _loop)),
    *(
        hdf5(_attributes(value))
        for value in ("x", "", 0, -1, float("nan"), 2**62, b"\xff", [1, 2], np.zeros((3, 3)))
    ),
    hdf5(_attributes(h5py.Empty("f"))),
]


# --- torch
def reference_of(storage: str, shape: str, strides: str) -> bytes:
    """A pickle of one tensor with a size and strides of one's own."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + storage.encode()
        + b"tQK\x00"
        + shape.encode()
        + strides.encode()
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )


def torch_file(pickle: bytes, **others: bytes) -> bytes:
    """A file of torch's with a pickle and 40 bytes of numbers."""
    members = {
        "archive/data.pkl": pickle,
        "archive/byteorder": b"little",
        "archive/data/0": b"\0" * 40,
        "archive/version": b"3\n",
        **{f"archive/{name}": content for name, content in others.items()},
    }
    return rezipped(members, zipfile.ZIP_STORED)


def _module_pickle(module: str, name: str) -> bytes:
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x02\x00\x00\x00ls\x85R."


PT: list[Generator] = [
    # Gigabytes of one number, by strides of zero.
    constant(
        torch_file(reference_of("K\n", "J\x00\x00@\x00J\x00\x01\x00\x00\x86", "K\x00K\x00\x86"))
    ),
    constant(torch_file(reference_of("K\n", "J\xff\xff\xff\x7fK\x08\x86", "K\x00K\x00\x86"))),
    constant(torch_file(reference_of("K\n", "J\xff\xff\xff\xffK\x08\x86", "K\x00K\x00\x86"))),
    constant(torch_file(reference_of("K\n", "K\x05K\x02\x86", "J\xff\xff\xff\xffK\x01\x86"))),
    constant(torch_file(reference_of("J\xff\xff\xff\x7f", "K\x05K\x02\x86", "K\x02K\x01\x86"))),
    constant(torch_file(reference_of("K\n", "K\x05K\x02\x86", "K\x02K\x01\x86"))),
    constant(torch_file(_module_pickle("os", "system"))),
    constant(torch_file(_module_pickle("fuzz_canary", "x"))),
    constant(torch_file(_module_pickle("builtins", "exec"))),
    constant(torch_file(b"\x80\x02" + b"]" * 1_000_000 + b".")),
    constant(torch_file(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".")),
    constant(torch_file(b"\x80\x02]q\x00h\x00a.")),
    constant(torch_file(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")),
    constant(torch_file(b"\x80\x02I" + b"9" * 100_000 + b"\n.")),
    constant(torch_file(b"\x80\x02\x8b\xff\xff\xff\x7f.")),
    constant(torch_file(b"\x80\x02B\xff\xff\xff\x7fx.")),
    constant(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."),
]


# --- safetensors
def header(tensors: object, data: bytes = b"\0" * 96, length: int | None = None) -> bytes:
    """A file of safetensors with any header."""
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(kind: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


SAFETENSORS: list[Generator] = [
    constant(header({})),
    constant(header({"x": _tensor("F32", [2**40], 0, 96)})),
    constant(header({"x": _tensor("F32", [2**32, 2**32], 0, 0)}, b"")),
    constant(header({"x": _tensor("F32", [0, 2**40], 0, 0)}, b"")),
    constant(header({"x": _tensor("F64", [12], 0, 96)})),
    constant(header({"x": _tensor("C64", [12], 0, 96)})),
    constant(header({"x": _tensor("F8_E4M3", [96], 0, 96)})),
    constant(header({"x": _tensor("BOOL", [96], 0, 96)})),
    constant(header({"../x": _tensor("F32", [24], 0, 96)})),
    constant(header(b"[" * 100_000)),
    constant(header(b'{"__metadata__":{"a":1}}')),
    constant(header({}, length=2**63)),
]


# --- JSON of ours
JSON: list[Generator] = [
    constant(b"[" * 200_000),
    constant(b'{"a":' * 200_000),
    constant(b"null"),
    constant(b"[]"),
    constant(b"{}"),
    constant(b"1e999"),
    constant(b"NaN"),
    constant(b'"x"'),
    constant(b"9" * 5000),
    constant(b'{"format": null}'),
    constant(b'{"format": {}, "format_version": []}'),
    constant(b"\xff\xfe{}"),
]


# --- MATLAB
def _mat(element: bytes) -> bytes:
    return b" " * 124 + b"\0\1IM" + element


MAT: list[Generator] = [
    constant(_mat(b"")),
    constant(_mat(struct.pack("<II", 14, 0))),
    constant(_mat(struct.pack("<II", 14, 8) + struct.pack("<II", 14, 0))),
    constant(_mat(struct.pack("<II", 15, 8) + b"x" * 8)),
    constant(_mat(struct.pack("<II", 0xFFFF, 0) * 10_000)),
    constant(_mat(struct.pack("<II", 1, 0) * 200_000)),
]


# Over 0.3 s to make, or to be given up: left out of the quick form.
SLOW = {
    *(TIFF[2], OME[7], OME[8]),
    *(XLSX[0], XLSX[15], XLSX[23], TABLE[1]),
    *HDF5[:3],
    *(PT[9], PT[10], MAT[5]),
}
