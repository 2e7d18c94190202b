"""URL in, file out."""

from pathlib import Path

from mil.fetch.checks import check_digest, parse_checksum
from mil.fetch.download import download
from mil.fetch.remote import remote_of
from mil.io.atomic import atomic_path


def run(url: str, out: Path, *, checksum: str = "", by_hand: Path | None = None) -> int:
    """Fetch one file; it appears once it is complete and its checksum is right.

    A download that was cut off goes on where it was. Without a checksum, the size is
    checked, and of files in S3 the ETag.

    Args:
        url: `https:`, `http:`, `s3:` (public buckets) or `file:`; or `demo:NAME`, which
            draws a slide or writes an annotation of the demo.
        out: File to write.
        checksum: Expected checksum, `sha256:HEX` or `md5:HEX`; empty: not checked.
        by_hand: Where a user may put the file, for messages; None: `out`.

    Returns:
        Size of the file, bytes.

    Raises:
        DatasetError: The URL cannot be fetched, or the file has another checksum.
    """
    place = by_hand or out
    algorithm, digest = parse_checksum(checksum, url)
    if url.partition(":")[0].lower() == "demo" and url.partition(":")[2]:
        return _draw(url, out, algorithm, digest)
    remote = remote_of(url, place, checked=bool(algorithm))
    return download(remote, out, place, algorithm=algorithm, digest=digest)


def _draw(url: str, out: Path, algorithm: str, digest: str) -> int:
    # Here, so that fetching from the network imports nothing of the demo.
    from mil.demo.stage import make

    with atomic_path(out) as scratch:
        make(url.partition(":")[2], scratch)
        if algorithm:
            check_digest(scratch, algorithm, digest, url)
        return scratch.stat().st_size
