"""URLs of a stranger's slide table."""

import pytest

from mil.errors import DatasetError
from mil.io.tables import Slide
from mil.io.tables.urls import check_urls
from tests.messages import one_line


@pytest.fixture
def folder(tmp_path):
    """A dataset's folder beside a file that is nobody's business."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "set"
    (folder / "slides").mkdir(parents=True)
    (folder / "slides/a.tif").touch()
    (folder / "link.tif").symlink_to(tmp_path / "secret.txt")
    return folder


def slide(**columns):
    return Slide(slide="a", patient="a", label="x", path="a.tif", annotation="a.xml", **columns)


@pytest.mark.parametrize("name", ["../secret.txt", "link.tif", "slides/../../secret.txt"])
@pytest.mark.parametrize("column", ["url", "annotation_url"])
def test_a_file_outside_the_datasets_folder_is_refused(folder, name, column):
    url = f"file://{folder}/{name}"
    with one_line(DatasetError, match=f"^slide a: {column} file:.*leads out of the dataset's"):
        check_urls([slide(**{column: url})], folder)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/%70asswd"])
def test_files_of_the_system_are_refused(folder, url):
    with one_line(DatasetError, match="set trust_urls: true"):
        check_urls([slide(url=url)], folder)


def test_a_file_of_the_dataset_may_be_fetched(folder):
    check_urls([slide(url=(folder / "slides/a.tif").as_uri())], folder)


@pytest.mark.parametrize(
    ("columns", "refused"),
    [
        ({"url": "http://host/a.tif"}, True),
        ({"annotation_url": "http://host/a.xml"}, True),
        ({"url": "http://host/a.tif", "checksum": "md5:" + "0" * 32}, False),
        ({"url": "https://host/a.tif"}, False),
        ({"url": "http://localhost:8000/a.tif"}, False),
        ({"url": "http://[::1]/a.tif"}, False),
        ({"url": "demo:slide_001"}, False),
        ({"url": "http://[broken/a.tif"}, False),  # refused by `fetch`
    ],
)
def test_http_needs_a_checksum(folder, columns, refused):
    if refused:
        with one_line(DatasetError, match="can be changed on its way; use https:"):
            check_urls([slide(**columns)], folder)
    else:
        check_urls([slide(**columns)], folder)


def test_a_question_mark_is_part_of_a_files_name(tmp_path):
    # As Python's client reads it, which leads out of the folder.
    url = f"{tmp_path.as_uri()}/a?/../../secret"
    with one_line(DatasetError):
        check_urls([slide(url=url)], tmp_path)
