"""A folder of precomputed bags."""

import numpy as np
import pytest

from mil.errors import DatasetError
from mil.io.bags import Bag, write_bag
from mil.io.bags.folder import describe_bags, kind_of_bags, slides_with_bags
from tests.messages import one_line
from tests.synthetic import bag_file


def imported(path, **known) -> None:
    features = np.ones((2, 4), np.float16)
    write_bag(
        path, Bag(slide=path.stem, features=features, coords=None, valid=np.ones(2, bool), **known)
    )


def test_only_bags_count(tmp_path):
    for name in ("b.h5", "a 1.h5", ".b.h5.0f.partial", ".hidden.h5", "notes.txt", "A.H5"):
        (tmp_path / name).touch()
    assert slides_with_bags(tmp_path) == ["a 1", "b"]


@pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
def test_no_folder_no_bags_one_line(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with one_line(DatasetError, match=f"bags: .*{name}"):
        slides_with_bags(tmp_path / name)


def test_a_bag_says_its_encoder_and_tiling(tmp_path):
    imported(tmp_path / "a.h5", encoder="uni.v2-x", tile_px=256, source="clam")
    header = kind_of_bags(tmp_path / "a.h5")
    assert (header.encoder, header.tiling) == ("uni.v2-x", "256px_unknownmpp")


@pytest.mark.parametrize(
    "encoder", ["", ".", "..", "../x", "a/b", "a b", "-x", "uni\n", "µ", "a" * 101]
)
def test_a_name_that_is_no_folders_is_refused(tmp_path, encoder):
    imported(tmp_path / "a.h5", encoder=encoder)
    with one_line(DatasetError, match="which cannot name a folder; import the bags again"):
        kind_of_bags(tmp_path / "a.h5")


def test_what_is_there_in_words(tmp_path):
    imported(tmp_path / "z.h5", encoder="uni", source="clam")
    bag_file(tmp_path / "a.h5", "a", np.ones((2, 4)))
    assert describe_bags(tmp_path, ["z"]) == (
        f"precomputed bags of uni, unknownpx_unknownmpp, imported from clam, in {tmp_path}; 1 bags "
        "there are of no slide in the table"
    )
    assert (
        describe_bags(tmp_path, ["q", "a", "z"])
        == f"precomputed bags of tiny, 224px_0.5mpp, in {tmp_path}"
    )
