"""Small valid files of every kind that mil reads: the stock that inputs are mutated from.

All are made here, by the writers of mil, by the helpers of the tests and by the libraries.
The same bytes come out each time.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

# Content of files by their path in the folder that a reader is given.
Files = Mapping[str, bytes]


def files_of(make: Callable[[Path], object]) -> Files:
    """Files that a function writes into a folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pixels(width: int = 320, height: int = 256) -> np.ndarray:
    """Tissue on glass, uint8 [height, width, 3]."""
    from tests.synthetic import glass, stain

    picture = glass((width, height))
    inside = np.zeros((height, width), bool)
    inside[height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = True
    stain(picture, inside)
    return picture


def slide(folder: Path, name: str = "slide.tif", mpp: float | None = 4.0, **options: Any) -> None:
    """A pyramidal tiled TIFF of two levels."""
    from tests.synthetic import write_slide

    write_slide(folder / name, pixels(), mpp, (1, 4), tile=64, **options)


def aperio(folder: Path, **options: Any) -> None:
    """An .svs of two levels."""
    import tifffile

    text = "Aperio Image Library v12.0.15\r\n320x256 (64x64) JPEG/RGB Q=92|AppMag = 20|MPP = 4.0"
    usual = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "description": text}
    usual["compression"] = "jpeg"
    with tifffile.TiffWriter(folder / "slide.svs") as file:
        file.write(pixels(), maxworkers=1, **{**usual, **options})
        file.write(pixels(160, 128), maxworkers=1, subfiletype=1, **{**usual, **options})


def big_tiff(folder: Path) -> None:
    """A BigTIFF, big-endian, with a transparency channel."""
    import tifffile

    rgba = np.dstack([pixels(), np.full((256, 320), 255, np.uint8)])
    with tifffile.TiffWriter(folder / "slide.tif", bigtiff=True, byteorder=">") as file:
        file.write(
            rgba,
            tile=(64, 64),
            photometric="rgb",
            extrasamples=["unassalpha"],
            compression="lzw",
            metadata=None,
            maxworkers=1,
            resolution=(2500, 2500),
            resolutionunit="CENTIMETER",
        )


def ome(folder: Path, scenes: int = 1) -> None:
    """An OME-TIFF with a level in SubIFDs, of one or several images."""
    import tifffile

    with tifffile.TiffWriter(folder / "slide.ome.tif", ome=True) as file:
        for number in range(scenes):
            size = 320 // (scenes - number), 256 // (scenes - number)
            metadata = {
                "axes": "YXS",
                "UUID": "0" * 8,
                "PhysicalSizeX": 4.0,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 4.0,
                "PhysicalSizeYUnit": "µm",
            }
            options: dict[str, Any] = {
                "tile": (64, 64),
                "photometric": "rgb",
                "compression": "zlib",
                "maxworkers": 1,
            }
            file.write(pixels(*size), subifds=1, metadata=metadata, **options)
            file.write(pixels(size[0] // 2, size[1] // 2), subfiletype=1, **options)


def png_mask(folder: Path, mode: str = "L") -> None:
    """A mask of the proportion of `slide`."""
    from PIL import Image

    inside = np.zeros((64, 80), np.uint8)
    inside[16:48, 20:60] = 255
    # Pillow converts to 16 bits by way of 32.
    image = Image.fromarray(inside)
    if mode == "I;16":
        image = image.convert("I")
    image.convert(mode).save(folder / "mask.png")


def tiff_mask(folder: Path, **options: Any) -> None:
    """A tiled mask of the proportion of `slide`, of two levels."""
    import tifffile

    inside = np.zeros((128, 160), np.uint8)
    inside[32:96, 40:120] = 1
    usual = {"tile": (32, 32), "compression": "zlib", "metadata": None, "maxworkers": 1}
    with tifffile.TiffWriter(folder / "mask.tif") as file:
        file.write(inside, **{**usual, **options})
        file.write(np.ascontiguousarray(inside[::2, ::2]), subfiletype=1, **{**usual, **options})


RING = [[40, 40], [240, 40], [240, 200], [40, 200], [40, 40]]


def _feature(name: str, coordinates: Any, kind: str = "Polygon") -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


def geojson() -> Files:
    """Outlines as QuPath writes them."""
    hole = [[100, 100], [120, 100], [120, 120], [100, 120], [100, 100]]
    features = [
        _feature("Tumour", [RING, hole]),
        _feature("Ignore*", [[[50, 50], [80, 50], [80, 80], [50, 50]]]),
        _feature("Stroma", [[RING], [hole]], "MultiPolygon"),
        _feature("Line", RING, "LineString"),
        {**_feature("x", [1, 2], "Point"), "geometry": None},
    ]
    return {
        "mask.geojson": json.dumps({"type": "FeatureCollection", "features": features}).encode()
    }


def asap() -> Files:
    """Outlines as ASAP writes them."""
    corners = "".join(
        f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(RING[:4])
    )
    annotations = "".join(
        f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{corners}</Coordinates></Annotation>"
        for kind, group in (("Polygon", "_0"), ("Polygon", "_2"), ("Dot", "_0"))
    )
    groups = (
        '<AnnotationGroups><Group Name="_0" PartOfGroup="None"/>'
        '<Group Name="_2" PartOfGroup="_0"><Attributes/></Group></AnnotationGroups>'
    )
    text = f"<ASAP_Annotations><Annotations>{annotations}</Annotations>{groups}</ASAP_Annotations>"
    return {"mask.xml": text.encode()}


def imagescope() -> Files:
    """Outlines as ImageScope writes them."""
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in RING[:4])
    regions = "".join(
        f'<Region Id="{i}" Type="{kind}" NegativeROA="{negative}"><Vertices>{vertices}</Vertices>'
        "</Region>"
        for i, (kind, negative) in enumerate(((0, 0), (0, 1), (1, 0), (3, 0)))
    )
    text = (
        '<Annotations MicronsPerPixel="4.0"><Annotation Id="1" Name="Tumour"><Attributes/>'
        f"<Regions><RegionAttributeHeaders/>{regions}</Regions><Plots/></Annotation></Annotations>"
    )
    return {"mask.xml": text.encode()}


def halo() -> Files:
    """Outlines as HALO writes them."""
    corners = "".join(f'<V X="{x}" Y="{y}"/>' for x, y in RING)
    text = (
        '<Annotations><Annotation LineColor="65535" Name="Tumour" Visible="True"><Regions>'
        f'<Region Type="Polygon" HasEndcaps="0" NegativeROA="0"><Vertices>{corners}</Vertices>'
        '</Region><Region Type="Rectangle" NegativeROA="0"><Vertices><V X="10" Y="10"/>'
        '<V X="90" Y="80"/></Vertices></Region></Regions></Annotation></Annotations>'
    )
    return {"mask.xml": text.encode()}


LABELS = """\
slide,patient,label,site,mpp,split
a.tif,p1,tumour,x,0.5,train
b.tif,p1,tumour,y,0.5,train
c.tif,p2,normal,x,0.25,test
d.tif,p3,normal,y,,val
"""
SLIDE_TABLE = """\
slide,patient,path,label,split,mpp,annotation,url,sha256,site
a,p1,a.tif,tumour,train,0.5,a.geojson,,,x
b,p1,b.tif,tumour,train,0.5,,,,y
c,p2,c.tif,normal,test,0.25,,https://example.org/c.tif,,x
d,p3,d.tif,normal,val,,,,,y
"""
DATASET = """\
title: small
task: classification
classes: [normal, tumour]
positive: tumour
slides_dir: slides
columns: {}
slide_paths: ["{slide}.tif"]
annotation_paths: ["{slide}.geojson"]
geojson_frame: scanned
licence: none
notes: made by hand
"""
RECIPE = """\
name: acmil
options: {hidden: 8, branches: 2, mask_top: 2, mask_share: 0.6}
losses: {cross_entropy: 1.0, branch_cross_entropy: 1.0, branch_diversity: 1.0}
train: {epochs: 3, lr: 0.0001, weight_decay: 0.01, clip_norm: 1.0}
source: https://arxiv.org/abs/2311.07125
"""
ENCODERS = """\
resnet18:
  timm: resnet18
  args: {img_size: 224}
  pooling: model
  dim: 512
  tile_px: 224
  mpp: 0.5
  weights: hf-hub:timm/resnet18.a1_in1k@491b427b45c94c7fb0e78b5474cc919aff584bbf/model.safetensors
  mean: [0.5, 0.5, 0.5]
  std: [0.2, 0.2, 0.2]
  licence: Apache-2.0
own:
  timm: vit_small_patch16_224
  dim: 384
  weights: weights.pt
  keys: order
  licence: own
"""
CONFIG = """\
dataset: demo
encoder: efficientnet_lite0
head: [abmil, acmil]
seeds: 2
folds: 3
slides_dir: slides
tile: {size_px: 224, mpp: 0.5, min_tissue: 0.5}
features: {precision: fp32, max_corrupt: 0.01}
split: {val_share: 0.2}
heatmap: {slides: all}
"""


def text(**files: str) -> Files:
    """Text files; `a__csv` is `a.csv`."""
    return {name.replace("__", "."): content.encode() for name, content in files.items()}


def spreadsheet() -> Files:
    """The labels as an .xlsx of two sheets, with merged cells, dates and formulas."""
    from datetime import datetime

    from openpyxl import Workbook

    book = Workbook()
    book.properties.created = book.properties.modified = datetime(2020, 1, 1)
    sheet = book.active
    assert sheet is not None
    for row in LABELS.splitlines():
        sheet.append(row.split(","))
    sheet["G1"] = "date"
    sheet["G2"] = datetime(2020, 1, 1)
    sheet["G3"] = "=1+1"
    sheet["G4"] = 7
    sheet["G4"].number_format = "000"
    sheet.merge_cells("B2:B3")
    book.create_sheet("other")["A1"] = "x"
    buffer = io.BytesIO()
    book.save(buffer)
    from tests.fuzz.containers import rezipped, unzipped

    members = unzipped(buffer.getvalue())
    # openpyxl writes the time of saving.
    core = members["docProps/core.xml"]
    before, _, rest = core.partition(b"<dcterms:modified")
    members["docProps/core.xml"] = before + b"<dcterms:modified" + _undated(rest)
    return {"labels.xlsx": rezipped(members)}


MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
SHEETS = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def shared_spreadsheet() -> Files:
    """The labels as Excel writes them: texts are numbers of a table of texts."""
    from tests.fuzz.containers import rezipped

    texts: list[str] = []
    rows = []
    for number, line in enumerate(LABELS.splitlines(), 1):
        cells = []
        for column, cell in zip("ABCDEF", line.split(","), strict=True):
            texts.append(cell)
            style = f'<c r="{column}{number}" t="s" s="0"><v>{len(texts) - 1}</v></c>'
            cells.append(style)
        rows.append(f'<row r="{number}" spans="1:6">{"".join(cells)}</row>')
    strings = "".join(f"<si><t>{text}</t></si>" for text in texts)
    types = "".join(
        f'<Override PartName="/xl/{part}.xml" ContentType="{SHEETS}.{kind}+xml"/>'
        for part, kind in (
            ("workbook", "sheet.main"),
            ("worksheets/sheet1", "worksheet"),
            ("sharedStrings", "sharedStrings"),
            ("styles", "styles"),
        )
    )
    relations = "".join(
        f'<Relationship Id="r{i}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for i, (kind, target) in enumerate(
            (
                ("worksheet", "worksheets/sheet1.xml"),
                ("sharedStrings", "sharedStrings.xml"),
                ("styles", "styles.xml"),
            ),
            1,
        )
    )
    members = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
        f'<Default Extension="xml" ContentType="application/xml"/>{types}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets>'
        '<sheet name="one" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f"{relations}</Relationships>",
        "xl/worksheets/sheet1.xml": f'<worksheet {MAIN}><dimension ref="A1:F5"/><sheetData>'
        f'{"".join(rows)}</sheetData><mergeCells count="1"><mergeCell ref="B2:B3"/></mergeCells>'
        "</worksheet>",
        "xl/sharedStrings.xml": f'<sst {MAIN} count="{len(texts)}">{strings}</sst>',
        "xl/styles.xml": f'<styleSheet {MAIN}><fonts count="1"><font/></fonts><fills count="1">'
        '<fill><patternFill patternType="none"/></fill></fills>'
        '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/>'
        '</cellStyleXfs><cellXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/>'
        "</cellXfs></styleSheet>",
    }
    return {"labels.xlsx": rezipped({name: text.encode() for name, text in members.items()})}


def _undated(text: bytes) -> bytes:
    attributes, _, rest = text.partition(b">")
    return attributes + b">2020-01-01T00:00:00Z" + rest[rest.index(b"<") :]


def bag(folder: Path) -> None:
    """A bag of 12 tiles."""
    from tests.synthetic import bag_file

    values = np.random.default_rng(0).normal(size=(12, 12))
    bag_file(folder / "a.h5", "a", values, target_mpp=0.5, tile_px=64)


def bag_without_tiles(folder: Path) -> None:
    """A bag of a slide that is not ok."""
    from tests.synthetic import bag_file

    bag_file(folder / "a.h5", "a", np.zeros((0, 12)), state="no_tissue", reason="none")


def tiles(folder: Path) -> None:
    """A tiles file with quality columns."""
    from dataclasses import replace

    from mil.io.tiles import write_tiles
    from tests.synthetic import make_tiles

    plain = make_tiles()
    write_tiles(folder / "a.h5", replace(plain, quality={"pen": np.zeros(2, np.float32)}))


def scores(folder: Path) -> None:
    """A score file of two heads with branches and a selection."""
    from mil.io.scores import (
        BagScores,
        HeadScores,
        Outputs,
        ScoredBag,
        ScoringHead,
        TileSelection,
        write_scores,
    )

    outputs = Outputs(np.array([0.1, 0.9]), np.array([0.3, 0.7]))
    selected = np.array([True, False, True, False])
    head = HeadScores(
        logits=np.array([0.1, 0.9]),
        predictions=np.array([0.3, 0.7]),
        attention=np.full(4, 0.25),
        branch_logits=np.zeros((2, 2)),
        branch_attention=np.full((4, 2), 0.25),
        last=outputs,
        selection=TileSelection(selected=selected, full=outputs),
    )
    record = head_files()["recipe.json"].decode()
    scoring = ScoringHead(record, "0" * 64, "1" * 64)
    bags = (ScoredBag("a", "0" * 64),)
    content = BagScores(name="a", bags=bags, heads=(scoring, scoring), scores=(head, head))
    write_scores(folder / "a.h5", content)


def head_files(name: str = "abmil", **changes: Any) -> Files:
    """The folder of a trained head with its manifest."""
    from mil.trained.seal import write_manifest
    from tests.interop.made import make

    return files_of(lambda folder: write_manifest(make(folder, name, **changes)))


def published(name: str) -> Files:
    """A checkpoint as one of the published codes writes it."""
    from tests.interop.published import drawn, save

    def make(folder: Path) -> None:
        save(folder / "head.pt", drawn(name), {"seed": 3, "lr": 1e-4, "n_token": 2})

    return files_of(make)


def tensors(folder: Path) -> None:
    """Features of one slide in a .pt, as CLAM writes them."""
    import torch

    values = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 8)).astype("f4"))
    torch.save(values, folder / "a.pt")


def state_dict(folder: Path) -> None:
    """Weights of a small model in a .pt."""
    import torch

    weights = {"weight": torch.ones(4, 3), "bias": torch.ones(4)}
    torch.save({"state_dict": weights}, folder / "w.pt")


def npy_archive(folder: Path) -> None:
    """Features of two slides in an archive, uncompressed, so that mutations reach them."""
    import io
    import tarfile

    with tarfile.open(folder / "f.tar", "w") as archive:
        for name in ("a", "b"):
            buffer = io.BytesIO()
            np.save(buffer, np.random.default_rng(0).normal(size=(5, 8)).astype("f4"))
            member = tarfile.TarInfo(f"./{name}.npy")
            member.size = len(buffer.getvalue())
            archive.addfile(member, io.BytesIO(buffer.getvalue()))


def bench_file(folder: Path) -> None:
    """Results of `mil bench features`."""
    row = {"encoder": "uni", "device": "cpu", "encoder_tiles/s": 8, "reading_tiles/s": 400}
    title = "mil bench features, threads: 2"
    content = {"format": "mil.bench", "title": title, "machine": {"cores": 2}, "rows": [row]}
    (folder / "b.json").write_text(json.dumps(content))


def array(folder: Path) -> None:
    """Features of one slide in a .pt, as an array of NumPy."""
    import torch

    torch.save(np.random.default_rng(0).normal(size=(5, 8)).astype("f4"), folder / "a.pt")


def legacy(folder: Path) -> None:
    """Features of one slide in a .pt of torch's older format."""
    import torch

    path = folder / "a.pt"
    torch.save(torch.ones(5, 8), path, _use_new_zipfile_serialization=False)
    # The key of a tensor is where it lay in memory: a text, X and its length, of digits.
    key = re.compile(rb"X.\0\0\0[0-9]{6,}")
    path.write_bytes(key.sub(b"X\x09\0\0\0" + b"1" * 9, path.read_bytes()))


def foreign(tool: str) -> Files:
    """A folder of features of one slide by another tool."""
    from tests.interop import layouts

    def make(folder: Path) -> None:
        if tool == "acmil":
            layouts.write_acmil(folder / "patch_feats.h5", {"a": 1, "b": 0})
        else:
            getattr(layouts, f"write_{tool}")(folder)

    return files_of(make)


def evaluation() -> Files:
    """Two folders of `mil evaluate`, to be compared."""
    from tests.compare.heads import evaluated

    def make(folder: Path) -> None:
        evaluated(folder, "one", 1.0, slides=12, seeds=2)
        evaluated(folder, "two", 0.5, slides=12, seeds=2)

    return files_of(make)


FOLDS = """\
fold,slide,patient,label,split
0,a,p1,tumour,train
0,b,p1,tumour,train
0,c,p2,normal,val
0,d,p3,normal,test
1,a,p1,tumour,test
1,b,p1,tumour,test
1,c,p2,normal,train
1,d,p3,normal,val
"""
CLAM_SPLITS = ",train,val,test\n0,a,c,d\n1,b,,\n"
PATHO_BENCH = """\
case_id,slide_id,label,fold_0,fold_1
p1,a,1,train,test
p1,b,1,train,test
p2,c,0,test,train
p3,d,0,test,train
"""
STAMP_SPLITS = {"splits": [{"train_patients": ["p1"], "test_patients": ["p2", "p3"]}] * 2}
ACMIL_SPLITS = {"train_names": ["a", "b"], "val_names": ["c"], "test_names": ["d"]}


def jld(folder: Path) -> None:
    """A classical data set in the layout of MIDatasets.jl."""
    from tests.classical_files import jld_file

    bags = [np.random.default_rng(seed).normal(size=(3, 4)) for seed in range(6)]
    labels = [True, False] * 3
    training = [[[True, True, True, False, False, False], [False] * 3 + [True] * 3]]
    jld_file(folder / "musk.jld", bags, labels, training)


def matlab(folder: Path) -> None:
    """A classical data set in the layout of MILpy."""
    from tests.classical_files import matlab_folder

    bags = [np.random.default_rng(seed).normal(size=(3, 4)) for seed in range(6)]
    matlab_folder(folder, bags, [True, False] * 3)
    for path in folder.iterdir():
        # scipy writes the time into the text of the header.
        path.write_bytes(b" " * 116 + path.read_bytes()[116:])


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Stored archive of files."""
    from tests.fuzz.containers import rezipped

    return rezipped(dict(files), zipfile.ZIP_STORED)
