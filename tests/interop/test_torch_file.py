"""Files of torch.save by other programs and versions: tensors of all kinds, NumPy 1 and 2."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from mil.errors import FormatError
from mil.interop.header import HeaderFields
from mil.interop.import_bags import run
from mil.interop.pixel_size import PixelSizeOptions
from mil.interop.torch_file import read_pt

VALUES = np.arange(40, dtype=np.float32).reshape(8, 5) / 8


def saved(tmp_path, value, name="a.pt", **options):
    torch.save(value, tmp_path / name, **options)
    return tmp_path / name


def rewritten(path, change):
    """The same archive with another pickle."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return path


def by_numpy_1(path):
    return rewritten(path, lambda data: data.replace(b"numpy._core.", b"numpy.core."))


def by_numpy_2(path):
    return rewritten(path, lambda data: data.replace(b"numpy.core.", b"numpy._core."))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.from_numpy(VALUES).requires_grad_(),
        torch.nn.Parameter(torch.from_numpy(VALUES)),
        torch.from_numpy(VALUES).bfloat16(),
        torch.from_numpy(VALUES).half(),
        torch.from_numpy(VALUES).double(),
        torch.from_numpy(VALUES).to(torch.float8_e5m2).to(torch.bfloat16),
        torch.from_numpy(np.ascontiguousarray(VALUES.T)).T,
        torch.from_numpy(np.repeat(VALUES, 2, axis=0))[::2],
        torch.complex(torch.zeros(8, 5), torch.from_numpy(-VALUES)).conj().imag,
    ],
    ids=["grad", "parameter", "bf16", "fp16", "fp64", "fp8", "transposed", "strided", "negated"],
)
def test_plain_numbers_of_any_tensor_are_read(tmp_path, tensor):
    path = saved(tmp_path, tensor)
    expected = tensor.detach().float().resolve_neg().numpy()
    np.testing.assert_array_equal(read_pt(path), expected)


def test_the_oldest_format_of_torch(tmp_path):
    tensor = torch.from_numpy(VALUES).requires_grad_()
    path = saved(tmp_path, tensor, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_pt(path), VALUES)


def test_fp8_becomes_float32(tmp_path):
    small = torch.tensor([[0.5, -2.0], [1.0, 4.0]])
    features = read_pt(saved(tmp_path, small.to(torch.float8_e4m3fn)))
    np.testing.assert_array_equal(features, small.numpy())
    assert features.dtype == np.float32


@pytest.mark.parametrize("version", [by_numpy_1, by_numpy_2])
@pytest.mark.parametrize("dtype", ["float16", ">f4"])
def test_arrays_of_both_numpy_versions(tmp_path, version, dtype):
    path = version(saved(tmp_path, VALUES.astype(dtype)))
    np.testing.assert_array_equal(read_pt(path), VALUES)


@pytest.mark.parametrize("version", [by_numpy_1, by_numpy_2])
@pytest.mark.parametrize(
    ("value", "line"),
    [
        (np.float32(0.5), "holds a float32, not one tensor"),
        ({"features": VALUES, "mpp": np.float64(0.25)}, "holds a dict of features, mpp, not one"),
        (VALUES.astype(np.int64), "no floating-point numbers"),
        (VALUES > 1, "no floating-point numbers"),
        (np.ones((2, 2), complex), "no floating-point numbers"),
        (np.array(["a"], object), "not a file saved by torch"),
    ],
    ids=["number", "dict with a number", "integers", "bools", "complex", "objects"],
)
def test_other_things_of_numpy_are_named(tmp_path, version, value, line):
    with pytest.raises(FormatError, match=line):
        read_pt(version(saved(tmp_path, value)))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (torch.eye(4).to_sparse(), "holds a sparse tensor"),
        (torch.empty(4, 4, device="meta"), "holds a meta"),
        (torch.ones(4, 4, dtype=torch.complex64), "no floating-point numbers"),
        (torch.ones(4, 4, dtype=torch.bool), "no floating-point numbers"),
        (torch.ones(1, 4, 4), "features of shape"),
        (torch.tensor(1.0), "features of shape"),
        ([torch.ones(2, 2)], "holds a list of 1, not one tensor"),
        ((torch.ones(2, 2), "x"), "holds a tuple of 2, not one tensor"),
        (torch.zeros(1).expand(1 << 18, 1024), "claims 1074 MB, more than the file has"),
    ],
    ids=["sparse", "meta", "complex", "bool", "3-d", "0-d", "list", "tuple", "expanded"],
)
def test_tensors_that_are_no_features_are_named(tmp_path, value, line):
    with pytest.raises(FormatError, match=line) as error:
        read_pt(saved(tmp_path, value))
    assert "\n" not in str(error.value)


def test_an_empty_tensor_is_a_slide_without_tiles(tmp_path):
    assert read_pt(saved(tmp_path, torch.zeros(0, 5))).shape == (0, 5)


def test_a_pickle_that_asks_for_memory_gets_none(tmp_path):
    class Bomb:
        def __reduce__(self):
            return bytearray, (1 << 34,)

    with pytest.raises(FormatError, match="memory that it asks for is over the limit"):
        read_pt(saved(tmp_path, Bomb()))


def test_an_array_whose_numbers_are_not_there_has_none(tmp_path):
    path = saved(tmp_path, VALUES)
    # The shape that `_reconstruct` is asked for, without the state that would fill it.
    pickled = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
        b"M\xff\xffK\x08\x86X\x02\x00\x00\x00f4tR."
    )
    rewritten(path, lambda _: pickled)
    with pytest.raises(FormatError, match=r"a\.pt: "):
        read_pt(path)


def test_reasons_are_whole_and_do_not_advise_to_trust_the_file(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(VALUES.tolist(), protocol=4))
    with pytest.raises(FormatError) as error:
        read_pt(path)
    line = str(error.value)
    assert line.endswith(")")
    assert "weights_only" not in line


def test_one_bad_file_is_named_and_the_others_are_imported(tmp_path):
    folder = tmp_path / "pt_files"
    folder.mkdir()
    saved(folder, torch.from_numpy(VALUES).requires_grad_(), "a.pt")
    saved(folder, torch.eye(5).to_sparse(), "b.pt")
    by_numpy_1(saved(folder, VALUES, "c.pt"))
    result = run(
        folder,
        tmp_path / "bags",
        tool=None,
        stated=HeaderFields(encoder="tiny"),
        dtype="float16",
        sizes=PixelSizeOptions(),
        patches=None,
        dataset=None,
        force=False,
    )
    assert sorted(result.labels) == ["a", "c"]
    assert [str(fault).split(": ")[0] for fault in result.faults] == [str(folder / "b.pt")]
