"""Files of a public bucket: resumed, checked, and one line when they fail."""

import hashlib
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from urllib3.exceptions import SSLError

from mil.errors import DatasetError
from mil.fetch import download, s3
from mil.fetch.download import READ_BYTES
from mil.fetch.remote import CutError, remote_of
from mil.fetch.stage import run
from tests.fetch.s3 import Line, bucket_with, environment, line_to
from tests.messages import one_line

BUCKET = "camelyon-dataset"
URL = f"s3://{BUCKET}/CAMELYON16/images/a slide.tif"
CONTENT = bytes(range(251)) * 12000  # 3 MB
CHANGED = CONTENT[::-1]


@pytest.fixture(scope="module")
def line_of_all() -> Iterator[Line]:
    files = {"CAMELYON16/images/a slide.tif": CONTENT, "b": CHANGED}
    with bucket_with(BUCKET, files) as server, line_to(server) as (endpoint, line):
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            for name, value in environment(endpoint).items():
                patch.setenv(name, value)
            s3._client.cache_clear()
            yield line
        s3._client.cache_clear()


@pytest.fixture
def line(line_of_all, monkeypatch) -> Line:
    monkeypatch.setattr(download, "WAITS_S", (0.0, 0.0))
    line_of_all.forget()
    return line_of_all


def fails(url, out, **options) -> str:
    with one_line(DatasetError) as caught:
        run(url, out, **options)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.slow
def test_arrives_whole(line, tmp_path):
    out = tmp_path / "new" / "slide.tif"
    assert run(URL, out) == len(CONTENT)
    assert out.read_bytes() == CONTENT
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.slow
def test_goes_on_where_the_connection_was_cut(line, tmp_path):
    line.cuts += [1_000_000, 1_500_000]
    run(URL, tmp_path / "slide.tif")
    assert (tmp_path / "slide.tif").read_bytes() == CONTENT
    starts = [int(text.partition("bytes=")[2].rstrip("-") or 0) for text in line.requests]
    assert len(starts) == 3
    assert 1_000_000 - READ_BYTES < starts[1] <= 1_000_000
    assert 2_500_000 - 2 * READ_BYTES < starts[2] <= 2_500_000
    assert len(CONTENT) <= line.sent < len(CONTENT) + 2 * READ_BYTES


@pytest.mark.slow
def test_a_later_run_goes_on(line, tmp_path):
    out = tmp_path / "slide.tif"
    line.cuts += [2_000_000, 0, 0]
    message = fails(URL, out)
    assert "after 2 MB, with which the next run goes on" in message
    assert 2_000_000 - READ_BYTES < download.received_bytes(out) <= 2_000_000
    run(URL, out)
    assert out.read_bytes() == CONTENT
    assert len(CONTENT) <= line.sent < len(CONTENT) + READ_BYTES
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_nothing_is_added_to_the_beginning_of_another_file(line, tmp_path):
    out = tmp_path / "slide.tif"
    line.cuts += [2_000_000, 0, 0]
    fails(URL, out)
    # What has arrived is of another object.
    run(f"s3://{BUCKET}/b", out)
    assert out.read_bytes() == CHANGED


@pytest.mark.slow
def test_a_file_that_changed_in_the_bucket_comes_anew(line, tmp_path):
    out = tmp_path / "slide.tif"
    line.cuts += [2_000_000, 0, 0]
    fails(URL, out)
    note = next(tmp_path.glob(".fetch-*.json"))
    etag = hashlib.md5(CONTENT).hexdigest()
    note.write_text(note.read_text().replace(etag, "0" * 32))
    note.with_suffix("").write_bytes(CHANGED[:1_900_000])
    run(URL, out)
    assert out.read_bytes() == CONTENT


@pytest.mark.slow
def test_damage_on_the_way_shows_in_the_etag(line, tmp_path):
    out = tmp_path / "slide.tif"
    line.cuts += [2_000_000, 0, 0]
    fails(URL, out)
    partial = next(file for file in tmp_path.glob(".fetch-*") if not file.suffix)
    partial.write_bytes(bytes(2_000_000))
    message = fails(URL, out)
    assert f"its ETag is {hashlib.md5(CONTENT).hexdigest()}" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_checksum_of_the_table_counts_instead(line, tmp_path):
    out = tmp_path / "slide.tif"
    assert "not " + "0" * 64 in fails(URL, out, checksum=f"sha256:{'0' * 64}")
    assert list(tmp_path.iterdir()) == []
    assert run(URL, out, checksum=f"md5:{hashlib.md5(CONTENT).hexdigest()}") == len(CONTENT)


@pytest.mark.slow
def test_a_file_that_the_bucket_lacks(line, tmp_path):
    message = fails(f"s3://{BUCKET}/CAMELYON16/images/none.tif", tmp_path / "none.tif")
    assert "none.tif: the bucket answered 404 NoSuchKey; check the url" in message
    assert len(line.requests) == 1  # asked for once
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_network(monkeypatch, tmp_path):
    # Port 9 (discard): nothing listens there.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(download, "WAITS_S", (0.0,))
    s3._client.cache_clear()
    message = fails(URL, tmp_path / "slide.tif")
    # It may come back, and `announce` asks for no other file.
    with pytest.raises(CutError):
        remote_of(URL, tmp_path).facts()
    s3._client.cache_clear()
    assert "Could not connect" in message
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_that_is_no_url(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "store")
    s3._client.cache_clear()
    assert "Invalid endpoint: store" in fails(URL, tmp_path / "slide.tif")
    s3._client.cache_clear()


def test_a_fault_of_the_line_in_the_midst_of_a_file(monkeypatch, tmp_path):
    def read(count):
        raise SSLError("bad record mac")

    body = SimpleNamespace(read=read, close=lambda: None)
    monkeypatch.setattr(s3.S3File, "_ask", lambda *args, **options: {"Body": body})
    with remote_of(URL, tmp_path).open(0, "") as response, pytest.raises(CutError, match="mac"):
        response.read(1)


@pytest.mark.parametrize(
    "url",
    ["s3://bucket", "s3:bucket/a.tif", "s3://b/a.tif", "s3://arn:aws:s3:::b/a", "s3://a@b:1/c"],
)
def test_malformed(url, tmp_path):
    assert "s3://BUCKET/KEY" in fails(url, tmp_path / "a.tif")


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, 150_000])
def test_etag_of_parts(tmp_path, size):
    from mil.fetch.checks import check_etag

    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    part = 1 << 16
    parts = [content[start : start + part] for start in range(0, size, part)] or [b""]
    digests = b"".join(hashlib.md5(text).digest() for text in parts)
    etag = f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"

    class InParts:
        url = "s3://bucket/a"

        def part_bytes(self) -> int:
            return part

    check_etag(tmp_path / "a", etag, InParts())
    (tmp_path / "a").write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if size else b"?")
    with pytest.raises(DatasetError, match="ETag"):
        check_etag(tmp_path / "a", etag, InParts())


@pytest.mark.slow
def test_the_size_of_parts_is_asked_for(line, tmp_path):
    assert remote_of(URL, tmp_path / "a").part_bytes() == len(CONTENT)
