"""`mil bags fetch` against a hub on loopback."""

import errno
import gzip
import io
import json
import pickle
import tarfile
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

from mil.config import load_bag_sets
from mil.encoders.hub import Repository
from mil.errors import FormatError
from mil.interop import hub_files
from mil.interop.bag_sets import LOCK
from mil.interop.parquet import rows as rows_of
from mil.interop.torchmil import MAX_HEADER_BYTES, npy_members
from mil.io.bags import read_bag
from mil.io.tables import read_dataset
from tests.interop.hub import COMMIT, REPOSITORY, hub  # noqa: F401  a fixture
from tests.interop.layouts import bags

SLIDES = ["n0", "n1", "t0", "t1"]
ENTRY = {
    "title": "Small set",
    "repository": REPOSITORY,
    "layout": "clam",
    "features": "embeddings/{slide}.pt",
    "coords": "patches/**/{slide}.h5",
    "encoder": "uni",
    "dim": 8,
    "tile_px": 224,
    "tile_um": 128,
    "dataset": "small",
    "licence": "CC-BY-9.0",
    "citation": "Someone et al., A paper, 2026",
}
TABLE = """slide,patient,label,split,centre
n0,p0,normal,train,A
n1,p1,normal,test,B
t0,p2,tumour,train,A
t1,p3,tumour,test,B
"""


def features(slide, rows=3, dim=8):
    generator = np.random.default_rng(SLIDES.index(slide))
    return generator.normal(size=(rows, dim)).astype(np.float16).astype(np.float32)


def corners(slide, rows=3):
    return np.arange(2 * rows).reshape(rows, 2) * 512 + SLIDES.index(slide)


def of_torch(array):
    buffer = io.BytesIO()
    torch.save(torch.from_numpy(array), buffer)
    return buffer.getvalue()


def of_patches(coords, patch_size=512):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["coords"] = coords
        file["coords"].attrs.update(patch_size=patch_size, patch_level=0)
    return buffer.getvalue()


def of_npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def of_tar(content_by_name):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in content_by_name.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def study(hub, tmp_path, monkeypatch):  # noqa: F811
    """A folder with a set and its labels, and the set's files on the hub."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs/datasets"
    folder.mkdir(parents=True)
    write_entry(tmp_path)
    (folder / "small.csv").write_text(TABLE)
    (folder / "small.yaml").write_text("classes: [normal, tumour]\npositive: tumour\n")
    for slide in SLIDES:
        hub.files[f"embeddings/{slide}.pt"] = of_torch(features(slide))
        hub.files[f"patches/coords/{slide}.h5"] = of_patches(corners(slide))
    return tmp_path


def write_entry(root, **changes):
    entries = {"small-uni": {**ENTRY, **changes}}
    (root / "configs/bag_sets.yaml").write_text(yaml.safe_dump(entries))


def fetched(*options):
    return bags("fetch", "small-uni", *options)


def test_a_set_becomes_bags_and_a_dataset(study, hub):  # noqa: F811
    code, text = fetched()
    assert code == 0, text
    for word in ("CC-BY-9.0", "Someone et al., A paper, 2026", "8 files", COMMIT[:12]):
        assert word in text
    assert "bags: 4 verified, 0 faults" in text
    assert text.endswith("now: snakemake --cores all --config dataset=small-uni\n")
    bag = read_bag(study / "bags/small-uni/t0.h5")
    assert (bag.features == features("t0")).all()
    assert (bag.coords == corners("t0")).all()
    assert (bag.encoder, bag.tile_px, bag.side_level0_px) == ("uni", 224, 512)
    assert bag.mpp_level0 == pytest.approx(0.25)
    assert bag.target_mpp == pytest.approx(128 / 224)
    dataset, rows = read_dataset("small-uni")
    assert [row.split for row in rows] == ["train", "test", "train", "test"]
    assert [row.patient for row in rows] == ["p0", "p1", "p2", "p3"]
    assert rows[1].subgroups["centre"] == "B"
    assert (dataset.bags, dataset.licence) == ("bags/small-uni", "CC-BY-9.0")
    assert "Someone et al." in dataset.notes
    record = json.loads((study / "bags/small-uni/SOURCE.json").read_text())
    assert (record["commit"], record["licence"]) == (COMMIT, "CC-BY-9.0")
    assert not (study / "bags/small-uni/.download").exists()


@pytest.mark.slow
def test_a_second_fetch_downloads_nothing(study, hub):  # noqa: F811
    fetched()
    hub.sent.clear()
    code, text = fetched()
    assert (code, hub.sent) == (0, [])
    assert "download: 0 files" in text


def test_a_cut_network_ends_in_one_line_and_is_continued(study, hub):  # noqa: F811
    hub.cut["embeddings/n1.pt"] = 100
    code, text = fetched()
    assert code == 1
    assert "bag set small-uni: 1 bags are in bags/small-uni; someone/features" in text
    assert text.strip().endswith("run the same command again to continue where it was cut off")
    assert not (study / "configs/datasets/small-uni.yaml").exists()
    hub.cut.clear()
    hub.sent.clear()
    code, text = fetched()
    assert code == 0, text
    assert "embeddings/n0.pt" not in dict(hub.sent)
    assert dict(hub.sent)["embeddings/n1.pt"] > 0
    assert (read_bag(study / "bags/small-uni/n1.h5").features == features("n1")).all()


@pytest.mark.slow
def test_a_fetch_of_all_that_is_cut_leaves_no_old_bag_for_a_new_one(study, hub):  # noqa: F811
    assert fetched()[0] == 0
    for slide in SLIDES:
        hub.files[f"embeddings/{slide}.pt"] = of_torch(features(slide) + 1)
    hub.cut["embeddings/t0.pt"] = 20
    assert fetched("--force")[0] == 1
    hub.cut.clear()
    hub.sent.clear()
    # The dataset of the first fetch is there already.
    assert fetched("--datasets", "others")[0] == 0
    names = {name for name, _ in hub.sent}
    assert names == {*paths_of("t0"), *paths_of("t1")}
    for slide in SLIDES:
        assert (read_bag(study / f"bags/small-uni/{slide}.h5").features > features(slide)).all()


def paths_of(slide):
    return f"embeddings/{slide}.pt", f"patches/coords/{slide}.h5"


def test_two_fetches_at_once_do_not_share_a_folder(study, hub):  # noqa: F811
    folder = study / "bags/small-uni"
    folder.mkdir(parents=True)
    with FileLock(folder / LOCK):
        code, text = fetched()
    assert code == 1
    assert "another `mil bags fetch` writes there" in " ".join(text.split())
    assert hub.sent == []


@pytest.mark.slow
def test_a_file_changed_on_its_way_is_refused_and_fetched_again(study, hub):  # noqa: F811
    hub.spoilt["patches/coords/t1.h5"] = 1
    code, text = fetched()
    assert code == 1
    assert "patches/coords/t1.h5 was damaged on its way" in text
    assert "dataset small-uni: not written" in text
    hub.sent.clear()
    assert fetched()[0] == 0
    assert {name for name, _ in hub.sent} == {"embeddings/t1.pt", "patches/coords/t1.h5"}


@pytest.mark.slow
def test_a_missing_file_leaves_out_its_slide_alone(study, hub):  # noqa: F811
    hub.files["embeddings/n0.pt"] = None
    code, text = fetched()
    assert code == 1
    assert "someone/features: has no file embeddings/n0.pt" in text
    assert "bags: 3 verified" in text
    code, text = fetched("--allow-missing")
    assert code == 0
    assert "1 slides of small have no bag: n0" in text
    assert [row.slide for row in read_dataset("small-uni")[1]] == ["n1", "t0", "t1"]


@pytest.mark.slow
def test_an_unlisted_slide_is_named(study, hub):  # noqa: F811
    del hub.files["embeddings/n0.pt"]
    code, text = fetched()
    assert code == 0
    assert "1 slides of small have no bag: n0" in text


def line_of(code_and_text):
    code, text = code_and_text
    assert code == 1
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


def test_an_unknown_set_is_one_line(study):
    line = line_of(bags("fetch", "smal-uni"))
    assert "no bag set named 'smal-uni'; did you mean 'small-uni'?" in line


def test_a_gated_set_without_a_token_is_one_line(study, hub):  # noqa: F811
    # By the hub at the first file, or by the entry before anything is asked.
    for hub.gated, changes in ((True, {}), (False, {"gated": True})):
        write_entry(study, **changes)
        line = line_of(fetched())
        assert "ask for access on http://127.0.0.1:" in line
        assert f"/datasets/{REPOSITORY}, then log in with `hf auth login`" in line
    assert hub.sent == []


def test_no_network_is_one_line(study, hub, monkeypatch):  # noqa: F811
    hub.down = True
    assert "someone/features cannot be reached" in line_of(fetched())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in line_of(fetched())


def test_a_repository_of_another_layout_is_one_line(study, hub):  # noqa: F811
    hub.files = {"data/a/x.bin": b"x"}
    line = line_of(fetched())
    assert "has no files embeddings/{slide}.pt; its folders are data/a" in line


@pytest.mark.slow
def test_corners_of_other_tiles_leave_out_their_slide(study, hub):  # noqa: F811
    hub.files["patches/coords/t1.h5"] = of_patches(corners("t1", rows=4))
    code, text = fetched()
    assert code == 1
    assert "patches/coords/t1.h5: 4 corners for 3 tiles of embeddings/t1.pt" in text
    assert not (study / "bags/small-uni/t1.h5").exists()


@pytest.mark.slow
def test_other_features_than_stated_are_refused(study):
    write_entry(study, dim=9)
    code, text = fetched()
    assert code == 1
    assert "8 features" in text


def test_a_full_disk_is_told_before_the_download(study, hub, monkeypatch):  # noqa: F811
    usage = SimpleNamespace(free=100)
    monkeypatch.setattr("mil.interop.bag_set_plan.shutil.disk_usage", lambda _: usage)
    assert "GB are free there, but small-uni needs at least" in line_of(fetched())
    assert hub.sent == []


def test_a_dry_run_writes_nothing(study, hub):  # noqa: F811
    code, text = fetched("--dry-run")
    assert (code, hub.sent) == (0, [])
    assert "licence: CC-BY-9.0" in text
    assert not (study / "bags").exists()


@pytest.mark.slow
def test_a_folder_of_other_bags_is_refused(study):
    folder = study / "bags/small-uni"
    folder.mkdir(parents=True)
    (folder / "x.h5").write_bytes(b"")
    assert "holds bags of another source" in line_of(fetched())
    (folder / "x.h5").unlink()
    fetched()
    entries = {"small-uni": ENTRY, "second": ENTRY}
    (study / "configs/bag_sets.yaml").write_text(yaml.safe_dump(entries))
    line = line_of(bags("fetch", "second", "--out", folder))
    assert "holds the bags of set small-uni" in line


@pytest.mark.slow
def test_a_dataset_that_the_user_changed_is_kept(study):
    fetched()
    table = study / "configs/datasets/small-uni.csv"
    changed = table.read_text().replace("p0", "patient-0")
    table.write_text(changed)
    code, text = fetched()
    assert code == 0
    assert "was changed after it was written, and is kept" in text
    assert table.read_text() == changed


@pytest.mark.slow
def test_archives_of_torchmil_become_bags(study, hub):  # noqa: F811
    changes = {"features": "d/f.tar.gz", "coords": "d/c.tar.gz", "side_level0_px": 512}
    write_entry(study, layout="torchmil", **changes)
    hub.files = {
        "d/f.tar.gz": of_tar({f"./{slide}.npy": of_npy(features(slide)) for slide in SLIDES}),
        "d/c.tar.gz": of_tar({f"./{slide}.npy": of_npy(corners(slide)) for slide in SLIDES}),
    }
    code, text = fetched()
    assert code == 0, text
    bag = read_bag(study / "bags/small-uni/n1.h5")
    assert (bag.features == features("n1")).all()
    assert (bag.coords == corners("n1")).all()
    assert (bag.source, bag.side_level0_px) == ("torchmil", 512)
    hub.sent.clear()
    assert fetched()[0] == 0
    assert hub.sent == []


def bad_pickle(path):
    """An object whose pickle, when it is loaded, makes a file."""

    class Bad:
        def __reduce__(self):
            return (open, (str(path), "w"))

    return Bad()


def test_an_archive_cannot_write_or_unpickle(study, hub):  # noqa: F811
    write_entry(study, layout="torchmil", features="d/f.tar.gz", coords="")
    content = pickle.dumps(bad_pickle(study / "written"))
    hub.files = {"d/f.tar.gz": of_tar({"../../n0.npy": content})}
    code, text = fetched()
    assert code == 1
    assert "d/f.tar.gz: n0: not a .npy file of numbers" in text
    assert not (study / "written").exists()
    assert list(study.parent.glob("*.npy")) == []


def test_headers_of_an_archive_take_no_memory(tmp_path):
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    header.size = 2 * MAX_HEADER_BYTES
    content = header.tobuf(tarfile.USTAR_FORMAT) + bytes(header.size + 1024)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    with (
        pytest.raises(FormatError, match=r"^d/a: .*a header of \d+ bytes"),
        npy_members(tmp_path / "a.tar.gz", tmp_path / "scratch", "d/a"),
    ):
        pass


def test_a_full_disk_is_not_called_a_network_fault(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_files, "_address", lambda *args: ("http://host", {}))
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    file = hub_files.RemoteFile("embeddings/a.pt", 10)
    with pytest.raises(OSError, match="No space left") as caught:
        hub_files.download(Repository(REPOSITORY, COMMIT, "dataset"), file, tmp_path, ".pt")
    assert caught.value.filename == str(tmp_path / f"{file.scratch_name}.pt")


def test_a_pickle_is_never_run(study, hub):  # noqa: F811
    content = io.BytesIO()
    torch.save(bad_pickle(study / "written"), content)
    hub.files["embeddings/n0.pt"] = content.getvalue()
    code, text = fetched()
    assert code == 1
    # `io.open`, or `_io.open` from Python 3.13 on.
    name = f"{open.__module__}.open"
    assert f"embeddings/n0.pt: reading it would run {name}, which is never done" in text
    assert not (study / "written").exists()


@pytest.mark.slow
def test_tables_with_labels_become_a_dataset(study, hub):  # noqa: F811
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    def table(slides, label):
        rows = [
            np.hstack([np.full((3, 3), 7, np.float32), features(slide)]).tolist()
            for slide in slides
        ]
        kind = pyarrow.list_(pyarrow.list_(pyarrow.float32()))
        columns = {"features": pyarrow.array(rows, kind), "label": label}
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), buffer)
        return buffer.getvalue()

    changes = {"dataset": "", "classes": ["normal", "tumour"], "first_feature": 3}
    pattern = "data/x_{split}-*.parquet"
    write_entry(study, layout="parquet", features=pattern, coords="", **changes)
    hub.files = {
        "data/x_train-0.parquet": table(["n0", "t0"], [0, 1]),
        "data/x_train-1.parquet": table(["t1"], [1]),
        "data/x_test-0.parquet": table(["n1"], [0]),
    }
    code, text = fetched()
    assert code == 0, text
    _, rows = read_dataset("small-uni")
    assert {row.slide: (row.label, row.split) for row in rows} == {
        "test_000": ("normal", "test"),
        "train_000": ("normal", "train"),
        "train_001": ("tumour", "train"),
        "train_002": ("tumour", "train"),
    }
    assert (read_bag(study / "bags/small-uni/train_002.h5").features == features("t1")).all()
    hub.files["data/x_test-0.parquet"] = b"PAR1" + bytes(100)
    assert "data/x_test-0.parquet: not a Parquet file" in line_of(fetched("--force"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features_column", "message"),
    [
        ([[1.0, 2.0]], "holds list<element: double>, not a list of lists of numbers"),
        ([1], "holds int64, not a list of lists"),
        ([[[1.0, 2.0]], None], "a row without features"),
    ],
)
def test_a_table_of_another_kind_is_named(tmp_path, features_column, message):
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    labels = [1] * len(features_column)
    table = pyarrow.table({"features": features_column, "label": labels})
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(FormatError, match=message):
        list(rows_of(tmp_path / "t.parquet", 1, "t"))


def test_the_shipped_sets_are_listed():
    code, text = bags("sets")
    assert code == 0
    for name, entry in load_bag_sets().items():
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert entry.licence in line
        assert entry.encoder in line
